"""The last parts of the demo's page: the settings of the model, and the time of each step."""

from collections.abc import Iterable, Mapping
from typing import Any

from ecliptic.report.markup import Html, join, tag
from ecliptic.report.results import DemoResult, Timing


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
    return join([card, times])


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
