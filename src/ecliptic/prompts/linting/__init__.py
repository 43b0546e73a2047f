"""Lints captions and prompts of every dialect."""
