"""`ecliptic condition`: a prompt of any dialect, encoded for a text-to-image model."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ecliptic.cli.captions import (
    TableFlags,
    check_captions,
    check_captions_paths,
    write_captions,
)
from ecliptic.cli.encoders import EncoderFlags, ReadingFlags
from ecliptic.cli.flags import Force, Json, check_written, expands
from ecliptic.cli.output import count, print_json, print_text, say
from ecliptic.cli.wording import name_flags

if TYPE_CHECKING:
    from ecliptic.diffusion import Conditioner, ConditioningReport, Hires


@dataclasses.dataclass(frozen=True)
class PromptFlags:
    """Flags for a single prompt: its other texts, and how to show its tokens."""

    negative: Annotated[
        str | None, typer.Option("--negative", "-n", help="Negative prompt, to steer away from.")
    ] = None
    prompt_2: Annotated[
        str | None, typer.Option("--prompt-2", help="Different prompt for the second encoder.")
    ] = None
    negative_2: Annotated[
        str | None, typer.Option("--negative-2", help="Different negative prompt for it.")
    ] = None
    prompt_3: Annotated[
        str | None, typer.Option("--prompt-3", help="Different prompt for the T5 of SD3.")
    ] = None
    negative_3: Annotated[
        str | None, typer.Option("--negative-3", help="Different negative prompt for it.")
    ] = None
    hires_steps: Annotated[
        int | None,
        typer.Option(
            "--hires-steps", help="Encode A1111's second pass of so many steps too.", min=1
        ),
    ] = None
    hires_prompt: Annotated[
        str | None, typer.Option("--hires-prompt", help="Different prompt for the second pass.")
    ] = None
    hires_negative: Annotated[
        str | None, typer.Option("--hires-negative", help="Different negative prompt for it.")
    ] = None
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show the tokens, also when a file is written."),
    ] = False
    page: Annotated[
        Path | None,
        typer.Option(help="Write one HTML page about the prompt and its tokens.", metavar="FILE"),
    ] = None

    def texts(self) -> dict[str, Any]:
        """The texts beside the prompt, by their names in Python."""
        names = ("negative", "prompt_2", "negative_2", "prompt_3", "negative_3")
        return {name: getattr(self, name) for name in names}

    def later(self) -> dict[str, Any]:
        """The flags of the second pass, for the metadata of a file."""
        names = ("hires_steps", "hires_prompt", "hires_negative")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def hires(self) -> "Hires | None":
        """The second pass; a usage error for texts without its steps."""
        from ecliptic.diffusion import Hires

        if self.hires_steps is not None:
            return Hires(self.hires_steps, self.hires_prompt, self.hires_negative)
        if self.hires_prompt or self.hires_negative:
            raise typer.BadParameter(
                "--hires-prompt and --hires-negative are of the second pass; pass --hires-steps, "
                "its number of steps."
            )
        return None

    def given(self) -> list[str]:
        """The flags that are set."""
        return [f"--{n.replace('_', '-')}" for n, value in vars(self).items() if value]


_FLAGS = {"id_column": "id", "batch_size": "batch-size"}  # field -> flag, where they differ


def _old_flag(flag: str, **more: Any) -> Any:
    return typer.Option(flag, hidden=True, help="See `ecliptic captions`.", **more)


@dataclasses.dataclass(frozen=True)
class TableForm:
    """Flags for tables of captions, older than `ecliptic captions`; not in the help."""

    column: Annotated[str | None, _old_flag("--column")] = None
    id_column: Annotated[str | None, _old_flag("--id")] = None
    batch_size: Annotated[int | None, _old_flag("--batch-size", min=1)] = None
    store: Annotated[Literal["fp32", "bf16", "fp16"] | None, _old_flag("--store")] = None
    verify: Annotated[bool, _old_flag("--verify")] = False
    repair: Annotated[bool, _old_flag("--repair")] = False

    def given(self) -> dict[str, Any]:
        """The flags that are set."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}

    def columns(self) -> TableFlags:
        """The flags of `captions write`."""
        names = [field.name for field in dataclasses.fields(TableFlags)]
        return TableFlags(**{n: value for n, value in self.given().items() if n in names})


Output = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write the tensors to a .safetensors file.", metavar="FILE"),
]


