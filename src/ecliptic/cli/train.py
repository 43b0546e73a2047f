"""`ecliptic train`: train a checkpoint from a recipe and data."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import INTERRUPTED, leave
from ecliptic.cli.flags import Force
from ecliptic.cli.output import on_terminal, say
from ecliptic.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from ecliptic.train import Run, TrainSettings


HISTORY = "history.jsonl"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file with the settings.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the training data.")] = Path(
        "data"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for the checkpoint and the history.",
            show_default="runs/NAME, the name in the recipe",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="Change a setting of the recipe."),
    ] = None,
    force: Force = False,
) -> None:
    """Train a CLIP from random weights with the settings in RECIPE.

    --out receives the checkpoint in ecliptic's own layout, and history.jsonl, which gets the losses
    and the recall during the run. Ctrl-C ends the run after the current step and writes the
    checkpoint of the steps so far; the exit code is 130. A second Ctrl-C stops at once and writes
    no checkpoint.
    """
    from ecliptic.checkpoints import write
    from ecliptic.storage import check_outputs, refuse_inputs

    settings = _read(recipe, overrides or [])
    if not data.is_dir():
        raise StorageError(
            f"there is no folder {data}; name the folder of the training data with --data."
        )
    out = out or _default_out(settings.name)
    refuse_inputs([out], [data])
    if not force and out.is_dir() and any(out.iterdir()):
        raise StorageError(f"{out} is not empty; pass --force to replace its files.")
    check_outputs([out / HISTORY], [recipe], force=force, make_folders=True)
    run = _train(settings, data, out)
    write(run.checkpoint(), out, overwrite=True)
    say(f"checkpoint and history in {out}; `ecliptic info {out}` shows it")
    leave(INTERRUPTED, when=run.stopped)


def _read(recipe: Path, overrides: list[str]) -> "TrainSettings":
    """The settings; a usage error if the recipe is right without the overrides."""
    from ecliptic.settings import load_toml
    from ecliptic.train import TrainSettings

    try:
        return load_toml(TrainSettings, recipe, overrides)
    except SettingsError as error:
        load_toml(TrainSettings, recipe)  # raises if it is wrong itself
        raise typer.BadParameter(f"--set: {error}") from None


def _default_out(name: str) -> Path:
    """runs/NAME; a usage error if a folder cannot have that name."""
    if Path(name).name != name or not name.strip("."):
        raise typer.BadParameter(
            f"the recipe's name {name!r} cannot be the name of a folder; give --out DIR."
        )
    return Path("runs", name)


class Interruption:
    """Ctrl-C during training: the first ends the run after its step, the second at once.

    Training calls it after every step, as `stop`. Before the first step, one Ctrl-C ends the run
    at once, because there is nothing to keep.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.asked = False

    def __call__(self) -> bool:
        """Count a step, and return whether the run must end after it."""
        self.steps += 1
        return self.asked

    def ask(self, *_: object) -> None:
        """Receive a Ctrl-C; KeyboardInterrupt if the run must end at once."""
        if self.asked or not self.steps:
            raise KeyboardInterrupt
        self.asked = True
        say("stopping after this step; Ctrl-C again to stop at once, without a checkpoint")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Call `ask` at each Ctrl-C within the block."""
        before = signal.signal(signal.SIGINT, self.ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _train(settings: "TrainSettings", data: Path, out: Path) -> "Run":
    """Run the training and write its history line by line, so that an interruption keeps it."""
    from ecliptic.engine import progress_bar
    from ecliptic.storage import start_log
    from ecliptic.train import train as run_training

    stop = Interruption()
    with (
        stop.watch(),
        start_log(out / HISTORY) as history,
        progress_bar("steps", settings.steps, show=on_terminal()) as advance,
    ):
        done = 0

        def report(line: dict[str, Any]) -> None:
            nonlocal done
            history.write(json.dumps(line) + "\n")
            advance(line["step"] - done)
            done = line["step"]
            say(_describe(line))

        return run_training(settings, data, report, stop)


def _describe(line: dict[str, Any]) -> str:
    """A line of the history for people: "step 50  loss 3.21  rate 0.00025 ..."."""
    words = []
    for name, value in line.items():
        if isinstance(value, dict):
            value = f"R@1 {value['at_1']:.3f} R@5 {value['at_5']:.3f}"
        words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(words)
