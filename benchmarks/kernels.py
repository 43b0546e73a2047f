"""Every precision and kernel of a ViT, beside its peers: `python -m benchmarks.kernels [ARCH]`.

Pixels or captions to unit vectors, in several batches. The contenders of a precision take turns;
each line has the smallest cosine with ecliptic's plain fp32 vectors, and the largest difference.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks.image import load_open_clip as open_clip_image
from benchmarks.models import captions, make_checkpoint
from benchmarks.text import load_open_clip as open_clip_text
from benchmarks.timing import measure_in_turns, report
from ecliptic.export import write_export

Encode = Callable[[Any], Tensor]
IMAGES, TEXTS = (1, 8, 32), (1, 32)
REPEATS, SECONDS = 12, 25.0  # rounds at most, and about so long for a batch
SETTLING = 0.1  # seconds of unmeasured calls before a measured one, at least one call
HALF_BATCH = 8  # images at most of half precision: the peer is very slow on some processors


def ours(name: str, side: str, **how: Any) -> Encode:
    clip = ecliptic.load(make_checkpoint(name, "ecliptic", side), device="cpu", **how)
    clip.runtime.choose()
    return clip.encode_image if side == "image" else clip.encode_text


def open_clip(name: str, side: str) -> Encode:
    return open_clip_image(name) if side == "image" else open_clip_text(name)


def onnxruntime(name: str, side: str) -> Encode:
    """The exported file in onnxruntime, as its documentation runs it."""
    import onnxruntime as ort

    clip = ecliptic.load(make_checkpoint(name, "ecliptic", side), device="cpu", kernels="plain")
    with tempfile.TemporaryDirectory() as folder:
        write_export(clip, Path(folder) / "export")
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        path = str(Path(folder) / "export" / f"{side}.onnx")
        session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])

    def encode(given: Any) -> Tensor:
        if side == "text":
            batch = clip.tokenizer.batch(given)
            feed = {"tokens": batch.ids[:, : int(batch.lengths.max())]}
        else:
            feed = {"pixels": np.ascontiguousarray(given)}
        return F.normalize(torch.from_numpy(session.run(None, feed)[0]), dim=-1)

    return encode


def contenders(name: str, side: str) -> Mapping[str, Mapping[str, Encode]]:
    """Precision -> contender -> encoder; ecliptic first."""
    found: dict[str, dict[str, Encode]] = {
        "fp32": {
            "ecliptic": ours(name, side),
            "ecliptic, plain": ours(name, side, kernels="plain"),
            "open_clip": open_clip(name, side),
            "onnxruntime": onnxruntime(name, side),
        },
        "bf16": {"ecliptic": ours(name, side, precision="bf16")},
    }
    if side == "image":
        found["bf16"]["open_clip"] = open_clip_image(name, torch.bfloat16)
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


def main(names: list[str]) -> None:
    """Print the items per second of each contender."""
    with torch.inference_mode():
        for name in names:
            for side, batches in (("image", IMAGES), ("text", TEXTS)):
                everyone = contenders(name, side)
                for batch in batches:
                    size = ecliptic.checkpoints.catalog.architecture(name).image.image_size
                    given = (
                        torch.randn(batch, 3, size, size) if side == "image" else captions(batch)
                    )
                    measure_batch(name, side, batch, everyone, given)


if __name__ == "__main__":
    main(sys.argv[1:] or ["ViT-B-32"])
