"""Answers from vectors, one file per task on top of `Clip`: scores, classes, moderation, taste.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    pass

__getattr__, __dir__ = lazy_names(__name__)
