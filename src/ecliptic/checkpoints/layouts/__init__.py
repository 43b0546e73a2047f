"""One file per layout: how other projects name and store a model, read and written."""
