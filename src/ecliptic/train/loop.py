"""The training loop: batches in, a trained model and its history out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine import resolve_device
from ecliptic.errors import NumericalError
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


@dataclass(frozen=True)
class Run:
    """A run that is over."""

    settings: TrainSettings
    model: TwoTowers  # in eval mode
    history: tuple[dict[str, Any], ...]  # what was reported, in order
    stopped: bool = False  # before the last step, because `stop` said so

    def checkpoint(self) -> Checkpoint:
        """The model ready to be written, in the precision that the recipe stores."""
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
        stop: asked after each step; True ends the run there, with a last line that says so.

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
    stream = Stream(sources_of(settings, data), settings.image_spec, tokenizer, settings.seed)
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


def sources_of(settings: TrainSettings, data: Path) -> dict[Any, int]:
    """The sets of drawings, and how many of each go into a batch."""
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
    """Train; a line of numbers at each point where something is due."""
    optimiser = adamw(model, settings.optimiser)
    losses: list[float] = []
    begun = time.monotonic()
    for step in range(settings.steps):
        rate = rate_at(step, settings.steps, settings.optimiser)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = _loss(model, next(batches), settings)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), settings.optimiser.clip)
        optimiser.step()
        clamp_temperature(model)
        losses.append(_finite(loss, step))
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


def _loss(model: TwoTowers, batch: Batch, settings: TrainSettings) -> Tensor:
    device = model.logit_scale.device
    pixels = batch.pixels.to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        image, text = model.encode_image(pixels), encode_by_length(model, batch)
    return contrastive_loss(image.float(), text.float(), model.logit_scale)


def encode_by_length(model: TwoTowers, batch: Batch, groups: int = 4) -> Tensor:
    """(B, E) text vectors, computed in groups of similar length to skip the padding.

    Exact, as attention is causal: nothing after the end of a text can change its vector.
    """
    order = batch.lengths.argsort()
    parts = []
    for rows in torch.tensor_split(order, min(groups, len(order))):
        longest = int(batch.lengths[rows].max())
        tokens = batch.tokens[rows, :longest].to(model.logit_scale.device)
        parts.append(model.encode_text(tokens))
    return torch.cat(parts)[order.argsort().to(model.logit_scale.device)]


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss.detach())
    if value != value or value in (float("inf"), float("-inf")):
        raise NumericalError(
            f"the loss became {value} at step {step + 1}; lower optimiser.rate, raise "
            'optimiser.warmup, or train in precision="fp32".'
        )
    return value
