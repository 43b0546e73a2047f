"""Reports to read in a browser: one HTML file each, nothing loaded from elsewhere.

Names are imported when first used, so that commands can ask for help without torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.report.demonstration import demo
    from ecliptic.report.results import DemoResult, Guess, Hit, Search

__all__ = ["DemoResult", "Guess", "Hit", "Search", "demo"]

_HOMES = {
    "DemoResult": "results",
    "Guess": "results",
    "Hit": "results",
    "Search": "results",
    "demo": "demonstration",
}


__getattr__ = arriving_later(__name__, _HOMES)
