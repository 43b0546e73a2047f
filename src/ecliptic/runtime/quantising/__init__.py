"""Finds the int8 layers of a model: what goes through it, which steps fit, which layers suffer."""
