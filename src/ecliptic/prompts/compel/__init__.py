"""compel's prompts: weights after words, .blend, .and and .swap."""
