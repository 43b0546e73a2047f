"""`ecliptic train`: train a checkpoint from a recipe and data, or go on with a run."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import INTERRUPTED, TERMINATED, leave
from ecliptic.cli.flags import Force, Json
from ecliptic.cli.output import on_terminal, print_event, print_json, say
from ecliptic.cli.training_lines import describe, print_explanation
from ecliptic.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from ecliptic.train import Report, Run, TrainSettings


Recipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="TOML file with the settings.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings to change, such as optim.rate=1e-5."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder where the paths of the sources begin.",
        show_default="data.root of the recipe",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Go on with the run in this folder; needs no RECIPE."),
]
RunOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for the run.",
        show_default="runs/NAME, the name in the recipe",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Print what will happen, and train nothing.")
]


def train(
    recipe: Recipe = None,
    overrides: Overrides = None,
    data: DataRoot = None,
    resume: Resume = None,
    out: RunOut = None,
    explain: Explain = False,
    as_json: Json = False,
    force: Force = False,
) -> None:
    """Train a CLIP from random weights or any checkpoint.

    --out receives the checkpoints, the last model, which `ecliptic.load` opens, and metrics.jsonl
    with curves.svg. --json prints a line of JSON for each event. Ctrl-C or SIGTERM ends the run
    after the current step and writes a state, from which --resume goes on as if nothing had been;
    the exit code is 130 or 143. A second Ctrl-C stops at once.
    """
    how = _How(json=as_json, force=force)
    if resume is not None:
        if out is not None or explain or force:
            raise typer.BadParameter("--resume goes on in RUN: leave --out, --explain and --force.")
        _go_on(resume, [*([recipe] if recipe else []), *(overrides or [])], data, how)
        return
    if recipe is None:
        raise typer.BadParameter("name a RECIPE, or a run to go on with: --resume RUN.")
    if "=" in recipe and not Path(recipe).exists():
        raise typer.BadParameter(f"name a RECIPE before the setting {recipe!r}.")
    settings = _read(Path(recipe), [*(overrides or []), *_name_root(data)])
    _check_root(settings)
    if explain:
        _explain(settings, how)
    else:
        _begin(settings, Path(recipe), out or _default_out(settings.name), how)


@dataclass(frozen=True)
class _How:
    """Flags of how the command speaks and writes."""

    json: bool
    force: bool


def _begin(settings: "TrainSettings", recipe: Path, out: Path, how: _How) -> None:
    """A new run."""
    from ecliptic.storage import check_outputs, refuse_inputs
    from ecliptic.train import (
        METRICS,
        count_processes,
        find_notes,
        is_first_process,
        train as run_training,
    )

    refuse_inputs([out], [settings.data.root])
    check_outputs([out / METRICS], [recipe], force=True, make_folders=True)
    for note in find_notes(settings, count_processes()) if is_first_process() else ():
        say(f"note: {note}")

    def work(report: "Report", stop: Callable[[], bool]) -> "Run":
        return run_training(settings, out, report, stop, overwrite=how.force)

    _follow(work, settings.steps, 0, out, how)


def _go_on(folder: Path, changes: list[str], data: Path | None, how: _How) -> None:
    """Go on with a run."""
    from ecliptic.train import RunFolder, is_first_process, read_settings, resume

    for word in changes:
        if "=" not in word:
            raise typer.BadParameter(
                f"--resume has the settings of the run: leave {word!r} out, or write KEY=VALUE."
            )
    changes = [*changes, *_name_root(data)]
    try:
        settings = read_settings(folder, changes)
    except ConfigError as error:
        read_settings(folder)  # raises if the run is wrong itself
        raise typer.BadParameter(f"{error}") from None
    _check_root(settings)
    done = max(RunFolder(folder, 1).steps(), default=0)
    if is_first_process():
        doing = "going on" if done < settings.steps else "nothing is left to do"
        say(f"{doing} after step {done} of {settings.steps}")

    def work(report: "Report", stop: Callable[[], bool]) -> "Run":
        return resume(folder, report, stop, changes)

    _follow(work, settings.steps, done, folder, how)


def _explain(settings: "TrainSettings", how: _How) -> None:
    from ecliptic.train import explain

    found = explain(settings)
    if how.json:
        print_json(found.to_dict())
    else:
        print_explanation(found)


def _read(recipe: Path, overrides: list[str]) -> "TrainSettings":
    """The settings; a usage error if the recipe is right without the overrides."""
    from ecliptic.settings import load_toml
    from ecliptic.train import TrainSettings

    try:
        return load_toml(TrainSettings, recipe, overrides, where="settings")
    except ConfigError as error:
        load_toml(TrainSettings, recipe)  # raises if it is wrong itself
        raise typer.BadParameter(f"{error}") from None


def _name_root(data: Path | None) -> list[str]:
    """--data as an override."""
    return [] if data is None else [f"data.root={json.dumps(str(data), ensure_ascii=False)}"]


def _check_root(settings: "TrainSettings") -> None:
    """Raise StorageError if the data's folder is not there."""
    root = settings.data.root
    if not root.is_dir():
        here = "" if root.is_absolute() else " in the current folder"
        raise StorageError(
            f"there is no folder {root}{here}; name the folder of the training data with --data."
        )


def _default_out(name: str) -> Path:
    """runs/NAME; a usage error if a folder cannot have that name."""
    if Path(name).name != name or not name.strip("."):
        raise typer.BadParameter(
            f"the recipe's name {name!r} cannot be the name of a folder; give --out DIR."
        )
    return Path("runs", name)


class Interruption:
    """Ctrl-C or SIGTERM during training: the first ends the run after its step, another at once.

    Training calls it after every step, as `stop`. Before the first step, one signal ends the run
    at once, because there is nothing to keep.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.code = 0  # to exit with; 0: nobody asked to end

    def __call__(self) -> bool:
        """Count a step, and return whether the run must end after it."""
        self.steps += 1
        return bool(self.code)

    def ask(self, number: int, _: object) -> None:
        """Receive a signal; KeyboardInterrupt or SystemExit if the run must end at once."""
        at_once = bool(self.code) or not self.steps
        self.code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        if at_once:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(self.code)
        say("stopping after this step; Ctrl-C again to stop at once, without a state")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Call `ask` at each signal within the block."""
        before = {one: signal.signal(one, self.ask) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _follow(
    work: "Callable[[Report, Callable[[], bool]], Run]", steps: int, done: int, out: Path, how: _How
) -> None:
    """Train, with a line for each event and a bar on a terminal; say at the end what is where."""
    from ecliptic.engine import progress_bar
    from ecliptic.train import is_first_process

    stop, first = Interruption(), is_first_process()
    with stop.watch(), progress_bar("steps", steps, show=first and on_terminal()) as advance:
        advance(done)

        def report(line: dict[str, Any]) -> None:
            if how.json:
                print_event(line)
            else:
                say(describe(line, steps))

        def end_step() -> bool:
            advance(1)
            return stop()

        run = work(report, end_step)
    if run.stopped and first:
        say(f"go on with: ecliptic train --resume {out}")
    leave(stop.code or INTERRUPTED, when=run.stopped)
    if first:
        say(f"the run is in {out}; `ecliptic info {out}` shows the model")
