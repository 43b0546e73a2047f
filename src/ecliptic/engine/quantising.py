"""Finds the layers of a loaded model that can be int8 or fp8, with inputs to compare.

Without inputs of the user these are the bundled drawings, whole, mirrored and in parts, and
prompts about them. They are like what "mini" is for; a model of photographs should be given
photographs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine.clip import Clip
from ecliptic.engine.image_lists import Images, image_items
from ecliptic.errors import ConfigError
from ecliptic.inputs import Preprocess, fill, open_image, templates
from ecliptic.model import Float8Layers, Quantisation, ReducedName, VisionTransformer
from ecliptic.runtime import KernelMode, check_place, find_float8, quantise

MIN_COSINES: Mapping[ReducedName, float] = MappingProxyType({"int8": 0.9998, "fp8": 0.999})
_DRAWINGS = Path(__file__).parents[1] / "report" / "drawings"
_PARTS = ((0, 0, 0.6, 0.6), (0.4, 0, 1, 0.6), (0, 0.4, 0.6, 1), (0.4, 0.4, 1, 1))  # corners
_PROMPTS = 10  # of each drawing


def search_note(kind: str) -> str:
    """What to tell before layers are searched for."""
    return f"finding the layers that can be {kind}, which may take minutes"


def find_bound(
    precision: object, min_cosine: float | None, device: torch.device, kernels: KernelMode
) -> float | None:
    """The bound for "int8" or "fp8"; None for every other precision.

    Raises:
        ConfigError: a device on which it does not run, or a bound that is not between 0 and 1.
    """
    if not isinstance(precision, str) or precision not in MIN_COSINES:
        return None
    kind = cast("ReducedName", precision)
    check_place(kind, device, kernels)
    bound = MIN_COSINES[kind] if min_cosine is None else min_cosine
    if not isinstance(bound, float) or not 0 < bound < 1:
        raise ConfigError(f"min_cosine must be a number above 0 and below 1, got {bound!r}.")
    return bound


def stored_int8(
    checkpoint: Checkpoint, precision: object, min_cosine: float | None, device: torch.device
) -> Quantisation | None:
    """The int8 layers of the file if they are to be used.

    Raises:
        ConfigError: `min_cosine` without int8 or fp8, or above that of the file.
    """
    found = checkpoint.quantisation
    used = found if precision == "int8" or (precision == "auto" and device.type == "cpu") else None
    if min_cosine is None:
        return used
    if used is None and precision not in MIN_COSINES:
        raise ConfigError(
            f'min_cosine is for precision="int8" or "fp8", not {str(precision)!r}; leave it out.'
        )
    if used is not None and used.report.worst < min_cosine:
        raise ConfigError(
            f"{checkpoint.name} is int8 with a smallest cosine of {used.report.worst:.6f}, below "
            f"min_cosine {min_cosine}; leave min_cosine out, or convert the float32 model again "
            f"with this bound."
        )
    return used


def find_quantisation(
    clip: Clip,
    min_cosine: float = MIN_COSINES["int8"],
    images: "Images | None" = None,
    texts: Sequence[str] | None = None,
) -> Quantisation:
    """The int8 layers of a float32 model on the CPU, with a report of their errors.

    `clip.quantised` makes the int8 model of it.

    Args:
        clip: is not changed.
        min_cosine: layers are kept in float32 until no vector that is compared has a smaller cosine
            with that of float32.
        images: a few hundred, like those in use; None is 180 views of the bundled drawings.
        texts: a few hundred; None is 300 prompts about the drawings. Of both, every second one is
            only compared.

    Raises:
        ConfigError: another precision or device, fewer than 20 inputs, inputs for a tower that has
            no int8, or a bound that is not between 0 and 1.
    """
    _check_source(clip, "int8", "fp32")
    check_place("int8", clip.device, "auto")
    inputs = _inputs(clip, images, texts)
    return replace(quantise(clip.model, *inputs, min_cosine), space=clip.card.space)


def find_float8_layers(
    clip: Clip,
    min_cosine: float = MIN_COSINES["fp8"],
    images: "Images | None" = None,
    texts: Sequence[str] | None = None,
) -> Float8Layers:
    """The layers of a bfloat16 model that can be computed in 8-bit floats, with their errors.

    As `find_quantisation`: layers are kept in bfloat16 until the bound holds, and cosines are those
    with bfloat16. Nothing but the choice of layers depends on the inputs. Blocks are compared one
    by one, not as compiled towers, which round at other places.
    """
    _check_source(clip, "fp8", "bf16")
    check_place("fp8", clip.device, clip.runtime.kernels)
    inputs = _inputs(clip, images, texts)
    plain = clip.runtime.kernels == "plain"
    found = find_float8(clip.model, *inputs, min_cosine, plain=plain)
    return replace(found, space=clip.card.space)


def _check_source(clip: Clip, kind: ReducedName, wanted: str) -> None:
    if clip.runtime.precision != wanted:
        raise ConfigError(
            f"{kind} is made of a model in {wanted}, but this one is {clip.runtime.precision} on "
            f'{clip.device}; load it with precision="{wanted}".'
        )


def _inputs(
    clip: Clip, images: "Images | None", texts: Sequence[str] | None
) -> tuple[Tensor | None, Tensor | None]:
    """Pixels (N, 3, S, S) and ids (N, T), each for a tower of transformer blocks."""
    pixels = tokens = None
    if isinstance(clip.model.image, VisionTransformer):
        pixels = _pixels(clip.preprocessor, images)
    elif images is not None:
        raise ConfigError(
            f"{clip.card.name} has no vision transformer, and images are calibrated on for those "
            "only; leave the images out."
        )
    if clip.model.text is not None:
        tokens = clip.tokenize(bundled_texts() if texts is None else list(texts), "truncate")
    elif texts is not None:
        raise ConfigError(f"{clip.card.name} has no text tower; leave the texts out.")
    return pixels, tokens


def _pixels(preprocess: Preprocess, images: "Images | None") -> Tensor:
    """(N, 3, S, S) of the images."""
    found = bundled_images() if images is None else image_items(images)
    return torch.stack([torch.from_numpy(preprocess(image)) for image in found])


def bundled_images() -> list[Image.Image]:
    """30 drawings six times: whole, mirrored, and their four corners.

    The order of the drawings is always the same and their number even, so a drawing is either
    calibrated on or compared, never both.
    """
    drawings = [open_image(path).convert("RGB") for path in sorted(_DRAWINGS.glob("*.png"))]
    mirrored = [drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for drawing in drawings]
    parts = [_crop(drawing, *part) for part in _PARTS for drawing in drawings]
    return [*drawings, *mirrored, *parts]


def _crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    box = left * width, top * height, right * width, bottom * height
    left, top, right, bottom = map(int, box)
    return image.crop((left, top, right, bottom))


def bundled_texts() -> list[str]:
    """300 prompts: each drawing's name in its own ten of the 80 prompts for ImageNet."""
    prompts = templates("imagenet")
    names = [path.stem.replace("-", " ") for path in sorted(_DRAWINGS.glob("*.png"))]
    chosen = [
        (name, prompts[(place * 7 + n * 8) % len(prompts)])
        for n in range(_PROMPTS)
        for place, name in enumerate(names)
    ]
    return [text for name, prompt in chosen for text in fill([prompt], name)]