@expands
def condition(
    *,
    source: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt.")],
    encoders: EncoderFlags,
    reading: ReadingFlags,
    prompt: PromptFlags,
    table: TableForm,
    out: Output = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Encode a prompt for a diffusion model, to show or to save.

    Shows what becomes of it: each side, alternative and step, every token with its chunk and
    weight, what is dropped, shapes, warnings. --page writes that for a browser or a phone; --out
    writes the tensors under the names of diffusers. For tables, use `ecliptic captions`.
    """
    from ecliptic.cli.texts import is_file, refuse_missing_file
    from ecliptic.engine import is_table

    if table.verify or table.repair or is_table(source):
        if unused := prompt.given():
            raise typer.BadParameter(f"{', '.join(unused)} is for a prompt, not for a table.")
        _run_table_form(source, encoders, reading, table, out, force=force, json=json)
        return
    if table.given():
        flags = ", ".join("--" + _FLAGS.get(name, name) for name in table.given())
        raise typer.BadParameter(f"{flags} is for tables of captions; see `ecliptic captions`.")
    outputs = [path for path in (out, prompt.page) if path is not None]
    check_written(outputs, encoders.paths(), force=force, flags="--out or --page")
    prompt.hires()  # refuses flags that contradict each other before anything is loaded
    if out is not None and out.suffix != ".safetensors":
        raise typer.BadParameter("the --out file of a prompt must end in .safetensors.")
    if not is_file(source):
        refuse_missing_file(source, instead="end it with a full stop or a comma")
    conditioner = encoders.conditioner()
    if reading.how.get("dialect", "plain") == "plain":
        _say_other_syntax([source, prompt.negative or ""], conditioner)
    _show(source, conditioner, prompt, reading.how, out=out, json=json)


def _say_other_syntax(texts: list[str], conditioner: "Conditioner") -> None:
    """Say that weights and schedules of image generators are words without --dialect."""
    from ecliptic.diffusion import lint_prompt

    tokenizer = conditioner.encoders[0].tokenizer
    found = [one for text in texts for one in lint_prompt(text, tokenizer)]
    if any(one.code in ("weight-syntax", "lora-tag") for one in found):
        say("note: weights and tags are read as words; name the dialect: --dialect a1111")


def _run_table_form(
    source: str,
    encoders: EncoderFlags,
    reading: ReadingFlags,
    table: TableForm,
    out: Path | None,
    *,
    force: bool,
    json: bool,
) -> None:
    """Do what `ecliptic captions` does, and print its new name once."""
    from ecliptic.cli.texts import refuse_missing_files

    command = ("repair" if table.repair else "verify") if table.verify else "write"
    if table.repair and not table.verify:
        raise typer.BadParameter("--repair needs --verify.")
    say(f"note: this is now `ecliptic captions {command}`; the old form still works.")
    if table.verify:
        check_captions(Path(source), encoders, reading, repair=table.repair, json=json)
        return
    refuse_missing_files([source])
    if out is None:
        raise typer.BadParameter("a table needs --out, the folder of its cache.")
    check_captions_paths(source, out, encoders, force=force)
    conditioner = encoders.conditioner()
    write_captions(source, conditioner, out, table.columns(), reading.how, json=json)


def _show(
    text: str,
    conditioner: "Conditioner",
    prompt: PromptFlags,
    how: dict[str, Any],
    *,
    out: Path | None,
    json: bool,
) -> None:
    from ecliptic.diffusion import report_html, report_table, save_conditioning
    from ecliptic.storage import replace_file, text_writer

    made = conditioner(text, **prompt.texts(), hires=prompt.hires(), **how)
    report = made.report()
    notes = tuple(dataclasses.replace(n, text=name_flags(n.text)) for n in report.notes)
    report = dataclasses.replace(report, notes=notes)
    if json:
        print_json(report.to_json())
    elif prompt.explain or not (out or prompt.page):
        print_text(report_table(report), lines=True)
    if prompt.page is not None:
        replace_file(prompt.page, text_writer(report_html(report, text[:80])))
        say(f"the page is {prompt.page}")
    if out is not None:
        about = {"prompt": text} | prompt.texts() | prompt.later()
        names = save_conditioning(made, out, about | {"identity": conditioner.identity(**how)})
        say(f"{', '.join(names)} in {out}")
    say(count_tokens(report))


def count_tokens(report: "ConditioningReport") -> str:
    """The tokens of each prompt and encoder, in words."""
    tokens, dropped = report.token_counts
    return count(tokens, "token") + f", {dropped:,} dropped" * bool(dropped)
