"""`ecliptic embed`: write the vectors of images and texts to a file."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.exits import INTERRUPTED, REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, Out, expands
from ecliptic.cli.output import count, on_terminal, print_json, rejects_of, say, say_rejects
from ecliptic.cli.sources import STORED, EmbedSources
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from ecliptic.engine import Embedding


@expands
def embed(
    *,
    sources: EmbedSources,
    out: Out = Path("vectors.npy"),
    batch_size: Annotated[int | None, typer.Option(min=1, help="Items per batch.")] = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Write a unit-length vector per image or text to a file.

    The name of the file ends in .npy, .safetensors or .parquet. It holds the ids too.

    If items cannot be used, they are listed on stderr and in FILE.rejects.jsonl, and the exit code
    is 3. None of these files is replaced without --force. Ctrl-C stops early and writes the vectors
    so far.
    """
    sources.check()
    if out.suffix not in STORED:
        raise typer.BadParameter(f"--out {out} must end in one of {', '.join(STORED)}.")
    from ecliptic.engine import check_vectors_path, embed_items, progress_bar, save_vectors
    from ecliptic.storage import check_outputs

    rejects = rejects_of(out)
    outputs = (*check_vectors_path(out), rejects)
    check_outputs(outputs, chain(sources.files(), [model.model]), force=force, make_folders=True)
    clip = model.clip()
    paths = sources.inputs or []
    if not paths:
        model.note_unused_pixels()
    sets = chain(sources.sets(paths), sources.text_sets())
    total = sources.count_all() if on_terminal() else None
    with progress_bar("items", total, show=on_terminal()) as advance:
        done = embed_items(clip, sets, batch_size, advance, lambda text: say(f"warning: {text}"))
    with done:
        _report(done)
        done.rejects.write(rejects)
        save_vectors(out, done.vectors(), clip.card, done.names, overwrite=force)
    say(f"{count(len(done.names), 'vector')} of {count(done.embed, 'value')} in {out}")
    if json:
        about = {"out": str(out), "vectors": len(done.names), "embed": done.embed}
        about |= {"rejected": done.rejects.to_json(), "interrupted": done.interrupted}
        print_json(about | {"space": clip.card.space})
    leave(INTERRUPTED, when=done.interrupted)
    leave(REJECTED, when=len(done.rejects) > 0)


def _report(done: "Embedding") -> None:
    """Say what was rejected and how far it went; without any vector, end the command."""
    finished = len(done.names) + len(done.rejects)
    say_rejects(done.rejects, None if done.names else finished)
    if done.interrupted:
        kept = "the finished ones are kept" if done.names else "nothing is written"
        say(f"interrupted after {count(finished, 'item')}; {kept}")
        leave(INTERRUPTED, when=not done.names)
    if not done.names:
        raise InputError(
            f"{count(finished, 'item')} rejected and none embedded, so nothing is written."
        )
