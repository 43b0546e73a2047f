"""The last parts of the demo's page: rejected images, the model, the times, and how to try it."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ecliptic.markup import Html, join, tag
from ecliptic.report.showcase.results import DemoResult, Timing

ABOUT = (
    "ecliptic is a toolkit for CLIP models in Python. It loads checkpoints of every common layout, "
    "computes the same numbers as the reference implementations, and uses them for search, "
    "classification and comparison, in code and at the command line."
)
INSTALL = """\
pip install -c constraints.txt .
ecliptic demo
ecliptic demo --images photos/ --model {model}"""


def facts(result: DemoResult) -> Html:
    """The sections with the card, the fingerprints and the timings."""
    card = tag(
        "section",
        tag("h2", "Settings of the model"),
        tag("p", "They come from the checkpoint and the catalog, and decide its vectors."),
        tag("p", tag("code", "clip.card"), class_="code"),
        _table(_card_rows(result)),
        (tag("p", f"Note: {note}.") for note in result.card["notes"]),
    )
    times = tag(
        "section",
        tag("h2", "Time of each step"),
        tag("p", result.machine),
        _table(map(_timing_row, result.timings), numbers=True),
    )
    return join([card, times, _try_it(result)])


def list_rejects(result: DemoResult) -> Html:
    """The section with the images that could not be used; nothing if there are none."""
    rejects = result.scope.rejects
    if not rejects:
        return join([])
    what = "1 image could" if len(rejects) == 1 else f"{len(rejects):,} images could"
    return tag(
        "section",
        tag("h2", f"{what} not be used"),
        tag("ul", (tag("li", tag("b", r.source), f": {r.reason}") for r in rejects)),
        id="rejects",
        class_="rejects",
    )


def _try_it(result: DemoResult) -> Html:
    """What wrote this page, and the lines that write one like it."""
    model = "ViT-B-32/openai" if result.embedded else str(result.card["name"])
    return tag(
        "section",
        tag("h2", "Try it"),
        tag("p", ABOUT),
        tag("p", "In a checkout of ecliptic, with Python 3.11 or newer:"),
        tag("pre", tag("code", INSTALL.format(model=shlex.quote(model)))),
        id="try-it",
        class_="try",
    )


def _card_rows(result: DemoResult) -> Iterable[tuple[str, str | Html]]:
    card = result.card
    config, image_spec, tokenizer = card["config"], card["image_spec"], card["tokenizer_spec"]
    yield "name", str(card["name"])
    yield "parameters", f"{card['parameters'] / 1e6:.1f} million"
    yield "vectors", f"{card['embed']} numbers, unit length"
    yield "image tower", _sizes(config["image"])
    yield "text tower", _sizes(config["text"])
    yield "image preparation", _sizes(image_spec)
    yield "tokenizer", _sizes(tokenizer)
    yield "computed in", f"{card['precision']} on {card['device']}"
    yield "space", join([tag("code", result.space), " same value: vectors can be compared"])
    yield "exact", join([tag("code", result.exact), " same value: equal vectors, up to rounding"])


def _sizes(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _timing_row(timing: Timing) -> tuple[str, str]:
    rate = f", {timing.items / timing.seconds:,.0f} a second" if timing.items else ""
    return timing.step, f"{timing.seconds * 1000:,.0f} ms{rate}"


def _table(rows: Iterable[tuple[str, str | Html]], *, numbers: bool = False) -> Html:
    return tag(
        "table",
        (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows),
        class_="numbers" if numbers else "",
    )
