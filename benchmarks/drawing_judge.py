"""The judge of the drawing model: a small network that names emoji.

`python -m benchmarks.drawing_judge --data DIR --out FILE` trains it, DIR has emoji/.
It had no part in the training of the drawing model or of `mini`: another architecture, another
seed, pixels alone and no text. It learns the names of the emoji of six designs; another one,
fxemoji, which neither it nor the drawing model was shown, says how good a judge it is.
B batch, N names.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ecliptic.inputs import WHITE, flatten, open_image
from ecliptic.storage import read_safetensors, replace_file, write_safetensors
from ecliptic.train import DrawingsConfig, open_drawings

DESIGNS = ("noto", "blobmoji", "twemoji", "emojione2", "fluent_3d", "fluent_flat")
UNSEEN = ("fxemoji",)
SIZE = 32  # pixels that it looks at
SEED, BATCH, RATE = 20261129, 96, 3e-3


class JudgeNet(nn.Module):
    """Four pairs of convolutions and the mean: (B, 3, 32, 32), values 0..1 -> (B, N) scores."""

    def __init__(self, names: int, widths: tuple[int, ...] = (24, 48, 96, 160)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = 3
        for number, width in enumerate(widths):
            for stride in (1 if number == 0 else 2, 1):
                conv = nn.Conv2d(inner, width, 3, stride, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                inner = width
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(inner, names)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the names; images of any size are averaged down."""
        x = F.interpolate(images, size=(SIZE, SIZE), mode="area") * 2 - 1
        return self.last(self.layers(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Judge:
    """A trained judge."""

    net: JudgeNet
    names: tuple[str, ...]

    @torch.no_grad()
    def ranks(self, images: Tensor, truth: list[str], among: tuple[str, ...]) -> Tensor:
        """Place of the right name among some, from 1; equal scores count against it: (B,)."""
        scores = self._scores(images, among)
        right = scores[torch.arange(len(images)), [among.index(name) for name in truth]]
        return (scores >= right[:, None]).sum(dim=1)

    @torch.no_grad()
    def log_probability(self, images: Tensor, truth: list[str], among: tuple[str, ...]) -> Tensor:
        """Logarithm of the probability of the right name among some: (B,)."""
        scores = self._scores(images, among).log_softmax(dim=1)
        return scores[torch.arange(len(images)), [among.index(name) for name in truth]]

    def _scores(self, images: Tensor, among: tuple[str, ...]) -> Tensor:
        columns = [self.names.index(name) for name in among]
        return torch.cat([self.net(some) for some in images.split(256)])[:, columns]


def read_judge(path: Path) -> Judge:
    """Read what `main` wrote."""
    tensors, metadata = read_safetensors(path)
    names = tuple(json.loads(metadata["names"]))
    net = JudgeNet(len(names))
    whole = {k: v.float() if v.is_floating_point() else v.clone() for k, v in tensors.items()}
    net.load_state_dict(whole)
    return Judge(net.eval().requires_grad_(False), names)


def read_pictures(data: Path, designs: tuple[str, ...]) -> tuple[Tensor, list[str]]:
    """(N, 3, 64, 64) uint8 on white, and the name of each."""
    config = DrawingsConfig(Path("emoji"), designs=designs, example="drawing")
    examples = open_drawings(config, data)
    pixels, names = [], []
    for (drawing,) in examples.groups:
        image = flatten(open_image(examples.read(drawing)), WHITE)
        pixels.append(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)))
        names.append(drawing.name)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), names


def disturb(images: Tensor) -> Tensor:
    """Turned, moved, scaled, mirrored, recoloured, blurred and noisy: (B, 3, H, W), 0..1."""
    B = len(images)
    angle, scale = (torch.rand(2, B) - 0.5) * torch.tensor([[0.5], [0.5]])
    mirror = torch.where(torch.rand(B) < 0.3, -1.0, 1.0)
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    move = (torch.rand(B, 2) - 0.5) * 0.3
    rows = torch.stack([cos * mirror, -sin, move[:, 0], sin * mirror, cos, move[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(B, 2, 3), [B, 3, SIZE, SIZE], align_corners=False)
    x = 1 - F.grid_sample(1 - images, grid, align_corners=False)
    small = int(torch.randint(12, SIZE + 1, ()))
    if torch.rand(()) < 0.5:
        x = F.interpolate(F.interpolate(x, size=small, mode="area"), size=SIZE, mode="bilinear")
    gain = 1 + 0.5 * (torch.rand(B, 3, 1, 1) - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = torch.lerp(grey, x, 0.6 + 0.8 * torch.rand(B, 1, 1, 1)) * gain
    return (x + 0.1 * torch.rand(B, 1, 1, 1) * torch.randn_like(x)).clamp(0, 1)


def batches(pixels: Tensor, labels: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random pictures and their labels."""
    for _ in range(steps):
        rows = torch.randint(len(pixels), (BATCH,))
        yield disturb(F.avg_pool2d(pixels[rows].float() / 255, 2)), labels[rows]


def train_judge(pixels: Tensor, truth: list[str], steps: int) -> Judge:
    """Train on pictures and their names."""
    torch.manual_seed(SEED)
    names = tuple(dict.fromkeys(truth))
    place = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([place[name] for name in truth])
    net = JudgeNet(len(names))
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.02, fused=True)
    started = time.monotonic()
    for step, (images, wanted) in enumerate(batches(pixels, labels, steps)):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = F.cross_entropy(net(images), wanted, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 100 == 99:
            taken = time.monotonic() - started
            print(f"step {step + 1}  {float(loss):.3f}  {taken:.0f} s", file=sys.stderr, flush=True)
    return Judge(net.eval().requires_grad_(False), names)


def main() -> None:
    """Train the judge, measure it on the unseen design, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with emoji/")
    parser.add_argument("--out", type=Path, required=True, help="file of the judge")
    parser.add_argument("--steps", type=int, default=4000)
    given = parser.parse_args()
    judge = train_judge(*read_pictures(given.data, DESIGNS), given.steps)
    tensors = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in judge.net.state_dict().items()
    }
    metadata = {"format": "pt", "names": json.dumps(judge.names)}
    replace_file(given.out, lambda draft: write_safetensors(draft, tensors, metadata))
    pixels, truth = read_pictures(given.data, UNSEEN)
    known = [row for row, name in enumerate(truth) if name in judge.names]
    names = [truth[row] for row in known]
    ranks = judge.ranks(pixels[known].float() / 255, names, judge.names).float()
    shares = {f"first_{n}": round(float((ranks <= n).float().mean()), 3) for n in (1, 5, 10)}
    print(json.dumps({"bench": "drawing_judge", "pictures": len(known), **shares}))


if __name__ == "__main__":
    main()
