"""`ecliptic convert`: write a checkpoint in another layout, or as files for other programs."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecliptic.cli.flags import Force, IdentityFlags, Json, ModelArgument, expands, notes_of_copy
from ecliptic.cli.output import count, print_json, say
from ecliptic.cli.quantising import Int8Flags, write_int8
from ecliptic.cli.wording import name_flags

if TYPE_CHECKING:
    from ecliptic.export import Export, ExportPrecision

LayoutName = Literal["ecliptic", "openai", "open_clip", "transformers"]
PRECISIONS: dict[str, tuple["ExportPrecision", ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "both": ("fp32", "fp16"),
}


@dataclasses.dataclass(frozen=True)
class ExportFlags:
    """An export for programs without ecliptic."""

    to: Annotated[
        Literal["onnx", "torch"] | None,
        typer.Option(
            help="Export each tower for programs without ecliptic: ONNX, or torch.export.",
            show_default="a layout",
        ),
    ] = None
    precision: Annotated[
        Literal["fp32", "fp16", "both", "int8"] | None,
        typer.Option(
            help="int8: quicker on CPUs, for the layout ecliptic; the others: files of --to.",
            show_default="fp32 with --to, else as stored",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="OUT, as a flag.", metavar="PATH", show_default=False),
    ] = None

    def check(self, layout: LayoutName | None) -> None:
        """Raise for flags that would do nothing together."""
        if self.to and layout:
            raise typer.BadParameter(
                "--layout does nothing with --to, which writes files for other programs; leave one "
                "out."
            )
        if self.precision == "int8" and self.to:
            raise typer.BadParameter(
                "--precision int8 is for ecliptic's own layout: the int8 of other programs came no "
                "nearer than a cosine of 0.999 to fp32; leave --to out, or use fp16."
            )
        if self.precision == "int8" and layout not in (None, "ecliptic"):
            raise typer.BadParameter(
                f"--layout {layout} cannot hold int8; leave --layout out for ecliptic's own."
            )
        if self.precision not in (None, "int8") and not self.to:
            raise typer.BadParameter(
                f"--precision {self.precision} does nothing without --to: a layout keeps the "
                "stored precision."
            )

    def choose_target(self, target: Path | None) -> Path:
        """The path to write, given as OUT or by --out."""
        if target and self.out:
            raise typer.BadParameter(
                f"both {target} and --out {self.out} are given; leave one out."
            )
        found = target or self.out
        if found is None:
            raise typer.BadParameter("missing OUT, the path to write.")
        return found


@expands
def convert(
    *,
    source: ModelArgument,
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="Folder to write; for the layout openai, a file.",
            show_default="needed, or --out",
        ),
    ] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option(
            "--layout",
            "-l",
            help="Project whose names and files to write.",
            show_default="ecliptic",
        ),
    ] = None,
    export: ExportFlags,
    int8: Int8Flags,
    identity: IdentityFlags,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write MODEL to OUT in another layout, or for other programs.

    A layout has identical tensors; if it cannot hold the model, nothing is written and the error
    says why. With --to, each tower is a file of its own, with JSON beside it that says how to make
    its input. Every file is run and compared with ecliptic; if one differs, nothing is written.

    With --precision int8 linear layers become int8, but for those that would move a vector by more
    than --min-cosine allows. Half of the inputs is for that comparison alone.
    """
    from ecliptic.storage import check_folder, refuse_inputs

    export.check(layout)
    int8.check(export.precision)
    out = export.choose_target(target)
    refuse_inputs([out], [source, *int8.read])
    check_folder(next(p for p in (out, *out.parents) if p.is_dir()), make=False)
    if export.precision == "int8":
        write_int8(source, out, int8, identity, force=force, json=json)
    elif export.to:
        _export(source, out, export, identity, force=force, json=json)
    else:
        _write(source, out, layout or "ecliptic", identity, force=force, json=json)


def _write(
    source: str, out: Path, layout: LayoutName, identity: IdentityFlags, *, force: bool, json: bool
) -> None:
    from ecliptic.checkpoints import write

    checkpoint = identity.checkpoint(source)
    lost = write(checkpoint, out, layout, overwrite=force)
    notes = [*checkpoint.notes, *lost, *notes_of_copy(source, out)]
    if json:
        summary = {"from": checkpoint.layout, "to": layout, "out": str(out)}
        print_json(summary | {"tensors": len(checkpoint.weights), "notes": notes})
        return
    for note in notes:
        say(f"note: {name_flags(note)}")
    tensors = count(len(checkpoint.weights), "tensor")
    say(f"{tensors} from {checkpoint.layout} to {layout} in {out}")


def _export(
    source: str, out: Path, flags: ExportFlags, identity: IdentityFlags, *, force: bool, json: bool
) -> None:
    from ecliptic.export import check_export, write_export

    assert flags.to  # narrows the type
    check_export(out, flags.to, overwrite=force)  # before a model is loaded
    clip = identity.load(source, device="cpu", precision="fp32")
    precisions = PRECISIONS[flags.precision or "fp32"]
    made = write_export(clip, out, flags.to, precisions, overwrite=force)
    if json:
        print_json(made.to_dict())
    else:
        _say_export(made)


def _say_export(made: "Export") -> None:
    for note in made.notes:
        say(f"note: {name_flags(note)}")
    for file in made.files:
        found = file.agreement
        say(
            f"{file.file}: {file.precision}, {file.bytes:,} bytes; differs from ecliptic by "
            f"{found.error:.1e} of the largest value, worst cosine {found.cosine:.6f}"
        )
    opset = f", opset {made.opset}" if made.opset else ""
    files = count(len(made.files), "file")
    say(f"{files} for {made.to}{opset}, checked in {made.checker}, in {made.folder}")
