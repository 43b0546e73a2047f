"""The caches of kohya's trainers: one `.npz` beside each image, with the tensors of its caption.

`_te_outputs.npz` of SDXL is read and written, `_sd3_te.npz` and `_flux_te.npz` are read. bfloat16,
which NumPy lacks, is written as float32. Each array has the zip's CRC-32, which is compared. These
files name neither caption nor encoder, so a reader cannot tell whether they are stale, or belong to
another image; `ConditionCache` can. Arrays that no trainer writes are not unpacked.

Source: sd-scripts, library/strategy_sdxl.py, strategy_sd3.py, strategy_flux.py (names, shapes, and
how SD3's parts are joined). T tokens, D width, E vector size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.arguments import PromptTensors
from ecliptic.errors import CorruptFileError, ShapeError, StorageError
from ecliptic.storage import check_path, read_npz, replace_file, stream_writer

Array = NDArray[Any]
_LARGEST = 64 << 20  # bytes of one caption; 512 tokens of T5 take 8 MB
_RANKS = {"pool2": 1, "lg_pooled": 1, "l_pooled": 1}  # other float arrays are (T, D)


@dataclass(frozen=True, eq=False)
class KohyaOutputs:
    """The content of one file, as a conditioning of one prompt."""

    family: Literal["sdxl", "sd3", "flux"]
    tokens: Tensor  # (1, T, D)
    pooled: Tensor  # (1, E)
    mask: Tensor | None = None  # (1, T) bool, if the trainer masks attention


def read_kohya(path: Path | str) -> KohyaOutputs:
    """Read the tensors of one caption.

    Raises:
        StorageError: there is no such file.
        CorruptFileError: truncated, with pickled objects, or not one of the three kinds.
        NumericalError: a value is NaN or infinite.
    """
    path = Path(path)
    check_path(path)
    try:
        arrays, there = read_npz(path, _NAMES, _LARGEST)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check the path.") from None
    except CorruptFileError as error:
        raise CorruptFileError(
            f"{path} is not an intact .npz file: {error}; remove it, so that it is written again."
        ) from None
    for names, read in _KINDS:
        if names <= arrays.keys():
            _check_arrays(path, arrays, names)
            return read(path, arrays)
    raise CorruptFileError(
        f"{path} holds {', '.join(there[:20]) or 'nothing'}; kohya's text encoder caches "
        "have hidden_state1, hidden_state2, pool2 (SDXL), lg_out, lg_pooled, t5_out (SD3) or "
        "l_pooled, t5_out (FLUX)."
    )


def write_kohya(
    conditioning: PromptTensors, path: Path | str, *, first_width: int | None = None
) -> None:
    """Write SDXL's `_te_outputs.npz`, all or nothing.

    Args:
        conditioning: of one prompt, from the family "sdxl".
        path: file to write, such as `image_te_outputs.npz`.
        first_width: D of the first encoder; None: D - E, as in SDXL, whose second encoder is as
            wide as its pooled vectors.

    Raises:
        ShapeError: the tensors are not those of one prompt of SDXL.
        NumericalError: a value is NaN or infinite.
        StorageError: the file cannot be written.
    """
    tokens, pooled = conditioning.tokens, conditioning.pooled
    if tokens is None or pooled is None or tokens.shape[0] != 1 or pooled.shape[0] != 1:
        raise ShapeError(
            "kohya's SDXL cache takes the tokens (1, T, D) and vector (1, E) of one prompt, got "
            f"{_shape_of(tokens)} and {_shape_of(pooled)}; pass one result of the family sdxl."
        )
    width = tokens.shape[-1] - pooled.shape[-1] if first_width is None else first_width
    if not 0 < width < tokens.shape[-1]:
        raise ShapeError(
            f"tokens of {tokens.shape[-1]} values cannot be split into {width} values of the first "
            "encoder and the rest; pass first_width, or results of the family sdxl."
        )
    arrays: dict[str, Any] = {
        "hidden_state1": _to_array(tokens[0, :, :width]),
        "hidden_state2": _to_array(tokens[0, :, width:]),
        "pool2": _to_array(pooled[0]),
    }

    # an open file, because a path would get the suffix .npz
    replace_file(Path(path), stream_writer(lambda file: np.savez(file, **arrays)))


def _check_arrays(path: Path, arrays: Mapping[str, Array], names: frozenset[str]) -> None:
    for name in sorted(names):
        array, rank = arrays[name], _RANKS.get(name, 2)
        if array.ndim != rank or not array.size or array.dtype not in (np.float16, np.float32):
            raise CorruptFileError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}, but must have {rank} "
                "axes of float16 or float32; remove the file, so that it is written again."
            )
        check_finite(array, f"{path}: {name}", "remove the file and encode in float32.")


def _read_sdxl(path: Path, arrays: Mapping[str, Array]) -> KohyaOutputs:
    first, second = _to_tensor(arrays["hidden_state1"]), _to_tensor(arrays["hidden_state2"])
    if len(first) != len(second):
        raise CorruptFileError(
            f"{path}: its two encoders have {len(first)} and {len(second)} tokens; remove the file."
        )
    return KohyaOutputs(
        "sdxl", torch.cat([first, second], -1)[None], _to_tensor(arrays["pool2"])[None]
    )


def _read_sd3(path: Path, arrays: Mapping[str, Array]) -> KohyaOutputs:
    """Join CLIP's tokens, padded with zeros to T5's width, and T5's tokens."""
    clip, t5 = _to_tensor(arrays["lg_out"]), _to_tensor(arrays["t5_out"])
    missing = t5.shape[1] - clip.shape[1]
    if missing < 0:
        raise CorruptFileError(
            f"{path}: T5's {t5.shape[1]} values are fewer than CLIP's {clip.shape[1]}."
        )
    if (padded := len(clip) * t5.shape[1] * clip.itemsize) > _LARGEST:
        raise CorruptFileError(
            f"{path}: CLIP's {len(clip)} tokens would take {padded} bytes at T5's width, more than "
            f"the {_LARGEST} of a caption; remove the file."
        )
    tokens = torch.cat([torch.nn.functional.pad(clip, (0, missing)), t5])
    seen_clip = _read_mask(path, arrays, "clip_l_attn_mask", "apply_lg_attn_mask", len(clip))
    seen_t5 = _read_mask(path, arrays, "t5_attn_mask", "apply_t5_attn_mask", len(t5))
    mask = None
    if seen_clip is not None or seen_t5 is not None:
        clip_row = torch.ones(1, len(clip), dtype=torch.bool) if seen_clip is None else seen_clip
        t5_row = torch.ones(1, len(t5), dtype=torch.bool) if seen_t5 is None else seen_t5
        mask = torch.cat([clip_row, t5_row], dim=1)
    return KohyaOutputs("sd3", tokens[None], _to_tensor(arrays["lg_pooled"])[None], mask)


