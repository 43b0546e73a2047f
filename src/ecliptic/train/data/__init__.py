"""Training data: sources, their mixture, and batches prepared ahead."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train.data.examples import (
        Example as Example,
        Examples as Examples,
        Picture as Picture,
    )

__getattr__, __dir__ = lazy_names(__name__)
