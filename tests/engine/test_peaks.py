"""A loaded model is in memory once, whatever the layout and the precision of its file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.checkpoints.identity.conform import native_shapes
from ecliptic.checkpoints.layouts.transformers import TABLE
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import (
    ClipConfig,
    Quantisation,
    QuantisationReport,
    QuantisedLinear,
    TextConfig,
    ViTConfig,
)

TEXT = TextConfig(width=256, depth=12, heads=4, mlp=1024, activation="quick_gelu")
IMAGE = ViTConfig(32, 8, width=256, depth=12, heads=4, mlp=1024, activation="quick_gelu")
CONFIG = ClipConfig(embed=64, image=IMAGE, text=TEXT)
LINEARS = {  # sizes of a block of either tower
    "attention.qkv": (768, 256),
    "attention.out": (256, 256),
    "mlp.up": (1024, 256),
    "mlp.down": (256, 1024),
}
FULL, HALF = torch.float32, torch.float16

# Form and dtype of a file, precision to load it in, and the most that it may need at its peak, in
# bytes of the running weights. Queries, keys and values are a sixth of these weights. Where they
# are stacked on reading, the stacks of the stored dtype stay beside a cast model. Old files align
# nothing, so their tensors are copied even before they are stacked.
CASES = {
    "ecliptic": ("ecliptic", FULL, "fp32", 1.12),
    "openai": ("openai", FULL, "fp32", 1.12),
    "open_clip": ("open_clip", FULL, "fp32", 1.12),
    "transformers": ("transformers", FULL, "fp32", 1.12),
    "bin": ("bin", FULL, "fp32", 1.12),
    "legacy": ("legacy", FULL, "fp32", 1.12 + 1 / 6),
    "shards": ("shards", FULL, "fp32", 1.12),
    "pipeline": ("pipeline", FULL, "fp32", 1.12),
    "single": ("single", FULL, "fp32", 1.12),
    "openai from fp16": ("openai", HALF, "fp32", 1.12),
    "transformers from fp16": ("transformers", HALF, "fp32", 1.12 + 1 / 12),
    "transformers to bf16": ("transformers", FULL, "bf16", 1.12 + 1 / 3),
}


@cache
def checkpoint(dtype: torch.dtype, *, text_only: bool = False) -> Checkpoint:
    config = replace(CONFIG, image=None) if text_only else CONFIG
    shapes = native_shapes(config)
    weights = {name: torch.full(shape, 0.02, dtype=dtype) for name, shape in shapes.items()}
    image = None if text_only else ImageSpec(size=IMAGE.image_size)
    return Checkpoint(config, weights, image, TokenizerSpec(), "medium")


def save(form: str, dtype: torch.dtype, folder: Path) -> Path:
    """Write a model of released shape but medium size; returns its path."""
    if form in ("ecliptic", "openai", "open_clip", "transformers"):
        path = folder / ("model.pt" if form == "openai" else "model")
        write(checkpoint(dtype), path, form)  # type: ignore[arg-type]
        return path
    if form == "pipeline":
        write(checkpoint(dtype, text_only=True), folder / "text_encoder", "transformers")
        (folder / "model_index.json").write_text("{}")
        return folder
    if form == "single":
        named = TABLE.from_native(checkpoint(dtype, text_only=True).weights)
        path = folder / "model.ckpt"
        torch.save({f"cond_stage_model.transformer.{n}": x.clone() for n, x in named.items()}, path)
        return path
    write(checkpoint(dtype), folder, "transformers")
    whole = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(whole)
    whole.unlink()
    if form == "shards":
        save_shards(tensors, folder)
    else:
        zipped = form == "bin"
        path = folder / "pytorch_model.bin"
        torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    return folder


def save_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    names, places = sorted(tensors), {}
    for number in range(3):
        part = {name: tensors[name] for name in names[number::3]}
        safetensors.torch.save_file(part, folder / f"{number}.safetensors")
        places |= dict.fromkeys(part, f"{number}.safetensors")
    index = json.dumps({"weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index)


def save_int8(path: Path) -> None:
    """Write the model with all layers of its blocks in int8."""
    linears = {}
    for tower in ("image", "text"):
        for name, (M, K) in LINEARS.items():
            for n in range(IMAGE.depth):
                codes, scales = torch.full((M, K), 30).char(), torch.full((M,), 1e-3)
                layer = QuantisedLinear(codes, scales, torch.zeros(M), torch.ones(K), 0.01, 128)
                linears[f"{tower}.blocks.{n}.{name}"] = layer
    int8 = Quantisation(linears, QuantisationReport(0.99, (), ()))
    write(replace(checkpoint(FULL), quantisation=int8), path)


def peaks(names: tuple[str, ...], folder: Path, kernels: str = "auto") -> dict[str, float]:
    """The peak of loading and using each model, in bytes of its running weights."""
    given = []
    for name in names:
        form, dtype, precision, _ = CASES[name]
        (folder / name).mkdir()
        source = str(save(form, dtype, folder / name))
        how = {"source": source, "precision": precision, "heads": 4, "kernels": kernels}
        given.append(json.dumps(how))
    return dict(zip(names, run(given), strict=True))


def run(given: list[str]) -> list[float]:
    """What `tests.engine.peaks` writes for these lines."""
    command = [sys.executable, "-m", "tests.engine.peaks"]
    ran = subprocess.run(
        command,
        input="\n".join(given),
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not ran.returncode, ran.stderr
    return list(map(float, ran.stdout.split()))


def check(names: tuple[str, ...], folder: Path) -> None:
    found = peaks(names, folder)
    print({name: round(peak, 3) for name, peak in found.items()})
    for name, peak in found.items():
        assert peak < CASES[name][-1], f"{name}: {peak:.3f} times the weights"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_any_layout_needs_memory_for_one_copy(tmp_path: Path) -> None:
    cast = "transformers to bf16"  # no file has its weights, so packed ones may be a copy
    check(tuple(name for name in CASES if name != cast), tmp_path)
    most, packed = CASES[cast][-1], 0.6  # of the weights are those of linear layers of blocks
    for kernels, bound in (("plain", most), ("auto", most + packed)):
        (tmp_path / kernels).mkdir()
        assert peaks((cast,), tmp_path / kernels, kernels)[cast] < bound


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_int8_model_needs_memory_for_one_copy_of_its_codes(tmp_path: Path) -> None:
    """A quarter of the file are codes; the table of tokens is mapped, and few rows of it read."""
    path = tmp_path / "int8.safetensors"
    save_int8(path)
    (found,) = run([json.dumps({"source": str(path), "file": str(path)})])
    print(round(found, 3))
    assert found < 0.6
