"""Flags that several commands share, each declared once.

A dataclass is a group of flags. `@expands` lets a command take the dataclass as one argument and
gives typer one flag per field. All arguments of such a command are keyword-only.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from ecliptic.cli.completion import complete_models
from ecliptic.cli.exits import checks_usage
from ecliptic.cli.output import say
from ecliptic.errors import MissingTowerError, UnknownModelError
from ecliptic.settings import from_dict

if TYPE_CHECKING:
    from ecliptic.checkpoints import Checkpoint
    from ecliptic.engine import Clip
    from ecliptic.inputs import Tokenizer, TokenizerSpec

Command = TypeVar("Command", bound=Callable[..., None])
Spec = TypeVar("Spec")

MODEL_HELP = (
    "ARCH/TAG of `ecliptic models`, a checkpoint file or folder, hf:ORG/NAME, or the built-in mini."
)


def _check_device(name: str) -> str:
    if not re.fullmatch(r"(auto|cpu|cuda|mps|xpu)(:\d+)?", name):
        raise typer.BadParameter(
            f"there is no device {name!r}; use auto, cpu, cuda, cuda:1, mps or xpu."
        )
    return name


Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", callback=_check_device)
]
PrecisionFlag = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Dtype of the computation.")
]
VectorPrecisionFlag = Annotated[  # hidden states and gradients have no int8 and no fp8
    Literal["auto", "fp32", "bf16", "fp16", "int8", "fp8"],
    typer.Option(help="Dtype of the computation; int8 is for CPUs, fp8 for GPUs."),
]
PreprocessFlag = Annotated[
    Literal["reference", "robust"] | None,
    typer.Option(
        help="reference: as published; robust: handles EXIF, alpha and 16 bits.",
        show_default="reference; robust for mini",
    ),
]
PixelsFlag = Annotated[
    Literal["exact", "close", "fast"] | None,
    typer.Option(
        help="exact: every bit; close: within 1 level of 255; fast: JPEGs decoded smaller.",
        show_default="exact",
    ),
]
KernelsFlag = Annotated[
    Literal["auto", "plain", "compiled"],
    typer.Option(help="auto: the quickest here; plain: PyTorch's own; compiled: for GPUs."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use only files on this machine.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=complete_models)
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help=MODEL_HELP, autocompletion=complete_models)
]
Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.", metavar="FILE")]
TextsFlag = Annotated[
    list[str] | None,
    typer.Option("--text", "-t", help="A text; repeat for more.", metavar="TEXT"),
]
TextsFileFlag = Annotated[
    Path | None,
    typer.Option("--texts", help="File with one text per line; - is stdin.", metavar="FILE"),
]


@dataclasses.dataclass(frozen=True)
class IdentityFlags:
    """Settings that a checkpoint may not contain, and where to find it."""

    activation: Annotated[
        Literal["quick_gelu", "gelu"] | None,
        typer.Option(help="Activation function, if the checkpoint does not state it."),
    ] = None
    heads: Annotated[
        str | None,
        typer.Option(
            help="Attention heads, if not stated: 12 for both towers, or 16,12 for image and text.",
            metavar="N[,N]",
        ),
    ] = None
    image_spec: Annotated[
        str | None,
        typer.Option(help="Image preparation, if not stated, such as 'size=224'.", metavar="TOML"),
    ] = None
    tokenizer_spec: Annotated[
        str | None,
        typer.Option(help="Tokenizer, if not stated, such as 'context=77'.", metavar="TOML"),
    ] = None
    part: Annotated[
        str | None, typer.Option(help="Encoder of a diffusion checkpoint to load, such as clip_l.")
    ] = None
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the Hugging Face hub.", metavar="REF"),
    ] = None
    offline: Offline = False

    def load(self, source: str, **more: Any) -> "Clip":
        """`ecliptic.load` with these options."""
        from ecliptic.engine import load

        return load(source, **{"notify": say_note, **self._known(), **self._hub(), **more})

    def checkpoint(self, source: str) -> "Checkpoint":
        """The checkpoint, without a model built from it."""
        from ecliptic.checkpoints import Hints
        from ecliptic.engine import open_checkpoint

        return open_checkpoint(source, Hints(**self._known()), **self._hub())

    def path(self, source: str) -> Path:
        """The path of the file or folder that `load` reads."""
        from ecliptic.checkpoints import locate
        from ecliptic.engine import MINI

        return MINI if source == "mini" else locate(source, **self._hub()).path

    def _known(self) -> dict[str, Any]:
        from ecliptic.inputs import ImageSpec, TokenizerSpec

        return {
            "part": self.part,
            "activation": self.activation,
            "heads": self._parse_heads(),
            "image_spec": _parse_fields(ImageSpec, self.image_spec),
            "tokenizer_spec": _parse_fields(TokenizerSpec, self.tokenizer_spec),
        }

    def _parse_heads(self) -> "int | tuple[int, int] | None":
        numbers = self.heads.split(",") if self.heads else []
        if not all(number.strip().isdecimal() for number in numbers) or len(numbers) > 2:
            raise typer.BadParameter(
                "--heads must be one number, or two for image and text, such as 16,12; got "
                f"{self.heads!r}."
            )
        found = [int(number) for number in numbers]
        return (found[0], found[1]) if len(found) == 2 else found[0] if found else None

    def _hub(self) -> dict[str, Any]:
        """`offline` is None if not given, so that the settings of the hub apply."""
        return {"offline": self.offline or None, "revision": self.revision}


def _parse_fields(cls: type[Spec], text: str | None) -> Spec | None:
    """`cls` from a line of TOML with its fields; missing fields keep their defaults."""
    if text is None:
        return None
    try:
        fields = tomllib.loads(f"spec = {{{text}}}")["spec"]
    except tomllib.TOMLDecodeError as error:
        raise typer.BadParameter(
            f"{text[:80]!r} is not valid TOML, such as 'size=224': {error}"
        ) from None
    with checks_usage():
        return from_dict(cls, fields, where=cls.__name__)


MINI_NOTE = "note: mini knows drawings; for photographs add --model ViT-B-32/openai"


@dataclasses.dataclass(frozen=True)
class ModelFlags(IdentityFlags):
    """The model, and where and how it runs."""

    model: ModelName = "mini"
    device: Device = "auto"
    precision: VectorPrecisionFlag = "auto"
    kernels: KernelsFlag = "auto"
    preprocess: PreprocessFlag = None
    pixels: PixelsFlag = None
    image_size: Annotated[
        int | None, typer.Option(help="Pixels per side, instead of the trained size.", min=1)
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(help="Cache vectors in this folder and reuse them.", metavar="DIR"),
    ] = None

    def clip(self, source: str = "") -> "Clip":
        """The model, or the one called `source`, ready to encode."""
        names = ("device", "precision", "kernels", "preprocess", "pixels", "image_size", "cache")
        return self.load(source or self.model, **{name: getattr(self, name) for name in names})

    def note_unused(self) -> None:
        """Name the flags of the model that are given although all vectors are stored."""
        names = [field.name for field in dataclasses.fields(self)]
        self._note("stored vectors need no model", names)

    def note_unused_pixels(self) -> None:
        """Name the flags of preparing images that are given although no image is read."""
        effects = "changes no vector", "change no vector"
        self._note("no image is read", ("preprocess", "pixels"), effects)

    def _note(
        self,
        why: str,
        names: Iterable[str],
        effects: tuple[str, str] = ("is not used", "are not used"),
    ) -> None:
        default = type(self)()
        given = [name for name in names if getattr(self, name) != getattr(default, name)]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            say(f"note: {why}, so {flags} {effects[len(given) > 1]}")


def say_note(text: str) -> None:
    """Say what a load takes long for."""
    say(f"note: {text}")


def notes_of_copy(source: str, out: Path) -> list[str]:
    """What to say of a written copy: one of mini prepares images as all files do."""
    if source != "mini":
        return []
    return [f"with {out}, give --preprocess robust to prepare images as mini does"]


@dataclasses.dataclass(frozen=True)
class TokenizerFlags:
    """The tokenizer of a model; for a catalog name, no download and no weights are needed."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model with the tokenizer, named as in the other commands.",
            show_default="the reference tokenizer",
            autocompletion=complete_models,
        ),
    ] = None

    def tokenizer(self) -> "Tokenizer":
        """The tokenizer; MissingTowerError if the model has no text side."""
        from ecliptic.inputs import Tokenizer, TokenizerSpec

        spec = TokenizerSpec() if self.model is None else _tokenizer_spec(self.model)
        if spec is None:
            raise MissingTowerError(f"{self.model} has no text side, so it has no tokenizer.")
        return Tokenizer(spec)


