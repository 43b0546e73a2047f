"""`ecliptic info`: what a model is, and how that was decided."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ecliptic.cli.flags import IdentityFlags, Json, ModelArgument, expands
from ecliptic.cli.output import print_facts, print_json


@expands
def info(
    *,
    model: ModelArgument,
    identity: IdentityFlags,
    fingerprint: Annotated[
        bool, typer.Option("--fingerprint", help="Hash the weights too; reads all of them.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the card of MODEL and what was decided on reading it.

    The card holds the sizes, the activation, and how images and texts are prepared. Below it
    stands how the model is run on this machine, and why.
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
        print_facts(dict(_flat(facts)) | {"notes": "; ".join(notes) or "none"})
        print("\nHow it runs:")
        print_facts({choice.what: f"{choice.chosen} ({choice.why})" for choice in choices})


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, f"{value:,}" if name == "parameters" else value
