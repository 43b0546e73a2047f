"""Answers from vectors, one file per task on top of `Clip`: scores, classes, moderation, taste.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.tasks.aesthetic.head import AestheticHead as AestheticHead
    from ecliptic.tasks.aesthetic.rated import (
        RatingTable as RatingTable,
        read_ratings as read_ratings,
    )
    from ecliptic.tasks.aesthetic.training import (
        ChoiceReport as ChoiceReport,
        HeadFit as HeadFit,
        RatingReport as RatingReport,
        train_on_choices as train_on_choices,
        train_on_ratings as train_on_ratings,
    )

__getattr__, __dir__ = lazy_names(__name__)
