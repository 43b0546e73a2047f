"""Trains the embedded drawing model: `python -m scripts.drawing recipes/drawing.toml --data DIR`.

It goes on where the folder of --out stopped. --write FILE writes the averaged weights in half
precision, from the last state, without training.
"""

import argparse
import sys
from pathlib import Path

import torch

from ecliptic.drawing import (
    DrawingProgress,
    DrawingSettings,
    read_drawings,
    read_state,
    train_drawing,
    write_drawing_model,
)
from ecliptic.engine import load
from ecliptic.settings import load_toml


def main() -> None:
    """Read the arguments, and train or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, help="settings in TOML")
    parser.add_argument("--data", help="folder with the drawings, in place of data.root")
    parser.add_argument("--out", type=Path, default=Path("runs/drawing"), help="folder of the run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", type=Path, help="file of the weights; nothing is trained")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    overrides = [f"data.root={given.data!r}"] if given.data else []
    settings = load_toml(DrawingSettings, given.recipe, overrides)
    clip = load()
    if given.write:
        net = read_state(settings, clip.card.space, given.out)
        write_drawing_model(given.write, net, clip.card.space)
        return
    drawings = read_drawings(settings, clip)
    print(f"{len(drawings)} drawings", file=sys.stderr, flush=True)
    train_drawing(settings, drawings, clip.card.space, given.out, tell)


def tell(progress: DrawingProgress) -> None:
    """One line for people."""
    line = f"step {progress.step}  loss {progress.loss:.4f}  {progress.seconds:.2f} s a step"
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
