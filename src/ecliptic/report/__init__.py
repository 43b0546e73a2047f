"""Reports for a browser: each is one HTML file that loads nothing from elsewhere.

Names are imported when first used, so that the help of commands needs no torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.report.best_of import write_best_of as write_best_of
    from ecliptic.report.canvas_pages import (
        edit_page as edit_page,
        sketch_page as sketch_page,
    )
    from ecliptic.report.classification import classification_page as classification_page
    from ecliptic.report.found import (
        duplicates_page as duplicates_page,
        search_page as search_page,
    )
    from ecliptic.report.questions import Picture as Picture
    from ecliptic.report.review import review_page as review_page
    from ecliptic.report.showcase.demonstration import demo as demo
    from ecliptic.report.showcase.results import (
        Answers as Answers,
        DemoResult as DemoResult,
        Guess as Guess,
        Hit as Hit,
        Matrix as Matrix,
        Scope as Scope,
        Search as Search,
    )
    from ecliptic.report.showcase.sampling import LIMIT as LIMIT

__getattr__, __dir__ = lazy_names(__name__)
