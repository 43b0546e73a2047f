"""The `ecliptic` command: the group of all commands, which turns errors into messages.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 some items were rejected, 130 interrupted, 143
ended by SIGTERM. If the reader of a pipe stops early (`| head`), the command ends with 1 and no
message. Nothing here or in the commands' modules imports torch, numpy or Pillow before a command
runs.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ecliptic import __version__
from ecliptic.cli import (
    aesthetic,
    bench,
    captions,
    classify,
    condition,
    convert,
    demo,
    doctor,
    draw,
    duplicates,
    edit,
    embed,
    guide,
    index,
    info,
    library,
    lint,
    models,
    moderate,
    score,
    search,
    similarity,
    sketch,
    tokens,
    train,
)
from ecliptic.cli.examples import EXAMPLES
from ecliptic.cli.exits import FAILED, INTERRUPTED
from ecliptic.cli.help import HelpfulCommand, write_examples
from ecliptic.cli.output import (
    escape_unknown_characters,
    print_text,
    print_traceback,
    say,
    shorten_warnings,
)
from ecliptic.cli.wording import name_flags, plain_usage
from ecliptic.errors import EclipticError, printable


class Commands(TyperGroup):
    """Runs a command, and turns an error into a message on stderr and an exit code."""

    def make_context(self, *given: Any, **options: Any) -> Any:
        """Parse the flags before the command's name."""
        with _plain_usage_errors():
            return super().make_context(*given, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` holds."""
        try:
            with _plain_usage_errors():
                result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe raises here, not when the interpreter ends
        except (EclipticError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # typer ends without a message
            if ctx.params.get("show_traceback"):
                print_traceback()
            say(f"error: {name_flags(error)}", lines=isinstance(error, EclipticError))
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        return result

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 of typer
        """Write first commands to try."""
        write_examples(EXAMPLES[""], formatter)


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    """Make the messages of typer plain, and printable: it quotes what the user wrote."""
    try:
        yield
    except TyperException as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # its message is the help, in lines
            error.message = printable(plain_usage(error.message))
        raise


app = typer.Typer(
    name="ecliptic",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich would double the time to show it
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"ecliptic {__version__}")
        raise typer.Exit


@app.callback()
def ecliptic(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the Python traceback of an error.")
    ] = False,
) -> None:
    """CLIP on your own machine: load any checkpoint, embed, classify, compare, convert, train.

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 some items were rejected, 130 interrupted.
    """


for command in (
    demo.demo,
    models.models,
    info.info,
    convert.convert,
    doctor.doctor,
    bench.bench,
    index.index,
    search.search,
    duplicates.duplicates,
    embed.embed,
    similarity.similarity,
    classify.classify,
    moderate.moderate,
    aesthetic.aesthetic,
    score.score,
    tokens.tokens,
    lint.lint,
    condition.condition,
    draw.draw,
    sketch.sketch,
    edit.edit,
    guide.guide,
    train.train,
):
    app.command(cls=HelpfulCommand)(command)
app.add_typer(library.app, name="library")
app.add_typer(captions.app, name="captions")


def run() -> None:
    """The entry point of the console script; never returns."""
    escape_unknown_characters()
    shorten_warnings()
    try:
        app(prog_name="ecliptic")
    except Exception:  # a bug; Python would print the message as it is
        print_traceback()
        sys.exit(FAILED)
    finally:
        gc.freeze()  # or Python looks for garbage among all objects of PyTorch before it ends
