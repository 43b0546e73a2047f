"""One call of a conditioner: its prompts in time, through every encoder, to equal lengths."""
