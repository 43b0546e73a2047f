"""Makes textual inversion and LoRA files as each tool writes them, from seeded random numbers."""

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from torch import Tensor

Pairs = dict[str, tuple[Tensor, Tensor]]  # Hugging Face module -> up (out, rank), down (rank, in)
ATTENTION = tuple(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out"))
ALL = (*ATTENTION, "mlp.fc1", "mlp.fc2")


def vectors(count: int = 3, width: int = 32, seed: int = 0) -> Tensor:
    """(count, width), with values like the token embeddings of the tiny encoders."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) * width**-0.5


def a1111(rows: Tensor, name: str = "trained") -> dict[str, Any]:
    """The content of a file of A1111's `Embedding.save`."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": rows},
        "name": name,
        "step": 500,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }


def save(path: Path, content: Any) -> Path:
    """Save `content` with torch.save, or with safetensors if the suffix is its own."""
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


# layout -> (file name, content of it) for vectors that one encoder takes
SINGLE: dict[str, tuple[str, Callable[[Tensor], Any]]] = {
    "a1111": ("file.pt", a1111),
    "a1111-parameter": ("file.pt", lambda rows: a1111(torch.nn.Parameter(rows))),
    "a1111-wrapped": (
        "file.pt",
        lambda rows: {"string_to_param": {"_parameters": {"*": rows}, "training": True}},
    ),
    "diffusers": ("learned_embeds.bin", lambda rows: {"<cat>": rows}),
    "diffusers-safe": ("learned_embeds.safetensors", lambda rows: {"<cat>": rows}),
    "kohya": ("file.safetensors", lambda rows: {"emb_params": rows}),
    "list": ("file.pt", lambda rows: [{"a": row} for row in rows]),
    "tensor": ("file.pt", lambda rows: rows),
}


def png_with_chunk(path: Path, content: Mapping[str, Any]) -> Path:
    """Save an image with the inversion in its text chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(_json(content)).decode())
    Image.new("RGB", (24, 16), (200, 30, 90)).save(path, pnginfo=info)
    return path


def image_with_pixels(path: Path, content: Mapping[str, Any], height: int = 64) -> Path:
    """Save an image with the inversion in the low bits of its pixels, in A1111's layout."""
    data = np.frombuffer(zlib.compress(_json(content), 9), np.uint8)
    row = height * 3
    padded = np.resize(data, (len(data) // row + 1) * row).reshape(height, -1, 3)
    ornament = np.full_like(padded, 0x50)
    low, high = ((half ^ _mask(half.shape)) | ornament for half in (padded & 0x0F, padded >> 4))
    black = np.zeros((height, 1, 3), np.uint8)
    middle = np.full((height, 40, 3), 0x77, np.uint8)
    pixels = np.concatenate([low, black, middle, black, high], axis=1)
    Image.fromarray(pixels).save(path, lossless=True)  # PNG always is
    return path


def encode(path: Path, format_: str) -> bytes:
    """Encode the image at `path` in another format."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, format_)
    return buffer.getvalue()


def _mask(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A1111's sequence, computed one number after another."""
    values, state = [], 0
    for _ in range(int(np.prod(shape))):
        state = (1664525 * state + 1013904223) % 2**32
        values.append(state % 255 & 0x0F)
    return np.array(values, np.uint8).reshape(shape)


def _json(content: Mapping[str, Any]) -> bytes:
    def plain(value: Any) -> Any:
        return {"TORCHTENSOR": value.tolist()}

    return json.dumps(content, default=plain).encode()


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder that LoRAs are made for."""

    width: int = 32
    mlp: int = 64
    depth: int = 5


def pairs(
    sizes: Sizes,
    inner: Iterable[str] = ALL,
    *,
    rank: int = 4,
    seed: int = 0,
    blocks: Iterable[int] | None = None,
) -> Pairs:
    """Random pairs, large enough to change results, for `inner` modules of every block."""
    generator = torch.Generator().manual_seed(seed)
    made: Pairs = {}
    for block in range(sizes.depth) if blocks is None else blocks:
        for name in inner:
            out = sizes.mlp if name == "mlp.fc1" else sizes.width
            into = sizes.mlp if name == "mlp.fc2" else sizes.width
            up = torch.randn(out, rank, generator=generator) * 0.1
            down = torch.randn(rank, into, generator=generator) * 0.1
            made[f"text_model.encoder.layers.{block}.{name}"] = (up, down)
    return made


def kohya(pairs: Pairs, alpha: float | None = None, prefix: str = "lora_te_") -> dict[str, Tensor]:
    """The keys of sd-scripts: words joined by underscores, alpha as a tensor."""
    tensors = {}
    for module, (up, down) in pairs.items():
        name = prefix + module.replace(".", "_")
        tensors |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return tensors


def peft(pairs: Pairs, prefix: str = "text_encoder.") -> dict[str, Tensor]:
    """The keys of PEFT, after the component of diffusers."""
    tensors = {}
    for module, (up, down) in pairs.items():
        tensors[f"{prefix}{module}.lora_B.weight"] = up
        tensors[f"{prefix}{module}.lora_A.weight"] = down
    return tensors


def diffusers(pairs: Pairs, prefix: str = "text_encoder.") -> dict[str, Tensor]:
    """The keys of diffusers' own scheme."""
    tensors = {}
    for module, (up, down) in pairs.items():
        tensors[f"{prefix}{module}.lora_linear_layer.up.weight"] = up
        tensors[f"{prefix}{module}.lora_linear_layer.down.weight"] = down
    return tensors


def diffusers_old(pairs: Pairs, prefix: str = "text_encoder.") -> dict[str, Tensor]:
    """The keys of diffusers' older scheme: older names for attention, newer ones for the MLP."""
    tensors = {}
    for module, (up, down) in pairs.items():
        if "self_attn" not in module:
            tensors |= diffusers({module: (up, down)}, prefix)
            continue
        block, _, name = module.rpartition(".")
        old = f"{prefix}{block}.to_{name.removesuffix('_proj')}_lora"
        tensors |= {f"{old}.up.weight": up, f"{old}.down.weight": down}
    return tensors


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same keys as in transformers 5.6 and later, without `text_model`."""
    return {
        key.replace("text_model.", "").replace("text_model_", ""): tensor
        for key, tensor in tensors.items()
    }


SCHEMES: dict[str, Callable[[Pairs], dict[str, Tensor]]] = {
    "kohya": kohya,
    "peft": peft,
    "diffusers": diffusers,
    "diffusers-old": diffusers_old,
}


def delta(pair: tuple[Tensor, Tensor], alpha: float | None, scale: float = 1.0) -> Tensor:
    """The formula scale (alpha / rank) up @ down."""
    up, down = pair
    rank = down.shape[0]
    return scale * (rank if alpha is None else alpha) / rank * (up @ down)
