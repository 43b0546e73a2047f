"""The int8 map of a store: small codes that tell which rows may be the nearest."""
