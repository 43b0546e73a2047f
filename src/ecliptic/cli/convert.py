"""`ecliptic convert`: write a checkpoint in another layout."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ecliptic.cli.flags import Force, IdentityFlags, Json, ModelArgument, expands
from ecliptic.cli.output import count, print_json, say
from ecliptic.cli.wording import name_flags


@expands
def convert(
    *,
    source: ModelArgument,
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write; for the layout openai, a file.")
    ],
    layout: Annotated[
        Literal["ecliptic", "openai", "open_clip", "transformers"],
        typer.Option("--layout", "-l", help="Project whose names and files to write."),
    ] = "ecliptic",
    identity: IdentityFlags,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write MODEL to OUT in another layout, with identical tensors.

    If the layout cannot hold the model, nothing is written and the error says why.
    """
    from ecliptic.checkpoints import write
    from ecliptic.storage import check_folder, refuse_inputs

    refuse_inputs([target], [source])
    check_folder(next(p for p in (target, *target.parents) if p.is_dir()), make=False)
    checkpoint = identity.checkpoint(source)
    lost = write(checkpoint, target, layout, overwrite=force)
    if json:
        summary = {"from": checkpoint.layout, "to": layout, "out": str(target)}
        print_json(
            summary | {"tensors": len(checkpoint.weights), "notes": [*checkpoint.notes, *lost]}
        )
        return
    for note in (*checkpoint.notes, *lost):
        say(f"note: {name_flags(note)}")
    tensors = count(len(checkpoint.weights), "tensor")
    say(f"{tensors} from {checkpoint.layout} to {layout} in {target}")
