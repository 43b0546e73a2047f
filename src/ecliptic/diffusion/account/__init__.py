"""What became of the prompts of one call: as data, as text and as one page."""
