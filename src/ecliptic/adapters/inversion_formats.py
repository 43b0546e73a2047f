"""The layouts in which tools store textual inversions, told apart by their keys.

A1111 (modules/textual_inversion), diffusers (`load_textual_inversion`), kohya's sd-scripts
(train_textual_inversion.py), SDXL trainers, and what ComfyUI reads besides (sd1_clip.py
`load_embed`). Nothing is checked here but which tensors are meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.adapters.parts import part_of_width
from ecliptic.errors import WeightsMismatchError

# keys that name an encoder -> the part they mean; `text_encoders_#` is what .pti files write
ENCODERS = {
    "clip_l": "clip_l",
    "clip_g": "clip_g",
    "clip_h": "clip_h",
    "text_encoders_0": "clip_l",
    "text_encoders_1": "clip_g",
}
OTHER_ENCODERS = ("t5xxl",)
PARAMETER = "string_to_param"
BUNDLE = "bundle_emb."


@dataclass(frozen=True, eq=False)
class Found:
    """One inversion as it stands in a file, its tensors unchecked."""

    layout: str
    vectors: Mapping[str, Tensor]  # part -> vectors; "" where the file does not say
    name: str | None = None  # what the file calls it
    notes: tuple[str, ...] = ()


def recognise(content: object, where: str) -> tuple[Found, ...]:
    """The inversions in the content of a file; `where` names it in errors.

    Raises:
        WeightsMismatchError: none, or tensors that are no inversion.
    """
    if isinstance(content, Tensor):
        return (Found("tensor", {"": content}),)
    if isinstance(content, list | tuple):
        return (_list(content, where),)
    if not isinstance(content, Mapping):
        raise WeightsMismatchError(f"{where} holds a {type(content).__name__}, no inversion.")
    if PARAMETER in content:
        return (_a1111(content, where),)
    if bundled := _bundled(content):
        return tuple(_named(name, tensors, where) for name, tensors in bundled.items())
    return (_plain(content, where),)


def _a1111(content: Mapping[object, object], where: str) -> Found:
    """`string_to_param`, which PyTorch 1.11 wrote as a module whose tensors are `_parameters`."""
    parameters = content[PARAMETER]
    if isinstance(parameters, Mapping) and isinstance(parameters.get("_parameters"), Mapping):
        parameters = parameters["_parameters"]
    if not isinstance(parameters, Mapping) or len(parameters) != 1:
        count = len(parameters) if isinstance(parameters, Mapping) else 0
        raise WeightsMismatchError(
            f"{where}: {PARAMETER} must hold exactly one tensor, it holds {count}; save one "
            "inversion in a file."
        )
    [tensor] = parameters.values()
    if not isinstance(tensor, Tensor):
        raise WeightsMismatchError(
            f"{where}: {PARAMETER} holds a {type(tensor).__name__} instead of a tensor."
        )
    name = content.get("name")
    return Found("a1111", {"": tensor}, name if isinstance(name, str) else None)


def _bundled(content: Mapping[object, object]) -> dict[str, dict[str, Tensor]]:
    """Inversions inside a LoRA: name -> key within it -> tensor."""
    bundled: dict[str, dict[str, Tensor]] = {}
    for key, tensor in content.items():
        if not isinstance(key, str) or not key.startswith(BUNDLE):
            continue
        name, key = _split(key.removeprefix(BUNDLE))
        if isinstance(tensor, Tensor):
            bundled.setdefault(name, {})[key] = tensor
    return bundled


def _split(rest: str) -> tuple[str, str]:
    """`<name>.<key>`, of which the name may have dots and a known key ends it."""
    for key in (f"{PARAMETER}.*", "emb_params", *ENCODERS, *OTHER_ENCODERS):
        if rest.endswith(f".{key}"):
            return rest.removesuffix(f".{key}"), key
    name, _, key = rest.partition(".")
    return name, key


def _named(name: str, tensors: Mapping[str, Tensor], where: str) -> Found:
    parts, notes = _parts(tensors)
    if not parts and len(tensors) == 1:
        parts = {"": next(iter(tensors.values()))}
    if not parts:
        raise WeightsMismatchError(
            f"{where}: the bundled inversion {name!r} has the keys {_listed(tensors)}; one of "
            f"{PARAMETER}.*, clip_l and clip_g was expected."
        )
    return Found("bundle", parts, name, notes)


def _parts(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors whose keys name an encoder, by part, and what is left out."""
    parts = {part: tensors[key] for key, part in ENCODERS.items() if key in tensors}
    left = [key for key in tensors if key in OTHER_ENCODERS]
    return parts, tuple(f"vectors for {key}, which is no CLIP, are not used" for key in left)


def _plain(content: Mapping[object, object], where: str) -> Found:
    """A dict of tensors: SDXL's by encoder, kohya's `emb_params`, else diffusers' by token."""
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    parts, notes = _parts(tensors)
    if parts and all(key in ENCODERS or key in OTHER_ENCODERS for key in tensors):
        return Found("sdxl", parts, None, notes)
    if len(tensors) != 1:
        raise WeightsMismatchError(
            f"{where} holds {len(tensors)} tensors ({_listed(tensors)}), an inversion's file holds "
            "one for each encoder; if it is a LoRA, it changes weights and is read by `read_lora`."
        )
    [(key, tensor)] = tensors.items()
    if key == "emb_params":
        return Found("kohya", {"": tensor})
    if key == f"{PARAMETER}.*":
        return Found("a1111", {"": tensor})
    return Found("diffusers", {"": tensor}, key)


def _list(content: Sequence[object], where: str) -> Found:
    """Dicts of tensors in a list: vectors of one width follow one another, as in ComfyUI."""
    rows: dict[int, list[Tensor]] = {}
    for entry in content:
        values = list(entry.values()) if isinstance(entry, Mapping) else [entry]
        for tensor in values:
            if isinstance(tensor, Tensor) and tensor.ndim:
                rows.setdefault(tensor.shape[-1], []).append(tensor)
    if not rows:
        raise WeightsMismatchError(f"{where} is a list without tensors; no inversion is in it.")
    parts = {width: part_of_width(width) for width in rows}
    unknown = [width for width, part in parts.items() if part is None]
    if len(rows) > 1 and unknown:
        raise WeightsMismatchError(
            f"{where} is a list of vectors of the widths {sorted(rows)}, and which encoder "
            f"{unknown[0]} belongs to cannot be told."
        )
    stacked = {width: _stack(tensors) for width, tensors in rows.items()}
    if len(stacked) == 1:
        return Found("list", {"": next(iter(stacked.values()))})
    return Found("list", {parts[width] or "": tensor for width, tensor in stacked.items()})


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """(n, D) of tensors (..., D), in order."""
    return torch.cat([tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors])


def _listed(names: Mapping[str, Tensor]) -> str:
    shown = ", ".join(list(names)[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "none"
