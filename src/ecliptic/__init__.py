"""ecliptic: CLIP models, which encode images and texts as comparable vectors.

`load` a CLIP, `encode_text`, `encode_image`, compare. Importing this module imports no torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.drawing import draw as draw
    from ecliptic.engine import (
        Card as Card,
        Clip as Clip,
        Encoded as Encoded,
        Vectors as Vectors,
        load as load,
        load_vectors as load_vectors,
        save_vectors as save_vectors,
    )
    from ecliptic.errors import EclipticError as EclipticError
    from ecliptic.inputs import ImageSpec as ImageSpec, TokenizerSpec as TokenizerSpec
    from ecliptic.library import Library as Library

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(__name__)
