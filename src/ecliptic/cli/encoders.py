"""Flags of the commands that encode prompts: the text encoders, and how to read prompts."""

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from ecliptic.cli.completion import complete_models
from ecliptic.cli.flags import Device, Offline, PrecisionFlag, keyword

if TYPE_CHECKING:
    from ecliptic.diffusion import Conditioner


TextFamily = Literal[  # the rows of `diffusion.FAMILIES` with text encoders, without its imports
    "sd1",
    "sd2",
    "sdxl",
    "sdxl-refiner",
    "sd3",
    "flux",
    "cascade",
    "unclip",
    "kandinsky2-prior",
    "kandinsky5",
    "hunyuan-video",
    "hidream",
]


def _check_family(value: str | None) -> str | None:
    """Return the family; a usage error for another name, with the reason if the model has one."""
    known = get_args(TextFamily)
    if value is None or value in known:
        return value
    from ecliptic.diffusion import explain_missing_family

    names = ", ".join(map(repr, known))
    raise typer.BadParameter(explain_missing_family(value) or f"{value!r} is not one of {names}.")


_LONGEST = 40  # characters of the choices of a flag that stand behind its name in the help


@dataclasses.dataclass(frozen=True)
class EncoderFlags:
    """The diffusion model, its text encoders, and where they run."""

    family: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="FAMILY",
            callback=_check_family,
            autocompletion=lambda: list(get_args(TextFamily)),
            help="Diffusion model that takes the prompt; a diffusers folder tells it by itself. "
            f"One of {', '.join(get_args(TextFamily))}.",
        ),
    ] = None
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoders",
            "-e",
            help="A diffusers folder or checkpoint file with all text encoders. Or repeat the flag "
            "with a catalog name, file or folder for each encoder, in the model's order.",
            metavar="MODEL",
            autocompletion=complete_models,
        ),
    ] = None
    t5: Annotated[
        str | None,
        typer.Option(
            "--t5",
            help="Folder of the T5 of SD3 or FLUX, if it is not in the folder of --encoders.",
            metavar="FOLDER",
        ),
    ] = None
    no_t5: Annotated[
        bool, typer.Option("--no-t5", help="Leave T5 out, to save memory; SD3 works without it.")
    ] = False
    lora: Annotated[
        list[str] | None,
        typer.Option(help="Merge a LoRA; FILE=0.8 scales it; repeat for more.", metavar="FILE"),
    ] = None
    loras: Annotated[
        Path | None,
        typer.Option(
            "--loras",
            help="Folder of the LoRAs that A1111's prompts name, as in <lora:name:0.8>.",
            metavar="FOLDER",
        ),
    ] = None
    inversion: Annotated[
        list[str] | None,
        typer.Option(
            help="Textual inversion; FILE=NAME sets its name in prompts; repeat for more.",
            metavar="FILE",
        ),
    ] = None
    any_size: Annotated[
        bool,
        typer.Option("--any-size", help="Take encoders of sizes that no released model has."),
    ] = False
    device: Device = "auto"
    precision: PrecisionFlag = "auto"
    kernels: Annotated[
        Literal["auto", "plain"],
        typer.Option(help="auto: the quickest here; plain: the same bits in every call."),
    ] = "auto"
    offline: Offline = False

    def given(self) -> list[str]:
        """The flags that are set and have an effect only with a model."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in ("family", "encoders")
            and getattr(self, field.name) != field.default
        ]

    def paths(self) -> list[str]:
        """What is read: encoders, T5, LoRAs and inversions."""
        adapters = (*(self.lora or ()), *(self.inversion or ()))
        t5 = () if self.t5 is None else (self.t5,)
        return [*(self.encoders or ()), *t5, *(_split(given)[0] for given in adapters)]

    def named(self) -> tuple[str | None, list[str]]:
        """The family and the encoders; a usage error if one is missing.

        The family is None if the encoders are a diffusers folder, which tells it.
        """
        given = self.encoders or []
        if not given or not (self.family or (len(given) == 1 and _is_pipeline(given[0]))):
            raise typer.BadParameter(
                "name the model with --for, such as --for sdxl, and its text encoders with "
                "--encoders; the folder of a diffusers pipeline needs no --for."
            )
        if self.t5 is not None and self.no_t5:
            raise typer.BadParameter("--t5 and --no-t5 contradict each other; pass one.")
        return self.family, given

    def conditioner(self) -> "Conditioner":
        """The conditioner with its LoRAs and inversions."""
        family, encoders = self.named()
        from ecliptic.diffusion import conditioner

        loras = [(path, _parse_scale(value)) for path, value in map(_split, self.lora or ())]
        source = encoders[0] if len(encoders) == 1 else encoders
        made = conditioner(
            family or encoders[0],
            source if family else None,
            t5=False if self.no_t5 else self.t5,
            loras=self.loras,
            any_size=self.any_size,
            device=self.device,
            precision=self.precision,
            kernels=self.kernels,
            offline=self.offline or None,
        )
        for path, scale in loras:
            made.add_lora(path, scale)
        for path, name in map(_split, self.inversion or ()):
            made.add_inversion(path, name)
        return made


class ReadingFlags:
    """How to read prompts: one flag for each field of `ecliptic.diffusion.Options`."""

    def __init__(self, **given: Any) -> None:
        self.how = {name: value for name, value in given.items() if value is not None}

    @staticmethod
    def flags() -> list[inspect.Parameter]:
        """One keyword for each field that is a flag."""
        from ecliptic.diffusion import Options

        return [keyword(field.name, None, _annotation(field)) for field in Options.flags()]


def _annotation(field: "dataclasses.Field[Any]") -> Any:
    """The type and help of one flag."""
    about = field.metadata
    shown = about["shown"] or f"{field.default}"
    if not about["values"]:
        return Annotated[
            int | None, typer.Option(help=about["meaning"], min=about["least"], show_default=shown)
        ]
    choice: Any = Literal[about["values"]]
    meaning, metavar = about["meaning"], None
    if len("|".join(about["values"])) > _LONGEST:
        meaning, metavar = f"{meaning} One of {', '.join(about['values'])}.", field.name.upper()
    return Annotated[choice | None, typer.Option(help=meaning, show_default=shown, metavar=metavar)]


def _is_pipeline(source: str) -> bool:
    return (Path(source) / "model_index.json").is_file()


def _split(given: str) -> tuple[str, str | None]:
    """Split FILE=VALUE; a FILE that exists may have "=" in its name."""
    path, equals, value = given.rpartition("=")
    return (path, value) if equals and not Path(given).exists() else (given, None)


def _parse_scale(value: str | None) -> float:
    try:
        return 1.0 if value is None else float(value)
    except ValueError:
        raise typer.BadParameter(
            f"--lora is FILE or FILE=0.8, but {value!r} is not a number."
        ) from None
