"""`ecliptic info`: the settings of a model, and how they were decided."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ecliptic.cli.flags import IdentityFlags, Json, ModelArgument, expands
from ecliptic.cli.output import print_facts, print_json, print_text
from ecliptic.cli.wording import name_flags


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
    below it say how the model runs on this machine, and why.
    """
    clip = identity.load(model, device="cpu")
    card, choices = clip.card, clip.runtime.describe()
    facts = card.to_dict()
    if fingerprint:
        facts |= {"space": card.space, "exact": card.exact}
    if json:
        print_json(facts | {"runtime": [dataclasses.asdict(choice) for choice in choices]})
    else:
        notes = facts.pop("notes")
        print_facts(dict(_flatten(facts)) | {"notes": name_flags("; ".join(notes)) or "none"})
        print_text("\nHow it runs:", lines=True)
        print_facts({choice.what: f"{choice.chosen} ({choice.why})" for choice in choices})


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            shown = "none" if value is None else value
            yield prefix + name, f"{value:,}" if name == "parameters" else shown
