"""`SimpleTokenizer` at the path from which scripts import it."""

from ecliptic.compat.simple_tokenizer import SimpleTokenizer

__all__ = ["SimpleTokenizer"]
