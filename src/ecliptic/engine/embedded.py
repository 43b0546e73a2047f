"""What the embedded default was trained on, and how right it is."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ecliptic.engine.loading import MINI
from ecliptic.storage import parse_json, read_text


@dataclass(frozen=True)
class DataSource:
    """What it was trained on; words alone have no pictures."""

    what: str
    pictures: int
    licence: str


@dataclass(frozen=True)
class Measure:
    """A share of right answers, with its 95 % interval by concept, and of how many."""

    what: str
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class ModelReport:
    """The parts of the card of `mini` that its weights do not tell; docs/mini.md has all of it."""

    knows: str
    never_shown: tuple[str, ...]
    limits: tuple[str, ...]
    data: tuple[DataSource, ...]
    speeds: Mapping[str, float]  # images or captions a second
    machine: str  # of the speeds
    threads: int
    measures: tuple[Measure, ...]
    page: str  # of the docs


@cache
def report_mini() -> ModelReport:
    """Data, licences, measures and limits of the embedded default."""
    about = tomllib.loads(read_text(MINI / "about.toml"))
    measured = parse_json(read_text(MINI / "measures.json"), "measures.json")
    return ModelReport(
        knows=about["knows"],
        never_shown=tuple(about["never_shown"]),
        limits=tuple(about["limits"]),
        data=tuple(DataSource(**source) for source in about["data"]),
        speeds=measured["speeds"],
        machine=measured["machine"],
        threads=measured["threads"],
        measures=tuple(
            Measure(what, *measured["shares"][key]) for key, what in about["measures"].items()
        ),
        page=about["page"],
    )
