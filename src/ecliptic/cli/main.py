"""The `ecliptic` command: the group of all commands, which turns errors into messages.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 some items were rejected, 130 interrupted. If the
reader of a pipe stops early (`| head`), the command ends with 1 and no message. Nothing here or in
the commands' modules imports torch, numpy or Pillow before a command runs.
"""

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ecliptic import __version__
from ecliptic.cli import (
    captions,
    classify,
    condition,
    convert,
    demo,
    doctor,
    embed,
    info,
    lint,
    models,
    similarity,
    tokens,
    train,
)
from ecliptic.cli.exits import FAILED, INTERRUPTED
from ecliptic.cli.output import escape_unknown_characters, say, shorten_warnings
from ecliptic.errors import EclipticError


class Commands(TyperGroup):
    """Runs a command, and turns an error into a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` holds."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe raises here, not when the interpreter ends
        except (EclipticError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # typer ends without a message
            if ctx.params.get("show_traceback"):
                traceback.print_exc()
            say(f"error: {error}")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        return result


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
        print(f"ecliptic {__version__}")
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
    embed.embed,
    similarity.similarity,
    classify.classify,
    tokens.tokens,
    lint.lint,
    condition.condition,
    train.train,
):
    app.command()(command)
app.add_typer(captions.app, name="captions")


def run() -> None:
    """The entry point of the console script; never returns."""
    escape_unknown_characters()
    shorten_warnings()
    app(prog_name="ecliptic")
