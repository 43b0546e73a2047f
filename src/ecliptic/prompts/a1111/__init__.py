"""AUTOMATIC1111's prompts: AND, schedules and weights."""
