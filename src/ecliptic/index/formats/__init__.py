"""Vectors of other tools as rows, and rows as files of other tools."""
