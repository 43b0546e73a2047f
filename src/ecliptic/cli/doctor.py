"""`ecliptic doctor`: where two models, or two implementations of one, begin to differ."""

from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.exits import FAILED, leave
from ecliptic.cli.flags import IdentityFlags, Json, Texts, expands
from ecliptic.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ecliptic.engine import Diagnosis, Implementation, Stage

_MODEL = (
    "A model as for the other commands, open_clip:ARCH/TAG, open_clip:ARCH/FILE, or "
    "transformers:PATH."
)


@expands
def doctor(
    *,
    a: Annotated[str, typer.Argument(metavar="A", help=_MODEL)],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with, likewise.")],
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="An image for both; again for more.", show_default="two drawn"
        ),
    ] = None,
    text: Texts = None,
    slack: Annotated[
        float, typer.Option(min=0.0, help="Factor on every tolerance; 1000 suits half precision.")
    ] = 1.0,
    identity: IdentityFlags,
    json: Json = False,
) -> None:
    """Compare A with B stage by stage; name the first difference.

    Bytes of the files, settings, weights, tokens, pixels, each layer, pooled state, vectors. Both
    get A's inputs where they fit, so a difference shows where it arises. Other bytes with the same
    tensors are shown, and are no difference. Exit code 1 if they differ.
    """
    from ecliptic.engine import diagnose

    found = diagnose(
        _implementation(a, identity), _implementation(b, identity), image or (), text or (), slack
    )
    if json:
        print_json(found.to_dict())
    else:
        _print(found)
    leave(FAILED, when=found.first is not None)


def _implementation(source: str, identity: IdentityFlags) -> "Implementation":
    from ecliptic.engine import OTHERS, ours

    kind, _, rest = source.partition(":")
    if kind in OTHERS:
        return OTHERS[kind](rest)
    clip = identity.load(source, device="cpu", precision="fp32")
    return ours(clip, source, identity.path(source))


def _print(found: "Diagnosis") -> None:
    columns = ("stage", "", "difference ", "allowed ", "note")
    print_table(columns, map(_row, found.stages), title=f"A = {found.a}   B = {found.b}")
    if found.first is None:
        other = any(stage.verdict == "differs" for stage in found.stages)
        say("no difference beyond the tolerances" + "; only the bytes that store it" * other)
        return
    say(f"first difference: {_named(found.first)}")
    if found.first.name == "bytes":
        beyond = [stage for stage in found.stages[1:] if stage.verdict == "differs"]
        say(f"first difference beyond the bytes: {_named(beyond[0])}")


def _named(stage: "Stage") -> str:
    return stage.name + ("" if stage.difference is None else f", {stage.difference:.3g}")


def _row(stage: "Stage") -> tuple[str, ...]:
    numbers = (stage.difference, stage.tolerance)
    shown = ("" if number is None else f"{number:.2g}" for number in numbers)
    return (stage.name, stage.verdict, *shown, stage.note)