def _read_flux(path: Path, arrays: Mapping[str, Array]) -> KohyaOutputs:
    t5 = _to_tensor(arrays["t5_out"])
    mask = _read_mask(path, arrays, "t5_attn_mask", "apply_t5_attn_mask", len(t5))
    return KohyaOutputs("flux", t5[None], _to_tensor(arrays["l_pooled"])[None], mask)


_KINDS: tuple[tuple[frozenset[str], Callable[[Path, Mapping[str, Array]], KohyaOutputs]], ...] = (
    (frozenset({"hidden_state1", "hidden_state2", "pool2"}), _read_sdxl),
    (frozenset({"lg_out", "lg_pooled", "t5_out"}), _read_sd3),
    (frozenset({"l_pooled", "t5_out"}), _read_flux),
)
_MASKS = {"clip_l_attn_mask", "apply_lg_attn_mask", "t5_attn_mask", "apply_t5_attn_mask"}
_NAMES = _MASKS.union(*(names for names, _ in _KINDS))


def _read_mask(
    path: Path, arrays: Mapping[str, Array], name: str, flag: str, length: int
) -> Tensor | None:
    """Read a mask as (1, T) bool; None if the file does not use it."""
    if flag not in arrays or not arrays[flag].any():
        return None
    mask = arrays.get(name)
    if mask is None or mask.shape != (length,) or mask.dtype.kind not in "iub":
        raise CorruptFileError(
            f"{path} uses the mask {name} of {length} tokens, but it is missing or does not fit; "
            "remove the file, so that it is written again."
        )
    return torch.from_numpy(mask.astype(bool))[None]


def _to_tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _to_array(tensor: Tensor) -> Array:
    check_finite(tensor, "the conditioning", "encode it in float32.")
    tensor = tensor.detach().cpu().contiguous()
    narrow = tensor.dtype in (torch.float16, torch.float32)
    return (tensor if narrow else tensor.float()).numpy()


def _shape_of(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
