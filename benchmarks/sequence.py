"""Prompts -> tensors of diffusion models, against transformers: `python -m benchmarks.sequence`.

Text towers of released sizes with random weights, the same on both sides; batches of 4 prompts of
77 ids. transformers is called as diffusers 0.42 calls it, with every hidden state. `sdxl` is the
penultimate layer of CLIP-L and of bigG and bigG's vectors, `sd1` CLIP-L's last layer after the
final norm, `flux` CLIP-L's pooled state alone. Pass families to run only those; `--tiny` is a
quick check with tiny towers.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor

import ecliptic
from benchmarks.models import captions, make_checkpoint
from benchmarks.timing import measure_in_turns, report
from ecliptic.checkpoints import Checkpoint, write
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig, random_model
from ecliptic.runtime import Runtime
from tests import peers

BATCH = 4
L, G = "ViT-L-14-quickgelu", "ViT-bigG-14"
TINY = TextConfig(width=64, depth=3, heads=4, mlp=128)


@dataclass(frozen=True)
class Read:
    """The tensors that a family reads from one tower."""

    name: str
    layer: int | None
    final_norm: bool = False
    vectors: str = ""  # "vectors", "pooled" or ""


FAMILIES = {
    "sd1": [Read(L, -1, final_norm=True)],
    "sdxl": [Read(L, -2), Read(G, -2, vectors="vectors")],
    "flux": [Read(L, None, vectors="pooled")],
}
Encode = Callable[[], list[Tensor]]


@cache
def folder(name: str, tiny: bool) -> Path:
    """The weights of a tower in the layout of transformers."""
    if not tiny:
        return make_checkpoint(name, "transformers", "text")
    path, activation = Path(mkdtemp()) / name, "gelu" if name == G else "quick_gelu"
    config = ClipConfig(embed=32, image=None, text=replace(TINY, activation=activation))
    weights = random_model(config).state_dict()
    del weights["logit_scale"]  # a temperature relates two towers
    write(Checkpoint(config, weights, None, TokenizerSpec()), path, "transformers")
    return path


@cache
def load_ours(name: str, tiny: bool) -> Runtime:
    return ecliptic.load(folder(name, tiny)).runtime


@cache
def load_theirs(name: str, tiny: bool) -> Any:
    library = peers.transformers()
    return library.CLIPTextModelWithProjection.from_pretrained(folder(name, tiny)).eval()


def run_ours(reads: list[Read], tokens: Tensor, tiny: bool) -> Encode:
    def encode() -> list[Tensor]:
        found = []
        for read in reads:
            options = {"layer": read.layer, "final_norm": read.final_norm}
            runtime = load_ours(read.name, tiny)
            outputs = runtime.text_outputs(tokens, pooled=bool(read.vectors), **options)
            found += [outputs.sequence, getattr(outputs, read.vectors, None)]
        return [tensor for tensor in found if tensor is not None]

    return encode


def run_theirs(reads: list[Read], tokens: Tensor, tiny: bool) -> Encode:
    def encode() -> list[Tensor]:
        found = []
        for read in reads:
            model = load_theirs(read.name, tiny)
            encoder = model if read.vectors == "vectors" else model.text_model
            outputs = encoder(tokens, output_hidden_states=read.layer == -2)
            if read.layer is not None:
                normed = read.final_norm
                found.append(outputs[0] if normed else outputs.hidden_states[read.layer])
            if read.vectors:
                found.append(outputs[0] if read.vectors == "vectors" else outputs.pooler_output)
        return found

    return encode


def main(families: list[str], repeats: int, tiny: bool) -> None:
    """Print the prompts per second of each contender."""
    for family in families:
        reads = FAMILIES[family]
        tokens = ecliptic.load(folder(reads[0].name, tiny)).tokenize(captions(BATCH))
        runs = {"ecliptic": run_ours, "transformers": run_theirs}
        encoders = {label: run(reads, tokens, tiny) for label, run in runs.items()}
        with torch.inference_mode():
            found, wanted = (encode() for encode in encoders.values())
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            seconds = measure_in_turns(encoders, repeats)
        report(f"sequence_{family}", seconds, BATCH, "prompts", "ecliptic")


if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if name != "--tiny"]
    main(chosen or list(FAMILIES), repeats=5, tiny="--tiny" in sys.argv)
