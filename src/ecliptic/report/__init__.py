"""Reports to read in a browser: one HTML file each, nothing loaded from elsewhere.

Names are imported when first used, so that commands can ask for help without torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.report.demonstration import demo as demo
    from ecliptic.report.results import (
        DemoResult as DemoResult,
        Guess as Guess,
        Hit as Hit,
        Search as Search,
    )

__getattr__, __dir__ = lazy_names(__name__)
