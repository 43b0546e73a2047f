"""Trains the drawing model: flow matching on pictures, steered by CLIP vectors.

`x_t = (1 - t) x0 + t noise`; the network predicts x0, and the loss is that of the velocity
`noise - x0` (Lipman et al. 2023, arXiv:2210.02747; Li and He 2025, arXiv:2511.13720, section 3).
B batch, E vector size, N drawings, S picture size.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.checks import check_finite
from ecliptic.drawing.data import TrainingDrawings
from ecliptic.drawing.settings import ConditionSettings, DrawingSettings, TimeSettings
from ecliptic.errors import CheckpointError
from ecliptic.guidance import generator_of
from ecliptic.model import DrawingNet
from ecliptic.settings import to_dict
from ecliptic.storage import make_folder, read_safetensors, replace_file, write_safetensors

STATE = "state.safetensors"
_FREE = ("name", "steps", "cooldown", "log_every", "keep_every", "concepts")
_LEAST_TIME = 0.05  # nearer to the picture, the loss of the velocity would have no bound


@dataclass(frozen=True)
class DrawingProgress:
    """What is reported while the training goes on."""

    step: int  # steps that are done
    loss: float  # mean since the last report
    seconds: float  # a step, since the last report


def train_drawing(
    settings: DrawingSettings,
    drawings: TrainingDrawings,
    space: str,
    folder: Path,
    report: Callable[[DrawingProgress], object],
) -> DrawingNet:
    """Train the drawing model, or go on where `folder` stopped; return the averaged network.

    The state is kept every `keep_every` steps. A training that was ended goes on with the same
    numbers as one that was not.

    Args:
        settings: of the recipe.
        drawings: the data.
        space: fingerprint of the CLIP that made the vectors (`clip.card.space`).
        folder: for the state.
        report: is called every `log_every` steps.

    Raises:
        CheckpointError: the folder has the state of other settings.
        NumericalError: the loss is not finite.
    """
    make_folder(folder)
    trainer = _Trainer(settings, space)
    if (folder / STATE).exists():
        trainer.load(folder / STATE)
    losses, started = [], time.monotonic()
    while trainer.done < settings.steps:
        losses.append(trainer.step(drawings))
        if trainer.done % settings.log_every == 0:
            seconds = (time.monotonic() - started) / len(losses)
            report(DrawingProgress(trainer.done, sum(losses) / len(losses), seconds))
            losses, started = [], time.monotonic()
        if trainer.done % settings.keep_every == 0 or trainer.done == settings.steps:
            replace_file(folder / STATE, trainer.write)
    return trainer.average


def read_state(settings: DrawingSettings, space: str, folder: Path) -> DrawingNet:
    """The averaged network of the last state in `folder`.

    Raises:
        CheckpointError: there is none, or it is of other settings.
    """
    if not (folder / STATE).exists():
        raise CheckpointError(f"{folder} has no {STATE}; train first, or check --out.")
    trainer = _Trainer(settings, space)
    trainer.load(folder / STATE)
    return trainer.average


class _Trainer:
    """Network, optimiser and average; the randomness of a step is a function of its number."""

    def __init__(self, settings: DrawingSettings, space: str) -> None:
        self.settings, self.space, self.done = settings, space, 0
        torch.manual_seed(settings.seed)
        self.net = DrawingNet(settings.model)
        self.average = DrawingNet(settings.model).requires_grad_(False).eval()
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )

    def step(self, drawings: TrainingDrawings) -> float:
        """One step; returns its loss."""
        settings = self.settings
        random = generator_of(settings.seed, self.done)
        rows = torch.multinomial(drawings.weights, settings.batch, True, generator=random)
        x0 = drawings.pixels[rows].float().div_(127.5).sub_(1)  # (B, 3, S, S)
        vectors, known = draw_vectors(drawings, rows, settings.condition, random)
        t = draw_times(len(rows), settings.time, random)
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.done, settings)
        loss = velocity_loss(self.net, x0, t, vectors, known, random)
        value = float(loss.detach())
        check_finite(value, f"the loss of step {self.done + 1}", "take a lower rate.")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.done += 1
        self._follow()
        return value

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; it forgets faster at first."""
        keep = min(self.settings.ema, self.done / (self.done + 10))
        for ours, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
            ours.lerp_(theirs, 1 - keep)

    def write(self, path: Path) -> None:
        """Write all that `load` needs."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{name}"] = value
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        write_safetensors(path, tensors, {"about": json.dumps(self._about() | {"step": self.done})})

    def load(self, path: Path) -> None:
        """Go on from a state."""
        tensors, metadata = read_safetensors(path)
        about = json.loads(metadata.get("about", "{}"))
        self.done = int(about.pop("step", -1))
        if _decisive(about) != _decisive(self._about()):
            raise CheckpointError(
                f"{path} is the state of a training with other settings, or of another CLIP; take "
                "another folder with --out, or remove it to begin anew."
            )
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "average": {}, "optimiser": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value.clone()
        self.net.load_state_dict(parts["net"])
        self.average.load_state_dict(parts["average"])
        for name, parameter in self.net.named_parameters():
            self.optimiser.state[parameter] = {
                key: parts["optimiser"][f"{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
            }

    def _about(self) -> dict[str, Any]:
        settings: dict[str, Any] = to_dict(self.settings)
        settings["data"].pop("root")
        return {"settings": settings, "space": self.space}


def _decisive(about: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same to go on; the length of the training and its reports may change."""
    settings = {k: v for k, v in about.get("settings", {}).items() if k not in _FREE}
    return {"settings": settings, "space": about.get("space")}


def velocity_loss(
    net: DrawingNet,
    x0: Tensor,
    t: Tensor,
    vectors: Tensor,
    known: Tensor,
    random: torch.Generator,
) -> Tensor:
    """Mean square of the error of the velocity, from a prediction of the picture."""
    noise = torch.randn(x0.shape, generator=random)
    at = t[:, None, None, None]
    x = torch.lerp(x0, noise, at)
    return F.mse_loss(net(x, t, vectors, known), x0, reduction="none").div(at.square()).mean()


def draw_times(count: int, settings: TimeSettings, random: torch.Generator) -> Tensor:
    """(B,) logit-normal times."""
    normal = torch.randn(count, generator=random)
    return torch.sigmoid(normal * settings.deviation + settings.mean).clamp(_LEAST_TIME, 1)


def draw_vectors(
    drawings: TrainingDrawings, rows: Tensor, settings: ConditionSettings, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Vectors (B, E) of captions or of the drawings themselves, with noise; and which are used."""
    B, K = len(rows), drawings.texts.shape[1]
    caption = torch.randint(K, (B,), generator=random)
    caption[torch.rand(B, generator=random) < 0.5] = 0  # the name
    from_text = torch.rand(B, generator=random) < settings.text
    vectors = torch.where(from_text[:, None], drawings.texts[rows, caption], drawings.images[rows])
    noise = F.normalize(torch.randn(vectors.shape, generator=random), dim=1)
    length = torch.rand(B, 1, generator=random) * settings.noise
    known = torch.rand(B, generator=random) >= settings.nothing
    return F.normalize(vectors + length * noise, dim=1), known


def rate_at(step: int, settings: DrawingSettings) -> float:
    """Linear warm-up, constant, then a line down to 0."""
    left = (settings.steps - step) / max(1, settings.cooldown)
    return settings.rate * min(1.0, (step + 1) / max(1, settings.warmup), left)
