"""Files that hold many items: tars and tables."""
