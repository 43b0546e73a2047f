"""Caches of conditionings: in a folder, in memory, or in the files of kohya's trainers."""
