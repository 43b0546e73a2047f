"""The prompts of compel: weights behind words, .blend, .and, .swap."""
