"""What the scripts of `wild_clip.py` and `wild_open_clip.py` share."""

from typing import Any

from torch import Tensor

LABELS = ["a dog", "a cat", "a red car", "the sea at night", "two people"]


def show(name: str, values: Any) -> None:
    """Print a tensor in full, in a form that `test_wild.py` compares number by number."""
    if isinstance(values, Tensor):
        listed = values.detach().float().flatten().tolist()
        print(name, tuple(values.shape), " ".join(f"{v:.4f}" for v in listed[:400]))
    else:
        print(name, values)
