"""From files to rows: planned, read once, embedded, stored; and what became of them later."""
