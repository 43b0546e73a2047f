"""Conditionings that are computed once: kept in a folder, in memory, or in kohya's files."""
