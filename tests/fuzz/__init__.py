"""Long runs of hostile input, opt-in: `make fuzz`, or `pytest -m fuzz` with MINUTES and SEED."""
