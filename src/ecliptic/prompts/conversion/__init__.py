"""Converts prompts to another dialect, and lists the differences."""
