"""openai/CLIP's package: use `from ecliptic.compat import clip` instead of `import clip`."""

from ecliptic.compat.clip import simple_tokenizer
from ecliptic.compat.clip.clip import available_models, load, tokenize

__all__ = ["available_models", "load", "simple_tokenizer", "tokenize"]
