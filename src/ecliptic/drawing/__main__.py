"""Trains the drawing model: `python -m ecliptic.drawing recipes/drawing.toml --data DIR`."""

import argparse
import sys
from pathlib import Path

import torch

from ecliptic.drawing.data import read_drawings
from ecliptic.drawing.settings import DrawingSettings
from ecliptic.drawing.training import Progress, train_drawing
from ecliptic.engine import load
from ecliptic.settings import load_toml


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(prog="python -m ecliptic.drawing", description=__doc__)
    parser.add_argument("recipe", type=Path, help="settings in TOML")
    parser.add_argument("--data", help="folder with the drawings, in place of data.root")
    parser.add_argument("--out", type=Path, default=Path("runs/drawing"), help="folder of the run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    overrides = [f"data.root={given.data!r}"] if given.data else []
    settings = load_toml(DrawingSettings, given.recipe, overrides)
    clip = load()
    drawings = read_drawings(settings, clip)
    print(f"{len(drawings)} drawings", file=sys.stderr, flush=True)
    train_drawing(settings, drawings, clip.card.space, given.out, say)


def say(progress: Progress) -> None:
    """One line for people."""
    print(
        f"step {progress.step}  loss {progress.loss:.4f}  {progress.seconds:.2f} s a step",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
