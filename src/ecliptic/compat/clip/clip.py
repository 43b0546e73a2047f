"""`load`, `tokenize` and `available_models` with openai/CLIP's arguments (clip/clip.py).

N texts, T tokens of context.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.compat.facade import OpenAIModel
from ecliptic.compat.loading import Implied, Placement, load_as_named, warn_of_folder
from ecliptic.compat.pixels import ToPixels
from ecliptic.compat.simple_tokenizer import tokenize_rows
from ecliptic.errors import TextTooLongError
from ecliptic.inputs import TokenizerSpec

MODELS = {  # OpenAI's name -> the catalog's
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
    return list(MODELS)


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,  # noqa: ARG001 - part of the old signature
    download_root: str | None = None,
) -> tuple[OpenAIModel, ToPixels]:
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
    implied = Implied("clip.load", "quick_gelu")  # the only activation of openai/CLIP
    loaded = load_as_named(MODELS.get(str(name), name), placement, implied)
    model = OpenAIModel(loaded.model)
    assert loaded.card.image_spec  # a facade needs both towers
    return model.eval(), ToPixels(loaded.card.image_spec)


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
) -> Tensor:
    """(N, T) int32 ids of `texts`, padded with 0.

    Special tokens in the text are read as plain text; `SimpleTokenizer.encode` gives their ids.

    Raises:
        TooLongError: a text needs more than `context_length` tokens and `truncate` is False.
    """
    spec = TokenizerSpec(context=context_length)
    try:
        return tokenize_rows(texts, spec, "truncate" if truncate else "error").int()
    except TextTooLongError as error:
        raise TooLongError(str(error)) from None
