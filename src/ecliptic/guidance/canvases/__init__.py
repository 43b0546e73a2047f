"""Canvases: what is changed, step by step, until a loss of its picture is small."""
