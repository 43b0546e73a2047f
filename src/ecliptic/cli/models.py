"""`ecliptic models`: the catalog as a table."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import Json
from ecliptic.cli.output import count, print_json, print_text, say
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from ecliptic.checkpoints import Row


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Show only models whose line has every WORD."),
    ] = None,
    json: Json = False,
) -> None:
    """List the released models that load by name, ARCH/TAG."""
    from ecliptic.checkpoints import catalog

    rows = [_facts(catalog.find(name)) for name in catalog.names()]
    for word in words or ():
        rows = [row for row in rows if word.lower() in f"{row['name']} {row['activation']}".lower()]
    rows = rows or _find(words or ())
    if json:
        print_json(rows)
        return
    _print(rows)
    say(f"{count(len(rows), 'model')}, and mini, which is built in")


def _print(rows: list[dict[str, Any]]) -> None:
    """Print one line per model, below a line for its architecture."""
    groups = groupby(rows, key=lambda row: row["name"].partition("/")[0])
    for number, (architecture, some) in enumerate(groups):
        group = list(some)
        width = max(len(row["name"]) for row in group)
        size = f"{group[0]['parameters'] / 1e6:.0f} M parameters"
        if number:
            print_text("")
        print_text(f"{architecture}: {size}, {group[0]['image_size']} pixels")
        for row in group:
            resize = f", {row['resize']}" * (row["resize"] != "shortest")
            print_text(f"{row['name']:<{width}}  {row['activation']}{resize}")


def _find(words: Sequence[str]) -> list[dict[str, Any]]:
    """The model that one word names in another spelling; otherwise an error that says what is near.

    Raises:
        UnknownModelError: no model is called so.
        InputError: no model has all of the words.
    """
    from ecliptic.checkpoints import catalog

    if len(words) != 1:
        raise InputError(f"no model has all of the words {' '.join(words)}; leave one out.")
    return [_facts(catalog.find(words[0]))]


def _facts(row: "Row") -> dict[str, Any]:
    from ecliptic.cli.model_sizes import parameters

    return {
        "name": row.name,
        "parameters": parameters(row.config),
        "activation": row.activation,
        "image_size": row.image_spec.size,
        "resize": row.image_spec.resize,
        "source": f"hf:{row.hub}",
    }
