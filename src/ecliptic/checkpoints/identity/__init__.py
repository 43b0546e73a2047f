"""Finds sizes, heads, activation and specs of a checkpoint, and checks the weights."""
