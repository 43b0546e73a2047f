"""Exact rewrites of the towers for inference."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.runtime.towers import (
        encode_image as encode_image,
        encode_text as encode_text,
        image_sequence as image_sequence,
        text_outputs as text_outputs,
    )

__getattr__, __dir__ = lazy_names(__name__)
