"""Recognises the layouts of textual inversion files by their keys.

A1111 (modules/textual_inversion), diffusers (`load_textual_inversion`), kohya's sd-scripts
(train_textual_inversion.py), SDXL trainers, and other layouts that ComfyUI reads (sd1_clip.py
`load_embed`). This file only finds the tensors and does not check them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.adapters.parts import part_of_width
from ecliptic.errors import WeightsMismatchError

# key that names an encoder -> its part; .pti files have `text_encoders_#`
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
    """One inversion as a file has it; its tensors are not checked."""

    layout: str
    vectors: Mapping[str, Tensor]  # part -> vectors; "" if the file names none
    name: str | None = None  # its name in the file
    notes: tuple[str, ...] = ()


def recognise(content: object, where: str) -> tuple[Found, ...]:
    """Find the inversions in the content of a file; `where` names it in errors.

    Raises:
        WeightsMismatchError: there is none, or the tensors are not an inversion.
    """
    if isinstance(content, Tensor):
        return (Found("tensor", {"": content}),)
    if isinstance(content, list | tuple):
        return (_read_list(content, where),)
    if not isinstance(content, Mapping):
        raise WeightsMismatchError(f"{where} holds a {type(content).__name__}, not an inversion.")
    if PARAMETER in content:
        return (_read_a1111(content, where),)
    if bundled := _find_bundled(content):
        return tuple(_read_bundled(name, tensors, where) for name, tensors in bundled.items())
    return (_read_dict(content, where),)


def _read_a1111(content: Mapping[object, object], where: str) -> Found:
    """Read `string_to_param`, in PyTorch 1.11 a module with its tensors in `_parameters`."""
    parameters = content[PARAMETER]
    if isinstance(parameters, Mapping) and isinstance(parameters.get("_parameters"), Mapping):
        parameters = parameters["_parameters"]
    if not isinstance(parameters, Mapping) or len(parameters) != 1:
        count = len(parameters) if isinstance(parameters, Mapping) else 0
        raise WeightsMismatchError(
            f"{where}: {PARAMETER} must hold exactly one tensor, but holds {count}; save "
            "one inversion per file."
        )
    [tensor] = parameters.values()
    if not isinstance(tensor, Tensor):
        raise WeightsMismatchError(
            f"{where}: {PARAMETER} holds a {type(tensor).__name__} instead of a tensor."
        )
    name = content.get("name")
    return Found("a1111", {"": tensor}, name if isinstance(name, str) else None)


def _find_bundled(content: Mapping[object, object]) -> dict[str, dict[str, Tensor]]:
    """Find the inversions in a LoRA file: name -> key -> tensor."""
    bundled: dict[str, dict[str, Tensor]] = {}
    for key, tensor in content.items():
        if isinstance(key, str) and key.startswith(BUNDLE) and isinstance(tensor, Tensor):
            name, inner = _split(key.removeprefix(BUNDLE))
            bundled.setdefault(name, {})[inner] = tensor
    return bundled


def _split(rest: str) -> tuple[str, str]:
    """Split `<name>.<key>`; the name may have dots before a known key."""
    for key in (f"{PARAMETER}.*", "emb_params", *ENCODERS, *OTHER_ENCODERS):
        if rest.endswith(f".{key}"):
            return rest.removesuffix(f".{key}"), key
    name, _, key = rest.partition(".")
    return name, key


def _read_bundled(name: str, tensors: Mapping[str, Tensor], where: str) -> Found:
    parts, notes = _find_parts(tensors)
    if not parts and len(tensors) == 1:
        parts = {"": next(iter(tensors.values()))}
    if not parts:
        raise WeightsMismatchError(
            f"{where}: the bundled inversion {name!r} has the keys {_list_names(tensors)}, but "
            f"needs {PARAMETER}.*, clip_l or clip_g."
        )
    return Found("bundle", parts, name, notes)


def _find_parts(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Find the tensors whose keys name an encoder, by part, and write notes on unused ones."""
    parts = {part: tensors[key] for key, part in ENCODERS.items() if key in tensors}
    unused = [key for key in tensors if key in OTHER_ENCODERS]
    return parts, tuple(f"vectors for {key}, which is not a CLIP, are not used" for key in unused)


def _read_dict(content: Mapping[object, object], where: str) -> Found:
    """Read a dict of tensors: SDXL's by encoder, kohya's `emb_params`, else diffusers' by token."""
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    parts, notes = _find_parts(tensors)
    if parts and all(key in ENCODERS or key in OTHER_ENCODERS for key in tensors):
        return Found("sdxl", parts, None, notes)
    if len(tensors) != 1:
        raise WeightsMismatchError(
            f"{where} holds {len(tensors)} tensors ({_list_names(tensors)}), but an inversion has "
            "one per encoder; if it is a LoRA, which changes weights, read it with `read_lora`."
        )
    [(key, tensor)] = tensors.items()
    if key == "emb_params":
        return Found("kohya", {"": tensor})
    if key == f"{PARAMETER}.*":
        return Found("a1111", {"": tensor})
    return Found("diffusers", {"": tensor}, key)


def _read_list(content: Sequence[object], where: str) -> Found:
    """Read a list of dicts of tensors; vectors of one width are concatenated, as in ComfyUI."""
    rows: dict[int, list[Tensor]] = {}
    for entry in content:
        values = list(entry.values()) if isinstance(entry, Mapping) else [entry]
        for tensor in values:
            if isinstance(tensor, Tensor) and tensor.ndim and tensor.numel():
                wide = tensor.float() if tensor.is_floating_point() else tensor  # joins float8 too
                rows.setdefault(tensor.shape[-1], []).append(wide)
    if not rows:
        raise WeightsMismatchError(f"{where} is a list without tensors, not an inversion.")
    vectors: dict[str, Tensor] = {}
    for width, tensors in rows.items():
        part = part_of_width(width) if len(rows) > 1 else ""
        if part is None:
            raise WeightsMismatchError(
                f"{where} is a list of vectors of the widths {sorted(rows)}, but no known encoder "
                f"has the width {width}."
            )
        vectors[part] = torch.cat([tensor.reshape(-1, width) for tensor in tensors])  # (n, D)
    return Found("list", vectors)


def _list_names(names: Mapping[str, Tensor]) -> str:
    shown = ", ".join(list(names)[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "none"
