"""open_clip with the same weights, to be measured in turns with ecliptic.

The weights are written in open_clip's layout and read by open_clip itself, in the same precision
and on the same device. It decodes files one by one, as in its documentation.
"""

import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, MissingExtraError
from ecliptic.model import end_positions
from ecliptic.speed.inputs import list_captions
from ecliptic.speed.memory import available

_NAMES = {"bf16": "bf16", "fp16": "fp16", "fp8": "bf16"}  # of ours -> open_clip's; others: fp32
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Peer:
    """Another library that is ready to encode."""

    name: str  # with its version
    calls: Mapping[str, Callable[[Any], Tensor]]  # by the kind of a workload: its vectors
    notes: tuple[str, ...] = ()  # sentences: what is not compared, and why


def has_open_clip() -> bool:
    """Whether open_clip is installed."""
    return find_spec("open_clip") is not None


def open_peer(clip: Clip) -> Peer:
    """open_clip with the weights of `clip`.

    Raises:
        MissingExtraError: open_clip is not installed, or does not import here.
        UnsupportedLayoutError: open_clip has no such model.
        ConfigError: there is too little memory for a second copy, or open_clip cannot read it.
    """
    if not has_open_clip():
        raise MissingExtraError(
            "open_clip is not installed; `pip install open_clip_torch` to measure it too."
        )
    _check_memory(clip)
    with tempfile.TemporaryDirectory(prefix="ecliptic-") as folder:
        path = Path(folder) / "peer"
        clip.save(path, "open_clip")  # first of all, as it refuses what open_clip cannot hold
        library = _import_open_clip()
        model, transform, tokenizer = _read(library, path, clip)
    calls = _calls(model, transform, tokenizer, clip)
    notes: tuple[str, ...] = ()
    if not _same_tokens(tokenizer, clip):
        del calls["captions"]
        notes = ("captions were not compared: the tokenizer of open_clip gives other token ids.",)
    return Peer(f"open_clip {library.__version__}", calls, notes)


def _import_open_clip() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module("open_clip")
        except Exception as reason:  # a torchvision that does not fit torch fails with RuntimeError
            raise MissingExtraError(
                f"open_clip is installed, but cannot be imported: {_first_line(reason)}; install "
                "the torchvision that belongs to this torch."
            ) from reason


def _check_memory(clip: Clip) -> None:
    """Raise if open_clip's copy, and the file's while it is read, do not fit into memory."""
    needed, free = 8 * clip.card.parameters, available()
    if free is not None and free < needed:
        raise ConfigError(
            f"a second copy of the model needs {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free."
        )


def _read(library: Any, path: Path, clip: Clip) -> tuple[Any, Any, Any]:
    """The model, its image transform and its tokenizer, all read by open_clip."""
    name = f"local-dir:{path}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, _, transform = library.create_model_and_transforms(
                name, precision=_precision(clip), device=clip.device
            )
            return model.eval(), transform, library.get_tokenizer(name)
        except Exception as reason:  # whatever another release raises
            raise ConfigError(
                f"open_clip {library.__version__} cannot read the same weights: "
                f"{_first_line(reason)}; use open_clip_torch 3.0 or newer."
            ) from reason


def _precision(clip: Clip) -> str:
    """That of open_clip which is nearest to the precision of `clip`."""
    return _NAMES.get(clip.card.precision, "fp32")


def _calls(
    model: Any, transform: Any, tokenizer: Any, clip: Clip
) -> dict[str, Callable[[Any], Tensor]]:
    device, dtype = clip.device, _DTYPES[_precision(clip)]

    def encode_files(files: list[bytes]) -> Tensor:
        images = [transform(Image.open(io.BytesIO(data))) for data in files]
        return model.encode_image(torch.stack(images).to(device, dtype), normalize=True)  # type: ignore[no-any-return]

    calls: dict[str, Callable[[Any], Tensor]] = {
        "pixels": lambda pixels: model.encode_image(pixels.to(dtype)),
        "jpegs": encode_files,
        "captions": lambda texts: model.encode_text(tokenizer(texts).to(device), normalize=True),
        "tokens": model.encode_text,
    }
    return {kind: torch.inference_mode()(call) for kind, call in calls.items()}


def _same_tokens(tokenizer: Any, clip: Clip) -> bool:
    """Whether both tokenizers give the same ids up to the end of text, which is all that counts."""
    texts = list_captions(8)[0]
    mine, theirs = clip.tokenize(texts, "truncate"), tokenizer(texts)
    if mine.shape != theirs.shape:
        return False
    ends = end_positions(mine, clip.tokenizer.spec.end_of_text)
    used = torch.arange(mine.shape[1]) <= ends[:, None]
    return bool(torch.equal(mine * used, theirs * used))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
