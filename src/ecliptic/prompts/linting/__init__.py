"""Findings about prompts: one linter for captions and every dialect."""
