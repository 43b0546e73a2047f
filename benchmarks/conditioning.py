"""SDXL conditioning at released sizes, against diffusers: `python -m benchmarks.conditioning`.

Both sides read the same files: CLIP-L and bigG text towers with random weights, float32. diffusers
runs `StableDiffusionXLPipeline.encode_prompt` without a denoiser. Warm: one prompt with a negative,
then 8 prompts with one negative, then 8 with 8 negatives, where nothing is equal. Cold: a new
process per side loads both encoders and encodes one prompt, in turns; the kernel tells its peak
memory; Linux only. `--tiny` is a check with tiny encoders.
"""

import json
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import captions, make_checkpoint
from benchmarks.timing import machine, measure_in_turns, report, report_seconds
from ecliptic.diffusion import Conditioner, conditioner
from tests import peers
from tests.diffusion import pipelines

NEGATIVE = "blurry, low quality, watermark"


def folders(tiny: bool) -> list[Path]:
    """CLIP-L and bigG in the layout of transformers."""
    if tiny:
        return pipelines.encoders("sdxl")
    names = ("ViT-L-14-quickgelu", "ViT-bigG-14")
    return [make_checkpoint(name, "transformers", "text") for name in names]


@cache
def load_ours(tiny: bool) -> Conditioner:
    """Our SDXL conditioner."""
    return conditioner("sdxl", encoders=folders(tiny), any_size=tiny)


@cache
def load_theirs(tiny: bool) -> Any:
    """diffusers' SDXL pipeline, with its encoders and tokenizers only."""
    library, transformers = peers.diffusers(), peers.transformers()
    first, second = folders(tiny)
    made = library.StableDiffusionXLPipeline
    with pipelines.quiet():
        parts = {
            "text_encoder": transformers.CLIPTextModel.from_pretrained(first).eval(),
            "text_encoder_2": transformers.CLIPTextModelWithProjection.from_pretrained(second),
            "tokenizer": pipelines.tokenizer("l"),
            "tokenizer_2": pipelines.tokenizer("g"),
        }
        parts["text_encoder_2"].eval()
        rest = {"force_zeros_for_empty_prompt": True, "add_watermarker": False}
        return made(**dict.fromkeys(pipelines.arguments(made)) | parts | rest)


def negatives(count: int, equal: bool) -> list[str]:
    """One negative `count` times, or as many different ones."""
    return [NEGATIVE if equal else f"{NEGATIVE}, {n}" for n in range(count)]


def encode_ours(prompts: list[str], tiny: bool, equal: bool = True) -> list[Tensor]:
    """Tokens, negative tokens, pooled and negative pooled, by ecliptic."""
    found = load_ours(tiny)(prompts, negative=negatives(len(prompts), equal)).to_diffusers()
    return list(found.values())


def encode_theirs(prompts: list[str], tiny: bool, equal: bool = True) -> list[Tensor]:
    """The same tensors, by the pipeline of diffusers."""
    with torch.no_grad():
        found = load_theirs(tiny).encode_prompt(
            prompt=prompts,
            negative_prompt=negatives(len(prompts), equal),
            device=torch.device("cpu"),
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )
    return list(found)


SIDES = {"ecliptic": encode_ours, "diffusers": encode_theirs}


def difference(prompts: list[str], tiny: bool) -> float:
    """The largest difference of a tensor relative to its largest value, over all tensors."""
    pairs = zip(*(encode(prompts, tiny) for encode in SIDES.values()), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def measure_cold(side: str, tiny: bool) -> tuple[float, float]:
    """Seconds to load and encode one prompt in a new process, and its peak memory in GB."""
    command = [sys.executable, "-m", "benchmarks.conditioning", f"--side={side}"]
    command += ["--tiny"] if tiny else []
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = map(float, ran.stdout.split()[-2:])
    return seconds, peak


def run_one_side(side: str, tiny: bool) -> None:
    """Load, encode one prompt, and print the seconds and the peak memory of this process in GB."""
    if side == "diffusers":  # the libraries of both sides are imported before the clock starts
        _ = peers.diffusers().StableDiffusionXLPipeline
        _ = peers.transformers().CLIPTextModelWithProjection
    began = time.perf_counter()
    SIDES[side](captions(1), tiny)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6
    print(seconds, peak)


def report_cold(repeats: int, tiny: bool) -> None:
    """Print seconds and memory of new processes, in turns."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    held: dict[str, float] = {}
    for _ in range(repeats):
        for side in SIDES:
            taken, peak = measure_cold(side, tiny)
            seconds[side].append(taken)
            held[side] = max(round(peak, 2), held.get(side, 0))
    report_seconds("conditioning_sdxl_cold", seconds)
    print(f"peak memory, {machine()}: {held} GB")
    print(json.dumps({"bench": "conditioning_memory", "unit": "GB", "peaks": held}))


def main(repeats: int, tiny: bool) -> None:
    """Print time and memory of both sides."""
    report_cold(repeats, tiny)
    for count, equal in ((1, True), (8, True), (8, False)):
        prompts = captions(count)
        print(f"{count} prompt(s): largest relative difference {difference(prompts, tiny):.1e}")
        runs = {side: partial(encode, prompts, tiny, equal) for side, encode in SIDES.items()}
        name = f"conditioning_sdxl_{count}" + ("" if equal else "_negatives_differ")
        report(name, measure_in_turns(runs, repeats, warmup=1), count, "prompts", "ecliptic")


if __name__ == "__main__":
    tiny = "--tiny" in sys.argv
    chosen = [word.removeprefix("--side=") for word in sys.argv if word.startswith("--side=")]
    if chosen:
        run_one_side(chosen[0], tiny)
    else:
        main(repeats=3 if tiny else 5, tiny=tiny)
