"""openai/CLIP's clip/clip.py: `load`, `tokenize` and what scripts take from beside them.

N texts, T tokens of context.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.checkpoints import write
from ecliptic.compat.clip.model import CLIP, build_model
from ecliptic.compat.clip.simple_tokenizer import SimpleTokenizer
from ecliptic.compat.loading import Implied, Placement, load_as_named, warn_of_folder
from ecliptic.compat.pixels import Compose, ToPixels
from ecliptic.compat.simple_tokenizer import tokenize_rows
from ecliptic.engine import open_checkpoint
from ecliptic.errors import TextTooLongError
from ecliptic.inputs import ImageSpec, TokenizerSpec

__all__ = ["available_models", "build_model", "load", "tokenize"]

_MODELS = {  # OpenAI's name -> the catalog's
    "RN50": "RN50/openai",
    "RN101": "RN101/openai",
    "RN50x4": "RN50x4/openai",
    "RN50x16": "RN50x16/openai",
    "RN50x64": "RN50x64/openai",
    "ViT-B/32": "ViT-B-32/openai",
    "ViT-B/16": "ViT-B-16/openai",
    "ViT-L/14": "ViT-L-14/openai",
    "ViT-L/14@336px": "ViT-L-14-336/openai",
}


class TooLongError(TextTooLongError, RuntimeError):
    """A text is longer than the context; also a RuntimeError, which scripts for clip catch."""


def available_models() -> list[str]:
    """The names of OpenAI's models."""
    return list(_MODELS)


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,  # noqa: ARG001 - part of the old signature
    download_root: str | None = None,
) -> tuple[CLIP, ToPixels]:
    """The model, in eval mode, and its preprocessing.

    Args:
        name: one of `available_models()`, anything `ecliptic.load` takes, or a file.
        device: None is CUDA if there is a GPU, else CPU; CUDA uses half precision, as the original.
        jit: accepted and ignored; nothing is compiled, the numbers are the same.
        download_root: not used, with a warning; HF_HOME moves the cache of downloads.

    Raises:
        EclipticError: as `ecliptic.load`.
    """
    warn_of_folder("download_root", download_root)
    place = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    placement = Placement(place, "fp16" if place.startswith("cuda") else "fp32")
    implied = Implied(
        by="clip.load",
        remedy='use ecliptic.load(path, activation="gelu"), because openai/CLIP has QuickGELU only',
        activation="quick_gelu",
    )
    loaded = load_as_named(_MODELS.get(str(name), name), placement, implied)
    model = CLIP.of(loaded.model)
    assert loaded.card.image_spec  # a facade needs both towers
    return model.eval(), ToPixels(loaded.card.image_spec)


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
) -> Tensor:
    """(N, T) int32 ids of `texts`, padded with 0.

    Special tokens in the text become their ids, as in the original.

    Raises:
        TooLongError: a text needs more than `context_length` tokens and `truncate` is False.
    """
    spec = TokenizerSpec(context=context_length)
    ids, cut = tokenize_rows(texts, spec, SimpleTokenizer.specials)
    if cut and not truncate:
        raise TooLongError(f"{cut}. Shorten them, or pass truncate=True to cut them.")
    return ids.int()


def _transform(n_px: int) -> Compose:
    """The preprocessing for images of `n_px` pixels a side."""
    return ToPixels(ImageSpec(size=n_px))


def _download(url: str, root: str | None = None) -> str:
    """The path of a state dict for `build_model`, written into `root` the first time.

    Args:
        url: a value of `_MODELS`, or anything `ecliptic.load` takes.
        root: a folder; None is ~/.cache/clip, as in the original.
    """
    folder = Path(root or "~/.cache/clip").expanduser()
    path = folder / f"{Path(url.replace('/', '-')).stem}.pt"
    if not path.exists() or Path(url).exists():  # a file of the user may have changed
        write(open_checkpoint(url), path, layout="openai", overwrite=True)
    return str(path)


@cache
def __getattr__(name: str) -> Any:
    if name == "_tokenizer":
        return SimpleTokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