def _tokenizer_spec(source: str) -> "TokenizerSpec | None":
    from ecliptic.checkpoints import catalog
    from ecliptic.inputs import TokenizerSpec

    if not Path(source).exists():
        with contextlib.suppress(UnknownModelError):
            text = catalog.find(source).config.text  # all of them use the reference vocabulary
            return TokenizerSpec(context=text.context) if text else None
    from ecliptic.engine import open_checkpoint

    return open_checkpoint(source).tokenizer_spec


def expands(command: Command) -> Command:
    """Replace each group among the parameters of `command` by one parameter per flag.

    A group is a dataclass, whose fields are the flags, or a class whose `flags()` lists them.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[Any, list[inspect.Parameter]]] = {
        name: (hint, hint.flags() if hasattr(hint, "flags") else _flags(hint))
        for name, hint in hints.items()
        if dataclasses.is_dataclass(hint) or hasattr(hint, "flags")
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += groups[name][1]
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, (group, flags) in groups.items():
            given[name] = group(**{flag.name: given.pop(flag.name) for flag in flags})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return run  # type: ignore[return-value]


def _flags(group: type) -> list[inspect.Parameter]:
    """One keyword for each field of the dataclass `group`."""
    hints = get_type_hints(group, include_extras=True)
    return [keyword(f.name, f.default, hints[f.name]) for f in dataclasses.fields(group)]


def keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    """A keyword-only parameter, which is a flag."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def check_written(
    outputs: Sequence[Path], read: Iterable[str | Path], *, force: bool, flags: str
) -> None:
    """Raise for an output that exists or is read, and for --force without an output.

    Args:
        outputs: every file that will be written.
        read: every file that is read; never replaced.
        force: replace existing files.
        flags: those that name an output, for people.
    """
    from ecliptic.storage import check_outputs

    if force and not outputs:
        raise typer.BadParameter(f"--force does nothing without {flags}.")
    check_outputs(outputs, read, force=force)
