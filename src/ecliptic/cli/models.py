"""`ecliptic models`: the catalog as a table."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import Json
from ecliptic.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ecliptic.checkpoints import Row


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Show only models whose row contains every WORD."),
    ] = None,
    json: Json = False,
) -> None:
    """List the released models that load by name, ARCH/TAG."""
    from ecliptic.checkpoints import catalog

    rows = [_facts(catalog.find(name)) for name in catalog.names()]
    for word in words or ():
        rows = [row for row in rows if word.lower() in " ".join(map(str, row.values())).lower()]
    if json:
        print_json(rows)
        return
    columns = ("name", "parameters ", "activation", "image size ", "resize", "source")
    for row in rows:
        row["parameters"] = f"{row['parameters'] / 1e6:.0f} M"
    print_table(columns, [tuple(row.values()) for row in rows])
    say(f"{len(rows)} models, and mini, which is built in")


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
