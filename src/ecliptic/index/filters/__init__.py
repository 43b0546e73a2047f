"""Filters on the columns of a store: a small syntax tree, and what is made of it."""
