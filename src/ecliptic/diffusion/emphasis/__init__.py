"""Applies the weights of a prompt to its vectors, and blends prompts as compel does."""
