"""`ecliptic train`: a recipe and data to a checkpoint."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.options import Force
from ecliptic.cli.output import on_terminal, say
from ecliptic.errors import StorageError

if TYPE_CHECKING:
    from ecliptic.train import Run, TrainSettings


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Settings in TOML.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the training data.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for checkpoint and history.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="Change a setting of the recipe."),
    ] = None,
    force: Force = False,
) -> None:
    """Train a CLIP from random weights, as RECIPE says.

    --out gets the checkpoint in ecliptic's own layout, and history.jsonl with losses and recall as
    they come.
    """
    from ecliptic.checkpoints import write
    from ecliptic.settings import load_toml
    from ecliptic.train import TrainSettings

    settings = load_toml(TrainSettings, recipe, overrides or ())
    if not force and out.exists() and any(out.iterdir()):
        raise StorageError(f"{out} is not empty; pass --force to replace what is there.")
    out.mkdir(parents=True, exist_ok=True)
    write(_train(settings, data, out).checkpoint(), out, overwrite=True)
    say(f"checkpoint and history in {out}; `ecliptic info {out}` shows it")


def _train(settings: "TrainSettings", data: Path, out: Path) -> "Run":
    """The run; its history is on disk line by line, should it be interrupted."""
    from ecliptic.engine import progress_bar
    from ecliptic.train import train as run_training

    with (
        (out / "history.jsonl").open("w", encoding="utf-8", buffering=1) as history,
        progress_bar("steps", settings.steps, show=on_terminal()) as advance,
    ):
        done = 0

        def report(line: dict[str, Any]) -> None:
            nonlocal done
            history.write(json.dumps(line) + "\n")
            advance(line["step"] - done)
            done = line["step"]
            say(_spoken(line))

        return run_training(settings, data, report)


def _spoken(line: dict[str, Any]) -> str:
    """A line of the history for people: "step 50  loss 3.21  rate 0.00025 ..."."""
    words = []
    for name, value in line.items():
        if isinstance(value, dict):
            value = f"R@1 {value['at_1']:.3f} R@5 {value['at_5']:.3f}"
        words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(words)
