"""Pictures become pixels, texts become tokens; knows no weights.

Names other than the two specs are imported when first used, so that reading a spec stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecliptic.inputs.specs import ImageSpec, TokenizerSpec

if TYPE_CHECKING:
    from ecliptic.inputs.decode import ImageLimits, ImageSource, open_image, read_bytes
    from ecliptic.inputs.image import Preprocess, PreprocessMode
    from ecliptic.inputs.pool import Reject, decode_many
    from ecliptic.inputs.tokenizer import Overflow, TokenBatch, Tokenizer, TruncationWarning

__all__ = [
    "ImageLimits",
    "ImageSource",
    "ImageSpec",
    "Overflow",
    "Preprocess",
    "PreprocessMode",
    "Reject",
    "TokenBatch",
    "Tokenizer",
    "TokenizerSpec",
    "TruncationWarning",
    "decode_many",
    "open_image",
    "read_bytes",
]

_HOMES = {
    "ImageLimits": "decode",
    "ImageSource": "decode",
    "Preprocess": "image",
    "PreprocessMode": "image",
    "Reject": "pool",
    "decode_many": "pool",
    "open_image": "decode",
    "read_bytes": "decode",
    "Overflow": "tokenizer",
    "TokenBatch": "tokenizer",
    "Tokenizer": "tokenizer",
    "TruncationWarning": "tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
