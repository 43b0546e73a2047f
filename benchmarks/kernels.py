"""Every precision and kernel of a ViT, beside its peers: `python -m benchmarks.kernels [ARCH]`.

Pixels or captions to unit vectors, in several batches, which `--batches` and `--texts` choose. The
contenders of a precision take turns; each line has the smallest cosine with ecliptic's plain fp32
vectors, and the largest difference. The peers are open_clip as it is and compiled, transformers,
and the exported model in onnxruntime and, where it is installed, in OpenVINO.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks import image, text
from benchmarks.exported import EXPORTED
from benchmarks.models import captions, make_checkpoint
from benchmarks.timing import measure_in_turns, report

Encode = Callable[[Any], Tensor]
IMAGES, TEXTS = (1, 8, 32), (1, 32)
REPEATS, SECONDS = 12, 25.0  # rounds at most, and about so long for a batch
SETTLING = 0.1  # seconds of unmeasured calls before a measured one, at least one call
HALF_BATCH = 8  # images at most of half precision: the peer is very slow on some processors


def ours(name: str, side: str, **how: Any) -> Encode:
    clip = ecliptic.load(make_checkpoint(name, "ecliptic", side), device="cpu", **how)
    clip.runtime.choose()
    return clip.encode_image if side == "image" else clip.encode_text


def peers(name: str, side: str) -> dict[str, Encode]:
    """The peers in float32; an exporting one is left out, with its name, where it is missing."""
    module = image if side == "image" else text
    found: dict[str, Encode] = {
        "open_clip": module.load_open_clip(name),
        "open_clip, compiled": module.load_open_clip(name, compiled=True),
        "transformers": module.load_transformers(name),
    }
    clip = ecliptic.load(make_checkpoint(name, "ecliptic", side), device="cpu", kernels="plain")
    for label, load in EXPORTED.items():
        try:
            found[label] = load(clip, side)
        except ModuleNotFoundError as error:
            print(f"{label} is not measured: {error}")
    return found


def contenders(name: str, side: str) -> Mapping[str, Mapping[str, Encode]]:
    """Precision -> contender -> encoder; ecliptic first."""
    found: dict[str, dict[str, Encode]] = {
        "fp32": {
            "ecliptic": ours(name, side),
            "ecliptic, plain": ours(name, side, kernels="plain"),
            **peers(name, side),
        },
        "bf16": {"ecliptic": ours(name, side, precision="bf16")},
    }
    if side == "image":
        found["bf16"]["open_clip"] = image.load_open_clip(name, torch.bfloat16)
    return found


def compare(found: Tensor, wanted: Tensor) -> str:
    cosine = float(F.cosine_similarity(found, wanted).min())
    return f"cosine at least {cosine:.7f}, difference at most {(found - wanted).abs().max():.1e}"


def measure_batch(name: str, side: str, batch: int, everyone: Any, given: Any) -> None:
    wanted = everyone["fp32"]["ecliptic, plain"](given)
    for precision, encoders in everyone.items():
        if precision != "fp32" and side == "image" and batch > HALF_BATCH:
            encoders = {k: v for k, v in encoders.items() if k != "open_clip"}
        for label, encode in encoders.items():
            print(f"  {precision} {label}: {compare(encode(given), wanted)}")
        fed = {label: lambda e=encode: e(given) for label, encode in encoders.items()}
        if precision != "fp32":
            fed["open_clip, fp32"] = lambda: everyone["fp32"]["open_clip"](given)
        calls = [min(found) for found in measure_in_turns(fed, 1, warmup=1).values()]
        rounds = max(3, min(REPEATS, int(SECONDS / sum(calls) / 2)))
        # threads of onnxruntime go on spinning after a call and would slow whoever is next, and
        # short calls need a few of their own before the weights are where they stay
        settle = max(1, int(SETTLING / min(calls)))
        seconds = measure_in_turns(fed, rounds, warmup=0, settle=settle)
        unit = "images" if side == "image" else "captions"
        report(f"kernels_{side}_{name}_{precision}_batch_{batch}", seconds, batch, unit, "ecliptic")


def main() -> None:
    """Print the items per second of each contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arch", nargs="?", default="ViT-B-32")
    parser.add_argument("--batches", type=int, nargs="*", default=IMAGES, help="of images")
    parser.add_argument("--texts", type=int, nargs="*", default=TEXTS, help="of captions")
    args = parser.parse_args()
    size = ecliptic.checkpoints.catalog.architecture(args.arch).image.image_size
    with torch.inference_mode():
        for side, batches in (("image", args.batches), ("text", args.texts)):
            everyone = contenders(args.arch, side) if batches else {}
            for batch in batches:
                given = torch.randn(batch, 3, size, size) if side == "image" else captions(batch)
                measure_batch(args.arch, side, batch, everyone, given)


if __name__ == "__main__":
    main()
