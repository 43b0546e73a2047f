"""SDXL conditioning at released sizes, against diffusers: `python -m benchmarks.conditioning`.

Both sides read the same files: CLIP-L and bigG text towers with random weights, float32. diffusers
runs `StableDiffusionXLPipeline.encode_prompt` without a denoiser. One prompt with a negative, then
8 prompts with negatives. Peak memory is measured by the kernel in a new process per side, which
loads both encoders and encodes one prompt; Linux only. `--tiny` is a check with tiny encoders.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import captions, make_checkpoint
from benchmarks.timing import machine, measure_in_turns, report
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


def encode_ours(prompts: list[str], tiny: bool) -> list[Tensor]:
    """Tokens, negative tokens, pooled and negative pooled, by ecliptic."""
    found = load_ours(tiny)(prompts, negative=[NEGATIVE] * len(prompts)).to_diffusers()
    return list(found.values())


def encode_theirs(prompts: list[str], tiny: bool) -> list[Tensor]:
    """The same tensors, by the pipeline of diffusers."""
    with torch.no_grad():
        found = load_theirs(tiny).encode_prompt(
            prompt=prompts,
            negative_prompt=[NEGATIVE] * len(prompts),
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


def measure_peak(side: str, tiny: bool) -> float:
    """Peak memory in GB of a new process that encodes one prompt."""
    command = [sys.executable, "-m", "benchmarks.conditioning", f"--side={side}"]
    command += ["--tiny"] if tiny else []
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[-1])


def run_one_side(side: str, tiny: bool) -> None:
    """Encode one prompt and print the peak memory of this process in GB."""
    SIDES[side](captions(1), tiny)
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6)


def main(repeats: int, tiny: bool) -> None:
    """Print time and memory of both sides."""
    held = {side: round(measure_peak(side, tiny), 2) for side in SIDES}
    print(f"peak memory, {machine()}: {held} GB")
    for count in (1, 8):
        prompts = captions(count)
        print(f"{count} prompt(s): largest relative difference {difference(prompts, tiny):.1e}")
        runs = {
            side: (lambda encode=encode, prompts=prompts: encode(prompts, tiny))
            for side, encode in SIDES.items()
        }
        report(
            f"conditioning_sdxl_{count}",
            measure_in_turns(runs, repeats),
            count,
            "prompts",
            "ecliptic",
        )
    print(json.dumps({"bench": "conditioning_memory", "unit": "GB", "peaks": held}))


if __name__ == "__main__":
    tiny = "--tiny" in sys.argv
    chosen = [word.removeprefix("--side=") for word in sys.argv if word.startswith("--side=")]
    if chosen:
        run_one_side(chosen[0], tiny)
    else:
        main(repeats=3 if tiny else 5, tiny=tiny)
