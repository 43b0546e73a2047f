"""Reports to read in a browser: one HTML file each, nothing loaded from elsewhere.

Names are imported when first used, so that commands can ask for help without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
