"""`ecliptic doctor`: the first stage at which two models or implementations differ."""

from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.completion import complete_models
from ecliptic.cli.exits import FAILED, leave
from ecliptic.cli.flags import IdentityFlags, Json, TextsFlag, expands
from ecliptic.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ecliptic.engine import Diagnosis, Implementation, Stage

_MODEL = (
    "A model, named as in the other commands, or open_clip:ARCH/TAG, open_clip:ARCH/FILE, "
    "transformers:PATH."
)


@expands
def doctor(
    *,
    a: Annotated[str, typer.Argument(metavar="A", help=_MODEL, autocompletion=complete_models)],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="The model to compare it with, named in the same ways.",
            autocompletion=complete_models,
        ),
    ],
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="An image for both; repeat for more.", show_default="two generated"
        ),
    ] = None,
    text: TextsFlag = None,
    slack: Annotated[
        float, typer.Option(min=0.0, help="Factor on every tolerance; use 1000 for half precision.")
    ] = 1.0,
    identity: IdentityFlags,
    json: Json = False,
) -> None:
    """Compare A with B stage by stage; name the first difference.

    The stages: bytes of the files, settings, weights, tokens, pixels, each layer, pooled state,
    vectors. If B can take the inputs of A, both get them, so a difference shows at its own stage.
    Other bytes with the same tensors are listed, but are not a difference. The exit code is 1 if
    the models differ.
    """
    from ecliptic.engine import diagnose

    found = diagnose(
        _load_side(a, identity), _load_side(b, identity), image or (), text or (), slack
    )
    if json:
        print_json(found.to_dict())
    else:
        _print(found)
    leave(FAILED, when=found.first is not None)


def _load_side(source: str, identity: IdentityFlags) -> "Implementation":
    from ecliptic.engine import OTHERS, ours

    kind, _, rest = source.partition(":")
    if kind in OTHERS:
        return OTHERS[kind](rest)
    clip = identity.load(source, device="cpu", precision="fp32", preprocess="reference")
    return ours(clip, source, identity.path(source))


def _print(found: "Diagnosis") -> None:
    columns = ("stage", "", "difference ", "allowed ", "note")
    print_table(
        columns, map(_row, found.stages), title=f"A = {found.a}   B = {found.b}", wrap_last=True
    )
    if found.first is None:
        other = any(stage.verdict == "differs" for stage in found.stages)
        say("no difference beyond the tolerances" + "; only the bytes of the files differ" * other)
        return
    say(f"first difference: {_describe(found.first)}")
    if found.first.name == "bytes":
        beyond = [stage for stage in found.stages[1:] if stage.verdict == "differs"]
        say(f"first difference beyond the bytes: {_describe(beyond[0])}")


def _describe(stage: "Stage") -> str:
    return stage.name + ("" if stage.difference is None else f", {stage.difference:.3g}")


def _row(stage: "Stage") -> tuple[str, ...]:
    numbers = (stage.difference, stage.tolerance)
    shown = ("" if number is None else f"{number:.2g}" for number in numbers)
    return (stage.name, stage.verdict, *shown, stage.note)
