"""Images of scores, drawn with Pillow alone; this part uses no model and imports no torch."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.plots.colours import (
        SEQUENTIAL as SEQUENTIAL,
        colour_at as colour_at,
        ink_on as ink_on,
    )
    from ecliptic.plots.matrix import (
        MatrixStyle as MatrixStyle,
        similarity_matrix as similarity_matrix,
    )

__getattr__, __dir__ = lazy_names(__name__)
