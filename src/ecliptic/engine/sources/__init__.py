"""Files, folders, globs, tables and standard input, read lazily into items."""
