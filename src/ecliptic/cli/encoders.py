"""Flags of the commands that encode prompts: which text encoders, and how prompts are read."""

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ecliptic.diffusion import Conditioner


@dataclasses.dataclass(frozen=True)
class EncoderFlags:
    """Whose conditioning, and where it is computed."""

    family: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Which model: sd1, sd2, sdxl, sdxl-refiner, sd3, flux, cascade, unclip or "
            "kandinsky2-prior.",
            metavar="FAMILY",
        ),
    ] = None
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoders",
            "-e",
            help="A diffusers folder or checkpoint file with all text encoders; or one catalog "
            "name, file or folder each, in the model's order: give it again for the next.",
            metavar="MODEL",
        ),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(help="Merge a LoRA; FILE=0.8 is weaker. Again for more.", metavar="FILE"),
    ] = None
    inversion: Annotated[
        list[str] | None,
        typer.Option(
            help="A textual inversion; FILE=NAME is what prompts call it. Again for more.",
            metavar="FILE",
        ),
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Numbers it computes in.")
    ] = "auto"
    offline: Annotated[
        bool, typer.Option("--offline", help="Use only what is on this machine.")
    ] = False

    def conditioner(self) -> "Conditioner":
        """The conditioner, LoRAs and inversions in it."""
        from ecliptic.diffusion import conditioner

        if not self.family or not self.encoders:
            raise typer.BadParameter(
                "name the model with --for, such as --for sdxl, and its text encoders with "
                "--encoders."
            )
        loras = [(path, _scale(value)) for path, value in map(_split, self.lora or ())]
        made = conditioner(
            self.family,
            self.encoders[0] if len(self.encoders) == 1 else self.encoders,
            device=self.device,
            precision=self.precision,
            offline=self.offline or None,
        )
        for path, scale in loras:
            made.add_lora(path, scale)
        for path, name in map(_split, self.inversion or ()):
            made.add_inversion(path, name)
        return made


class ReadingFlags:
    """How prompts are read: one flag for each field of `ecliptic.diffusion.Options`."""

    def __init__(self, **given: Any) -> None:
        self.how = {name: value for name, value in given.items() if value is not None}

    @staticmethod
    def flags() -> list[inspect.Parameter]:
        """One keyword per field that the command line has."""
        from ecliptic.diffusion import Options

        return [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(field),
            )
            for field in Options.flags()
        ]


def _annotation(field: "dataclasses.Field[Any]") -> Any:
    """The type and help of one flag."""
    about = field.metadata
    shown = about["shown"] or f"{field.default}"
    if not about["values"]:
        return Annotated[
            int | None, typer.Option(help=about["meaning"], min=about["least"], show_default=shown)
        ]
    meaning = f"{about['meaning']} One of: {', '.join(about['values'])}."
    return Annotated[str | None, typer.Option(help=meaning, show_default=shown)]


def _split(given: str) -> tuple[str, str | None]:
    """FILE=VALUE, or a FILE that exists and may have "=" in its name."""
    path, equals, value = given.rpartition("=")
    return (path, value) if equals and not Path(given).exists() else (given, None)


def _scale(value: str | None) -> float:
    try:
        return 1.0 if value is None else float(value)
    except ValueError:
        raise typer.BadParameter(
            f"--lora is FILE or FILE=0.8, but {value!r} is not a number."
        ) from None
