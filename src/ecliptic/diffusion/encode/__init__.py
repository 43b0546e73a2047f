"""One call of a conditioner: schedules prompts, encodes them and makes them equally long."""
