"""Everything that is quick on a GPU, in one command: `python -m benchmarks.gpu`.

Encoders alone, from pixels and token ids on the device, in bfloat16: ecliptic's kernels, compiled
towers, and fp8 where the device multiplies 8-bit floats, beside open_clip as it is and compiled,
with the same random weights. Each line before the rates has the smallest cosine with ecliptic's
plain float32 vectors. `--device cpu` runs the same on a CPU, to try the script.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.models import captions, sizes
from benchmarks.timing import measure_in_turns, report
from ecliptic.checkpoints import openai_keys
from ecliptic.inputs import Tokenizer, TokenizerSpec
from ecliptic.model import TwoTowers, random_model
from ecliptic.runtime import Runtime, find_float8
from ecliptic.runtime.kernels.operators import has_float8
from tests import peers

Encode = Callable[[Tensor], Tensor]
BATCHES = {"ViT-B-32": 1024, "ViT-L-14": 256, "ViT-bigG-14": 64}
TEXTS, ROUNDS = 1024, 12
WANTED = {"ViT-B-32": 45_000, "ViT-L-14": 2_700, "ViT-bigG-14": 450}  # images/s on an H200
COMPARED = 64  # inputs whose cosines are printed, and as many more for the search of fp8
BOUND = 0.999


def open_clip(name: str, side: str, model: TwoTowers) -> Any:
    """The tower of open_clip with the same weights, in bfloat16."""
    library, config = peers.open_clip(), sizes(name, side)
    table = library.get_model_config(name)
    weights = {key: value.cpu() for key, value in model.state_dict().items()}
    del weights["logit_scale"]
    theirs = openai_keys(config).from_native(weights)
    if side == "image":
        tower = library.model._build_vision_tower(config.embed, table["vision_cfg"]).eval()
        tower.load_state_dict({k.removeprefix("visual."): v for k, v in theirs.items()})
    else:
        tower = library.model._build_text_tower(config.embed, table["text_cfg"]).eval()
        tower.load_state_dict(theirs, strict=False)
    return tower.to(next(model.parameters()).device, torch.bfloat16)


def make_inputs(name: str, side: str, count: int, device: torch.device) -> Tensor:
    """(B, 3, S, S) pixels or (B, 77) ids of `count` items, on the device."""
    if side == "text":
        return torch.from_numpy(Tokenizer(TokenizerSpec())(captions(count))).to(device)
    image = sizes(name, side).image
    assert image
    side_length = image.image_size
    pixels = torch.randn(count, 3, side_length, side_length, generator=torch.Generator())
    return pixels.to(device, torch.bfloat16)


def contenders(name: str, side: str, model: TwoTowers, seen: Tensor) -> dict[str, Encode]:
    """Encoders in bfloat16 by name; `model` becomes bfloat16."""
    tower = open_clip(name, side, model)
    runs = {"ecliptic": Runtime(model, "bf16", kernels="auto")}
    runs["ecliptic, compiled"] = Runtime(model, kernels="compiled")
    if has_float8(seen.device):
        given = (seen, None) if side == "image" else (None, seen)
        layers = find_float8(model, *given, BOUND)
        print(f"  fp8 keeps {len(layers.report.kept)} of {len(layers.report.layers)} layers")
        runs["ecliptic, fp8"] = Runtime(model, kernels="auto", quantisation=layers)
        runs["ecliptic, fp8 compiled"] = Runtime(model, kernels="compiled", quantisation=layers)
    else:
        print(f"  fp8 is left out: {seen.device} multiplies no 8-bit floats")
    found: dict[str, Encode] = {
        label: run.image if side == "image" else run.text for label, run in runs.items()
    }
    found |= {"open_clip": tower, "open_clip, compiled": torch.compile(tower)}
    return {label: torch.inference_mode()(encode) for label, encode in found.items()}


def measure(name: str, side: str, batch: int, device: torch.device, rounds: int) -> None:
    """Print cosines and rates of one tower."""
    model = random_model(sizes(name, side)).to(device)
    seen = make_inputs(name, side, 2 * COMPARED, device)
    some = seen[:COMPARED]
    plain = Runtime(model, kernels="plain")
    wanted = plain.image(some.float()) if side == "image" else plain.text(some)
    encoders = contenders(name, side, model, seen)
    for label, encode in encoders.items():
        cosine = F.cosine_similarity(encode(some).double(), wanted.double()).min()
        print(f"  {label}: cosine with fp32 at least {float(cosine):.6f}")
    given = make_inputs(name, side, batch, device)
    fed = {label: lambda e=encode: e(given) for label, encode in encoders.items()}
    seconds = measure_in_turns(fed, rounds, warmup=3)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    unit = "images" if side == "image" else "captions"
    report(f"gpu_{side}_{name}_bf16_batch_{batch} ({what})", seconds, batch, unit, "ecliptic")
    if side == "image" and name in WANTED:
        print(f"  wanted on an H200: {WANTED[name]:,} images/s")


def main() -> None:
    """Measure both towers of each architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archs", nargs="*", default=list(BATCHES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, help="items at a time; by default by architecture")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch sees no CUDA device; --device cpu tries the script")
    for name in args.archs:
        images = args.batch or BATCHES.get(name, 256)
        measure(name, "image", images, device, args.rounds)
        measure(name, "text", args.batch or TEXTS, device, args.rounds)


if __name__ == "__main__":
    main()
