"""Pictures become pixels, texts become tokens; knows no weights."""

from ecliptic.inputs.specs import ImageSpec, TokenizerSpec

__all__ = ["ImageSpec", "TokenizerSpec"]
