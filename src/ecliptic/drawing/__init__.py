"""The embedded drawing model: its data, its training, and drawings from words and pictures."""
