"""Reads and writes the layouts in which projects name and store a model, one file for each."""
