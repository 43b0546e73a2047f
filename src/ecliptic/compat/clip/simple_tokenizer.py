"""`SimpleTokenizer` where scripts import it from."""

from ecliptic.compat.simple_tokenizer import SimpleTokenizer

__all__ = ["SimpleTokenizer"]
