"""The prompt compiler: text of any dialect -> one syntax tree -> readings, or another dialect."""
