"""SDXL conditioning at released sizes beside diffusers: `python -m benchmarks.conditioning`.

CLIP-L and bigG text towers with random weights, float32, the same files on both sides; diffusers'
`StableDiffusionXLPipeline.encode_prompt` without a denoiser. A prompt with its negative, then 8
prompts with theirs. Peak memory is the kernel's count of a new process per side that loads both
encoders and encodes one prompt; Linux only. `--tiny` is a quick check on encoders of no use.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import captions, written
from benchmarks.timing import machine, report, timed_in_turns
from ecliptic.diffusion import Conditioner, conditioner
from tests import peers
from tests.diffusion import pipelines

NEGATIVE = "blurry, low quality, watermark"


def folders(tiny: bool) -> list[Path]:
    """CLIP-L and bigG as transformers stores them."""
    if tiny:
        return pipelines.encoders("sdxl")
    names = ("ViT-L-14-quickgelu", "ViT-bigG-14")
    return [written(name, "transformers", "text") for name in names]


@cache
def ours(tiny: bool) -> Conditioner:
    """Our SDXL conditioner."""
    return conditioner("sdxl", encoders=folders(tiny))


@cache
def theirs(tiny: bool) -> Any:
    """diffusers' SDXL pipeline with nothing but its encoders and tokenizers."""
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
    """Tokens, negative tokens, pooled, negative pooled."""
    found = ours(tiny)(prompts, negative=[NEGATIVE] * len(prompts)).to_diffusers()
    return list(found.values())


def encode_theirs(prompts: list[str], tiny: bool) -> list[Tensor]:
    """Likewise, by the pipeline."""
    with torch.no_grad():
        found = theirs(tiny).encode_prompt(
            prompt=prompts,
            negative_prompt=[NEGATIVE] * len(prompts),
            device=torch.device("cpu"),
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )
    return list(found)


SIDES = {"ecliptic": encode_ours, "diffusers": encode_theirs}


def difference(prompts: list[str], tiny: bool) -> float:
    """The largest difference of any value, as a part of the largest value."""
    pairs = zip(*(encode(prompts, tiny) for encode in SIDES.values()), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def peak(side: str, tiny: bool) -> float:
    """GB that a new process has held at most, after one prompt."""
    command = [sys.executable, "-m", "benchmarks.conditioning", f"--side={side}"]
    command += ["--tiny"] if tiny else []
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[-1])


def one_side(side: str, tiny: bool) -> None:
    """Encode one prompt and print the peak memory of this process in GB."""
    SIDES[side](captions(1), tiny)
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6)


def main(repeats: int, tiny: bool) -> None:
    """Print time and memory of both sides."""
    held = {side: round(peak(side, tiny), 2) for side in SIDES}
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
            timed_in_turns(runs, repeats),
            count,
            "prompts",
            "ecliptic",
        )
    print(json.dumps({"bench": "conditioning_memory", "unit": "GB", "peaks": held}))


if __name__ == "__main__":
    tiny = "--tiny" in sys.argv
    chosen = [word.removeprefix("--side=") for word in sys.argv if word.startswith("--side=")]
    if chosen:
        one_side(chosen[0], tiny)
    else:
        main(repeats=3 if tiny else 5, tiny=tiny)
