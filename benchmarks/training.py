"""Training steps of a small CLIP: `python -m benchmarks.training [--batch N ...] [--micro N]`.

Seconds of a step and peak memory, at batch 256 and 1,024, in float32 and bfloat16, for whole
batches (`micro = 0`), for parts of 32 pairs with the same gradient, and for open_clip's loss on the
same towers with plain autograd. Each in a process of its own. The memory is that above the weights,
their gradients and the optimiser's state, which are the same for all.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.peaks import Cost, measure_cost
from benchmarks.timing import machine

ROUNDS, REPEATS = 2, 2  # processes of each contender, in turns, and steps in each
TEXT = 32  # tokens of the longest caption

_PREPARE = """
import sys
sys.path.insert(0, {root!r})
from contextlib import nullcontext
import torch
from torch import nn
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig, ViTConfig
from ecliptic.train import TrainSettings
from ecliptic.train.batch import Batch
from ecliptic.train.settings import DataSettings
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.trainee import open_start

spec = TokenizerSpec(context={text})
settings = TrainSettings(
    precision={precision!r}, micro={micro}, data=DataSettings(batch={batch}),
    image_spec=ImageSpec(size=64), tokenizer_spec=spec,
    model=ClipConfig(
        embed=256,
        image=ViTConfig(image_size=64, patch_size=8, width=256, depth=8, heads=4, mlp=1024),
        text=TextConfig(context={text}, width=256, depth=6, heads=4, mlp=1024),
    ),
)

def make_batch(pairs):
    torch.manual_seed(0)
    lengths = torch.randint(5, {text} + 1, (pairs,))
    tokens = torch.randint(1, spec.start_of_text, (pairs, {text}))
    tokens[torch.arange(pairs), lengths - 1] = spec.end_of_text
    tokens.masked_fill_(torch.arange({text}) >= lengths[:, None], 0)
    return Batch(torch.randn(pairs, 3, 64, 64), tokens, lengths, torch.arange(pairs))

trainee, _, _ = open_start(settings)
stepper = Stepper(trainee, settings, build_loss(settings.loss))
step = stepper.step
batch = make_batch({batch})
{peer}
step(make_batch(8), 0)  # the gradients and the optimiser's state

def run(number):
    step(batch, number + 1)
"""
_PEER = """
from tests import peers
clip_loss = peers.open_clip().ClipLoss()

def step(batch, number):
    stepper.optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if {bf16} else nullcontext():
        images = nn.functional.normalize(trainee.model.encode_image(batch.pixels), dim=-1)
        texts = nn.functional.normalize(trainee.model.encode_text(batch.tokens), dim=-1)
        loss = clip_loss(images, texts, trainee.model.logit_scale.exp())
    loss.backward()
    nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    stepper.optimiser.step()
"""


def measure(batch: int, precision: str, micro: int) -> dict[str, Cost]:
    """The cost of a step of each contender."""
    found: dict[str, list[Cost]] = {"whole": [], f"micro {micro}": [], "open_clip's loss": []}
    for _ in range(ROUNDS):
        for name, costs in found.items():
            prepare = _PREPARE.format(
                root=str(Path(__file__).parents[1]),
                text=TEXT,
                precision=precision,
                batch=batch,
                micro=micro if name.startswith("micro") else 0,
                peer=_PEER.format(bf16=precision == "bf16") if "open_clip" in name else "",
            )
            costs.append(measure_cost(prepare, REPEATS))
    return {
        name: Cost([s for c in costs for s in c.seconds], max(c.memory for c in costs))
        for name, costs in found.items()
    }


def main() -> None:
    """Print seconds and memory of a step, and both relative to whole batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--micro", type=int, default=32)
    given = parser.parse_args()
    print(f"training steps on {machine()}")
    found: dict[str, dict[str, list[float]]] = {}
    for batch in given.batch:
        for precision in ("fp32", "bf16"):
            costs = measure(batch, precision, given.micro)
            whole = costs["whole"]
            base = statistics.median(whole.seconds)
            for name, cost in costs.items():
                middle = statistics.median(cost.seconds)
                print(
                    f"  batch {batch:5}, {precision}, {name:17} {middle:7.2f} s, "
                    f"{batch / middle:6.0f} pairs/s, {cost.memory:6.0f} MiB; "
                    f"{base / middle:.2f} x the speed and {cost.memory / whole.memory:.2f} x the "
                    "memory of whole"
                )
            found[f"{batch} {precision}"] = {
                name: [round(statistics.median(cost.seconds), 3), round(cost.memory)]
                for name, cost in costs.items()
            }
    print(json.dumps({"bench": "training", "unit": "s, MiB", "steps": found}))


if __name__ == "__main__":
    main()
