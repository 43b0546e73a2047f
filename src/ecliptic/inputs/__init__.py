"""Pictures become pixels, texts become tokens; knows no weights.

Names other than the two specs are imported when first used, so that reading a spec stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecliptic.inputs.specs import ImageSpec, TokenizerSpec

if TYPE_CHECKING:
    from ecliptic.inputs.tokenizer import Overflow, TokenBatch, Tokenizer, TruncationWarning

__all__ = [
    "ImageSpec",
    "Overflow",
    "TokenBatch",
    "Tokenizer",
    "TokenizerSpec",
    "TruncationWarning",
]

_HOMES = {
    "Overflow": "tokenizer",
    "TokenBatch": "tokenizer",
    "Tokenizer": "tokenizer",
    "TruncationWarning": "tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
