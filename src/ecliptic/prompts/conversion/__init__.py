"""A prompt written in another dialect, and what is lost."""
