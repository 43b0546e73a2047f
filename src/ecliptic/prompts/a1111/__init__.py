"""The prompts of AUTOMATIC1111: AND, schedules and weights."""
