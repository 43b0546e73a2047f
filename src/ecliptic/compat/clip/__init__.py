"""openai/CLIP's package: use `from ecliptic.compat import clip` instead of `import clip`."""

from ecliptic.compat.clip import clip, model, simple_tokenizer
from ecliptic.compat.clip.clip import (
    _MODELS,
    _download,
    _transform,
    available_models,
    load,
    tokenize,
)
from ecliptic.compat.clip.model import build_model

__all__ = [
    "_MODELS",
    "_download",
    "_transform",
    "available_models",
    "build_model",
    "clip",
    "load",
    "model",
    "simple_tokenizer",
    "tokenize",
]
