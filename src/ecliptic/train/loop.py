"""The training loop: batches in, a trained model and its history out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import Checkpoint
from ecliptic.checks import check_finite
from ecliptic.engine import resolve_device
from ecliptic.inputs import Tokenizer
from ecliptic.model import TwoTowers, random_model
from ecliptic.train.batches import Batch, Stream
from ecliptic.train.drawings import read_emoji, read_game_icons, read_openclipart
from ecliptic.train.loss import clamp_temperature, contrastive_loss
from ecliptic.train.optimiser import adamw, rate_at
from ecliptic.train.settings import TrainSettings
from ecliptic.train.validation import Validation, evaluate

Report = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]
GROUPS = 4  # of texts in a batch, by length
DIVERGED = 'lower optimiser.rate, raise optimiser.warmup, or train in precision="fp32".'


@dataclass(frozen=True)
class Run:
    """The result of a training run."""

    settings: TrainSettings
    model: TwoTowers  # in eval mode
    history: tuple[dict[str, Any], ...]  # the reported lines, in order
    stopped: bool = False  # by `stop`, before the last step

    def checkpoint(self) -> Checkpoint:
        """The model as a checkpoint to write, in the precision that the recipe stores."""
        dtype = torch.float16 if self.settings.store == "fp16" else torch.float32
        weights = {
            name: tensor.to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        specs = self.settings.image_spec, self.settings.tokenizer_spec
        return Checkpoint(self.settings.model, weights, *specs, name=self.settings.name)


def train(
    settings: TrainSettings,
    data: Path,
    report: Report = lambda _: None,
    stop: Stop = lambda: False,
) -> Run:
    """Train a CLIP from random weights on the drawings in `data`.

    Args:
        settings: the recipe.
        data: folder with `emoji/`, `openclipart/` and `game_icons/`.
        report: called with each line of the history: losses every `log_every` steps, recall of
            the validation drawings every `evaluate_every` steps and at the end.
        stop: called after each step; True ends the run there, with a last line that says so.

    Raises:
        NumericalError: the loss is no longer finite.
        StorageError: a file of the training data is missing.
    """
    history: list[dict[str, Any]] = []

    def record(line: dict[str, Any]) -> None:
        history.append(line)
        report(line)

    tokenizer = Tokenizer(settings.tokenizer_spec)
    validation = Validation.read(data, settings)
    stream = Stream(read_sources(settings, data), settings.image_spec, tokenizer, settings.seed)
    model = random_model(settings.model, settings.seed).train()
    model.to(resolve_device(settings.device))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions
    for line in _steps(model, iter(stream), settings, stop):
        record(line)
        step = line["step"]
        if step % settings.evaluate_every == 0 or step == settings.steps:
            found = evaluate(model, validation, tokenizer, settings.image_spec)
            record({"step": step} | {name: asdict(recall) for name, recall in found.items()})
    done = history[-1]["step"] if history else 0
    if stopped := done < settings.steps:
        record({"step": done, "stopped_before": settings.steps})
    return Run(settings, model.eval(), tuple(history), stopped)


def read_sources(settings: TrainSettings, data: Path) -> dict[Any, int]:
    """Read the sets of drawings; {set: drawings of it per batch}."""
    shares, batch = settings.data, settings.batch
    clipart, icons = round(batch * shares.openclipart), round(batch * shares.game_icons)
    sources = {read_emoji(data / "emoji", shares.designs, "train"): batch - clipart - icons}
    if clipart:
        sources[read_openclipart(data / "openclipart")] = clipart
    if icons:
        sources[read_game_icons(data / "game_icons")] = icons
    return sources


def _steps(
    model: TwoTowers, batches: Iterator[Batch], settings: TrainSettings, stop: Stop
) -> Iterator[dict[str, Any]]:
    """Train, and yield a line of numbers at each step with a log or an evaluation."""
    optimiser = adamw(model, settings.optimiser)
    losses: list[float] = []
    begun = time.monotonic()
    for step in range(settings.steps):
        rate = rate_at(step, settings.steps, settings.optimiser)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = _compute_loss(model, next(batches), settings)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), settings.optimiser.clip)
        optimiser.step()
        clamp_temperature(model)
        losses.append(float(loss.detach()))
        check_finite(losses[-1], f"the loss of step {step + 1}", DIVERGED)
        done = step + 1
        last = stop() or done == settings.steps
        if last or any(done % n == 0 for n in (settings.log_every, settings.evaluate_every)):
            yield {
                "step": done,
                "loss": sum(losses) / len(losses),
                "rate": rate,
                "scale": float(model.logit_scale.detach().exp()),
                "pairs_per_s": done * settings.batch / (time.monotonic() - begun),
            }
            losses.clear()
        if last:
            return


def _compute_loss(model: TwoTowers, batch: Batch, settings: TrainSettings) -> Tensor:
    device = model.logit_scale.device
    pixels = batch.pixels.to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        image, text = model.encode_image(pixels), encode_by_length(model, batch)
    return contrastive_loss(image.float(), text.float(), model.logit_scale)


def encode_by_length(model: TwoTowers, batch: Batch) -> Tensor:
    """(B, E) text vectors, computed in groups of similar length to skip the padding.

    The result is exact: attention is causal, so padding after a text cannot change its vector.
    """
    order = batch.lengths.argsort()
    parts = []
    for rows in torch.tensor_split(order, min(GROUPS, len(order))):
        longest = int(batch.lengths[rows].max())
        tokens = batch.tokens[rows, :longest].to(model.logit_scale.device)
        parts.append(model.encode_text(tokens))
    return torch.cat(parts)[order.argsort().to(model.logit_scale.device)]
