"""Servers as stores: which rows does PostgreSQL or Qdrant keep for us, and are its answers exact?

`postgres.py` and `qdrant.py` have the stores; what belongs to one of them begins with its name.
"""
