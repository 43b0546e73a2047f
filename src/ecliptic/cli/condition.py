"""`ecliptic condition`: what a text-to-image model gets from CLIP for prompts of any dialect."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ecliptic.cli.options import Force, Json, expands
from ecliptic.cli.output import print_json, say
from ecliptic.errors import StorageError

if TYPE_CHECKING:
    from ecliptic.diffusion import Conditioner


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
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


def _split(given: str) -> tuple[str, str | None]:
    """FILE=VALUE, or a FILE that exists and may have "=" in its name."""
    path, equals, value = given.rpartition("=")
    return (path, value) if equals and not Path(given).exists() else (given, None)


def _scale(value: str | None) -> float:
    try:
        return 1.0 if value is None else float(value)
    except ValueError:
        raise typer.BadParameter(f"--lora is FILE or FILE=0.8, {value!r} is no number.") from None


@dataclasses.dataclass(frozen=True)
class ReadingOptions:
    """How prompts are read; what is not given is the default of `Options`."""

    dialect: Annotated[
        str | None,
        typer.Option(help="plain, a1111, comfyui or compel.", show_default="plain"),
    ] = None
    emphasis: Annotated[
        str | None,
        typer.Option(help="What weights do, as original.", show_default="the dialect's tool's way"),
    ] = None
    long: Annotated[
        str | None,
        typer.Option(help="Long prompts: truncate, chunk or a layout.", show_default="truncate"),
    ] = None
    clip_skip: Annotated[
        int | None, typer.Option(help="Layers skipped, counted as in diffusers.", min=0)
    ] = None
    compat: Annotated[
        str | None,
        typer.Option(
            help="Whose way, where tools disagree: diffusers, a1111, comfyui or kohya.",
            show_default="diffusers",
        ),
    ] = None
    steps: Annotated[
        int | None, typer.Option(help="Of sampling, for prompts that change.", min=1)
    ] = None

    def how(self) -> dict[str, Any]:
        """What was given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class PromptOptions:
    """More about a single prompt, and what is shown of it."""

    negative: Annotated[
        str | None, typer.Option("--negative", "-n", help="What to steer away from.")
    ] = None
    prompt_2: Annotated[
        str | None, typer.Option("--prompt-2", help="Another wording for the second encoder.")
    ] = None
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show every token, also when a file is written."),
    ] = False
    html: Annotated[
        Path | None, typer.Option(help="Write the tokens as a page.", metavar="FILE")
    ] = None


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """How a table of captions is kept in a folder, and whether the folder is checked."""

    column: Annotated[str, typer.Option(help="Column of the table with the captions.")] = "caption"
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column with the ids.", show_default="the caption")
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Captions at a time.")] = 32
    store: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="Numbers to store.", show_default="as computed"),
    ] = None
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check a cache; with --for and the rest, for being stale too."
        ),
    ] = False
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="With --verify: remove what is bad, and with --for also what other settings made.",
        ),
    ] = False


Output = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="File for a prompt's tensors (.safetensors), or folder for a table's.",
        metavar="PATH",
    ),
]


@expands
def condition(
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT",
            help="A prompt, a table of captions (.csv, .tsv, .jsonl), or with --verify the folder "
            "of a cache.",
        ),
    ],
    encoders: EncoderOptions,
    reading: ReadingOptions,
    prompt: PromptOptions,
    table: TableOptions,
    out: Output = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Show or keep what a text-to-image model gets from CLIP.

    Of a prompt, every token is shown: its characters, chunk and weight, and whether it is kept;
    --out writes the tensors under the names of diffusers.

    Of a table, each different caption is encoded once and kept in the folder --out; another run
    goes on where the last one ended. Captions that cannot be used are listed on stderr and in
    FOLDER.rejects.jsonl, and the exit code is 3.
    """
    from ecliptic.engine import is_table

    if table.repair and not table.verify:
        raise typer.BadParameter("--repair goes with --verify.")
    if table.verify:
        from ecliptic.cli.condition_folder import check

        source_or_none = encoders.conditioner() if encoders.family else None
        check(Path(source), source_or_none, reading.how(), repair=table.repair, json=json)
    elif is_table(source):
        from ecliptic.cli.condition_folder import fill

        if out is None:
            raise typer.BadParameter("a table needs --out, the folder of its cache.")
        fill(source, encoders.conditioner(), out, table, reading.how(), json=json)
    else:
        for path in (out, prompt.html):
            _check_new(path, force=force)
        if out is not None and out.suffix != ".safetensors":
            raise typer.BadParameter("--out of a prompt ends in .safetensors.")
        _show(source, encoders.conditioner(), prompt, reading.how(), out=out, json=json)


def _check_new(path: Path | None, *, force: bool) -> None:
    """Say now, not after the work, that a file is in the way."""
    if path is not None and path.exists() and not force:
        raise StorageError(f"{path} exists; pass --force to replace it, or another path.")


def _show(
    text: str,
    conditioner: "Conditioner",
    prompt: PromptOptions,
    how: dict[str, Any],
    *,
    out: Path | None,
    json: bool,
) -> None:
    from ecliptic.diffusion import ledger_html, save_conditioning

    made = conditioner(text, negative=prompt.negative, prompt_2=prompt.prompt_2, **how)
    if json:
        print_json(made.ledger.to_json())
    elif prompt.explain or not (out or prompt.html):
        print(made.ledger.to_table())
    if prompt.html is not None:
        prompt.html.write_text(ledger_html(made.ledger, text[:80]), encoding="utf-8")
        say(f"{len(made.ledger.rows)} tokens in {prompt.html}")
    if out is not None:
        about = {"prompt": text, "negative": prompt.negative, "prompt_2": prompt.prompt_2}
        names = save_conditioning(made, out, about | {"identity": conditioner.identity(**how)})
        say(f"{', '.join(names)} in {out}")
    dropped = len(made.ledger.dropped)
    say(f"{len(made.ledger.rows)} tokens" + f", {dropped} dropped" * bool(dropped))
