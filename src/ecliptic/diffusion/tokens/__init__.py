"""From a line of a prompt to chunks of token ids, and the ledger of which token went where."""
