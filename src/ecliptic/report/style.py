"""The style that all pages share."""

from pathlib import Path

_STYLE = Path(__file__).with_name("page.css")


def read_style() -> str:
    """The CSS of the reports: both palettes, cards and tables."""
    return _STYLE.read_text(encoding="utf-8")
