"""`ecliptic info`: the settings of a model, and how they were decided."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import IdentityFlags, Json, ModelArgument, expands
from ecliptic.cli.output import print_choices, print_facts, print_json, print_text
from ecliptic.cli.wording import name_flags

if TYPE_CHECKING:
    from ecliptic.engine import DataSource, ModelReport


@expands
def info(
    *,
    model: ModelArgument,
    identity: IdentityFlags,
    fingerprint: Annotated[
        bool, typer.Option("--fingerprint", help="Also hash the weights, which reads all of them.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the card of MODEL: its settings, and notes on reading it.

    The card lists the sizes, the activation, and how images and texts are prepared. The lines
    below it say how the model runs on this machine, and why. For the built-in mini, it also says
    what it was trained on and how right it is.
    """
    from ecliptic.engine import report_mini

    clip = identity.load(model, device="cpu")
    report = report_mini() if model == "mini" else None
    card, choices = clip.card, clip.runtime.describe()
    facts = card.to_dict()
    if fingerprint:
        facts |= {"space": card.space, "exact": card.exact}
    if json:
        facts |= {"runtime": [dataclasses.asdict(choice) for choice in choices]}
        print_json(facts | ({"report": dataclasses.asdict(report)} if report else {}))
    else:
        notes = facts.pop("notes")
        print_facts(dict(_flatten(facts)) | {"notes": name_flags("; ".join(notes)) or "none"})
        print_text("\nHow it runs:", lines=True)
        print_choices(choices)
        if report is not None:
            _print_report(report)


def _print_report(report: "ModelReport") -> None:
    """Print what a model was trained on, and how right it is."""
    print_text("\nWhat it knows:", lines=True)
    speeds = ", ".join(f"{rate:,.0f} {what}" for what, rate in report.speeds.items())
    facts = {"knows": report.knows}
    facts |= _number("trained on", [_describe(source) for source in report.data])
    facts |= _number("never shown", report.never_shown)
    facts |= _number("limits", report.limits)
    facts["a second"] = f"{speeds} ({report.threads} threads, {report.machine})"
    print_facts(facts)
    print_text("\nHow right it is (recall, with 95 % intervals by concept):", lines=True)
    print_facts(
        {
            one.what: f"{one.value:.3f} ({one.low:.2f} to {one.high:.2f}) of {one.count:,}"
            for one in report.measures
        }
    )
    print_text(f"\n{report.page} says how each was measured, and shows answers.", lines=True)


def _describe(source: "DataSource") -> str:
    pictures = f", {source.pictures:,} pictures" if source.pictures else ""
    return f"{source.what}{pictures} ({source.licence})"


def _number(name: str, values: Sequence[str]) -> dict[str, str]:
    """A row for each value."""
    return {f"{name} {place}": value for place, value in enumerate(values, start=1)}


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            shown = "none" if value is None else value
            yield prefix + name, f"{value:,}" if name == "parameters" else shown
