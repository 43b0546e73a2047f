"""Turns a line of a prompt into chunks of token ids, with a ledger of all tokens."""
