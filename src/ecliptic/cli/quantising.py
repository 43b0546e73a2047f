"""`ecliptic convert --precision int8`: flags, inputs to calibrate on, and the report."""

import dataclasses
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import IdentityFlags, notes_of_copy
from ecliptic.cli.output import count, print_json, say
from ecliptic.cli.wording import name_flags

if TYPE_CHECKING:
    from ecliptic.model import Quantisation

_MOST = 512  # images or texts; more are thinned out evenly


@dataclasses.dataclass(frozen=True)
class Int8Flags:
    """How the int8 layers are found."""

    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="int8: smallest cosine with fp32; layers stay fp32 until it holds.",
            show_default="0.9998",
        ),
    ] = None
    seen_images: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            help="int8: images like yours, to find the ranges.",
            metavar="FOLDER",
            show_default="bundled drawings",
        ),
    ] = None
    seen_texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            help="int8: texts like yours, one per line; - is stdin.",
            metavar="FILE",
            show_default="bundled prompts",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            help="int8: JSON file with the error of each layer.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None

    def check(self, precision: str | None) -> None:
        """Raise for flags that would do nothing without int8, or an impossible bound."""
        given = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
        if given and precision != "int8":
            names = {"seen_images": "--calibrate", "seen_texts": "--texts"}
            flag = names.get(given[0], f"--{given[0].replace('_', '-')}")
            raise typer.BadParameter(f"{flag} does nothing without --precision int8.")
        if self.min_cosine is not None and not 0 < self.min_cosine < 1:
            raise typer.BadParameter(
                f"--min-cosine must be above 0 and below 1, got {self.min_cosine}."
            )

    @property
    def read(self) -> list[str | Path]:
        """The files and folders that are read."""
        return [path for path in (self.seen_images, self.seen_texts) if path is not None]

    def images(self) -> list[Any] | None:
        """The images to calibrate on; None for the bundled ones."""
        from ecliptic.engine import image_files

        if self.seen_images is None:
            return None
        return _thin([item.value for item in image_files(self.seen_images)])

    def lines(self) -> list[str] | None:
        """The texts to calibrate on; None for the bundled ones."""
        from ecliptic.engine import read_lines

        if self.seen_texts is None:
            return None
        return _thin([line for _, line in read_lines(self.seen_texts) if line.strip()])


def _thin(items: list[Any]) -> list[Any]:
    step = -(-len(items) // _MOST)
    return items[::step] if items else items


def write_int8(
    source: str, out: Path, flags: Int8Flags, identity: IdentityFlags, *, force: bool, json: bool
) -> None:
    """Write MODEL with int8 layers, and say what they change."""
    from ecliptic.engine import MIN_COSINES, find_quantisation, search_note
    from ecliptic.errors import CheckpointError, ConfigError
    from ecliptic.storage import check_outputs, replace_file, text_writer

    if flags.report:
        check_outputs([flags.report], [source, *flags.read], force=force)
    if out.exists() and not force:  # before a calibration of minutes
        raise CheckpointError(f"{out} exists; pass --force to replace it, or another path.")
    if identity.checkpoint(source).quantisation:
        raise ConfigError(
            f"{source} is int8 already; convert the float32 model that it was made of."
        )
    clip = identity.load(source, device="cpu", precision="fp32")
    bound = MIN_COSINES["int8"] if flags.min_cosine is None else flags.min_cosine
    images, lines = flags.images(), flags.lines()
    say(f"note: {search_note('int8')}")
    found = find_quantisation(clip, bound, images, lines)
    clip.quantised(found).save(out, overwrite=force)
    facts = _facts(found)
    if flags.report:
        text = json_module.dumps(facts, indent=1) + "\n"
        replace_file(flags.report, text_writer(text))
    notes = [*clip.card.notes, *notes_of_copy(source, out)]
    if json:
        print_json({"out": str(out), **facts, "notes": notes})
        return
    for note in notes:
        say(f"note: {name_flags(note)}")
    _say(found)
    say(f"int8 in {out}")


def _facts(found: "Quantisation") -> dict[str, Any]:
    from ecliptic.settings import to_dict

    same = found.space if found.keeps_space else None
    facts: dict[str, Any] = to_dict(found.report)
    return facts | {"kept": list(found.report.kept), "space": same}


def _say(found: "Quantisation") -> None:
    report = found.report
    for tower in report.towers:
        layers = [layer for layer in report.layers if layer.name.startswith(f"{tower.tower}.")]
        kept = sum(layer.kept for layer in layers)
        say(
            f"{tower.tower}: {len(layers) - kept} of {count(len(layers), 'layer')} in int8, "
            f"{kept} kept in fp32; cosine "
            f"with fp32 {tower.worst:.6f} at least, {tower.mean:.6f} on average, of "
            f"{count(tower.inputs, 'input')} that were not calibrated on; {tower.recall:.1%} of "
            "the 10 nearest are the same"
        )
    quantised = {layer.name.partition(".")[0] for layer in report.layers}
    if "image" not in quantised:
        say("image: its tower is no vision transformer and stays fp32")
    if 2 * len(report.kept) > len(report.layers) > len(report.kept):
        say("note: most layers stay fp32, so little is gained; a lower --min-cosine changes that")
    if not found.linears:
        say("note: no layer is int8, so nothing is quicker; pass a lower --min-cosine")
    if not found.keeps_space:
        say("note: too far from fp32 to share its space; vectors of both cannot be compared")
