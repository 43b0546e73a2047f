"""One training step: loss, gradients, update; whole batches, or parts of them with the same result.

With `micro`, a batch is encoded twice, part by part: first without gradients for the vectors,
whose loss over the whole batch gives their gradients, then again with them
(Gao et al. 2021, GradCache, arXiv:2101.06983). B pairs, E vector size.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError, NumericalError
from ecliptic.train.batch import Batch
from ecliptic.train.losses import Distillation, InfoNCE, Loss, Ring, SigLip
from ecliptic.train.optimiser import MovingAverage, adamw, rate_at, set_rates
from ecliptic.train.processes import clip_gradients
from ecliptic.train.settings import (
    DistillationConfig,
    InfoNCEConfig,
    LossConfig,
    SigLIPConfig,
    TrainSettings,
)
from ecliptic.train.trainee import Trainee

Teach = Callable[[Batch], tuple[Tensor, Tensor, Tensor]]
TrainPrecision = Literal["fp32", "bf16"]
PRECISIONS: tuple[TrainPrecision, ...] = ("fp32", "bf16")
LARGEST_SCALE = math.log(100)  # section 2.5: "clipped to prevent scaling by more than 100"


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    loss: float  # of this process's share; the mean over processes is that of the batch
    rate: float
    norm: float  # of all gradients, before they are cut to optim.clip
    scale: float  # exp(logit_scale) after the step
    skipped: bool  # gradients were not finite, so nothing was changed
    # what the loss is made of, before it is weighted; empty if it is that of the pairs alone
    parts: Mapping[str, float] = field(default_factory=dict)


class Stepper:
    """Makes the steps of a run.

    Args:
        trainee: the model.
        settings: of the run; their precision is not "auto".
        loss: over the vectors of a batch.
        encode: calls the trainee on a batch: itself, or distributed wrappers of it.
        ring: the processes that share a batch; None: one.
        teach: the teacher's vectors and logit_scale for a batch; None: the loss has no teacher.

    Raises:
        ConfigError: `micro` with batch norms in training.
    """

    def __init__(
        self,
        trainee: Trainee,
        settings: TrainSettings,
        loss: Loss,
        *,
        encode: nn.Module | None = None,
        ring: Ring | None = None,
        teach: Teach | None = None,
    ) -> None:
        self.trainee, self.settings, self.loss = trainee, settings, loss
        self.encode = trainee if encode is None else encode
        self.ring, self.teach = ring, teach
        self.text_loss = InfoNCE()  # of text pairs; their temperature is that of the images
        self.parts: dict[str, Tensor] = {}  # of the loss of the last batch
        self.optimiser = adamw(trainee, settings)
        self.average = MovingAverage(trainee, settings.ema) if settings.ema.decay else None
        self.skipped = 0  # steps in a row
        self.vectors = torch.empty(0, 1), torch.empty(0, 1)  # (B, E) of the last batch, unit
        norms = trainee.moving_norms()
        self._statistics = [b for name in norms for b in trainee.get_submodule(name).buffers()]
        if settings.micro and norms:
            raise ConfigError(
                f"micro = {settings.micro} would count every batch twice in the {len(norms)} batch "
                f"norms of this model ({norms[0]}, ...), and they would see parts of it; train it "
                'with micro = 0, or freeze the ResNet with trains = "text".'
            )

    def step(self, batch: Batch, number: int) -> StepResult:
        """Make step `number` (from 0) with a batch.

        Raises:
            NumericalError: gradients were not finite for `optim.most_skipped` steps in a row.
        """
        settings = self.settings
        rate = rate_at(number, settings.steps, settings.optim)
        set_rates(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self._statistics]
        loss = self.accumulate(batch)
        most = settings.optim.clip or math.inf
        norm = clip_gradients(self.trainee.parameters(), most)
        finite = math.isfinite(norm)
        if finite:
            self.optimiser.step()
            self._clamp_temperature()
            if self.average is not None:
                self.average.update()
        else:
            for buffer, before in zip(self._statistics, statistics, strict=True):
                buffer.copy_(before)
        self._count_skipped(finite, number)
        scale = float(self.trainee.model.logit_scale.detach().exp())
        parts = {name: float(part) for name, part in self.parts.items()}
        return StepResult(float(loss), rate, norm, scale, not finite, parts)

    def accumulate(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch to the parameters; returns the loss, a scalar."""
        micro = self.settings.micro
        longest = len(batch)
        if micro and self.ring is not None:  # all processes need the same number of parts
            longest = max(self.ring.count(len(batch)))
        if micro and longest > micro:
            loss = self._accumulate_parts(batch, micro, math.ceil(longest / micro))
        else:
            with self.autocast():
                found = self.encode(batch)
            loss = self._compute_loss(batch, *found)
            torch.autograd.backward(loss)
        if (finish := getattr(self.encode, "finish", None)) is not None:
            finish()
        return loss.detach()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.trainee.model.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the towers' matmuls."""
        return torch.bfloat16 if self.settings.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the towers' matmuls."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def _accumulate_parts(self, batch: Batch, micro: int, count: int) -> Tensor:
        parts = [batch.part(i * micro, (i + 1) * micro) for i in range(count)]  # some may be empty
        states, vectors = [], []
        for part in parts:
            states.append(random_states())
            with torch.no_grad(), self.autocast():
                vectors.append(self.trainee(part)[:4])
        after = random_states()
        joined = [torch.cat(side).requires_grad_() for side in zip(*vectors, strict=True)]
        scales = [self.trainee.model.logit_scale, self.trainee.logit_bias]
        leaves = [s.detach().clone().requires_grad_() for s in scales if s is not None]
        loss = self._compute_loss(batch, *joined, *leaves)
        torch.autograd.backward(loss)
        cuts = [[len(v) for v in side] for side in zip(*vectors, strict=True)]
        gradients = [
            torch.split(_gradient_of(v), sizes) for v, sizes in zip(joined, cuts, strict=True)
        ]
        for i, (part, state) in enumerate(zip(parts, states, strict=True)):
            set_random_states(state)
            last = i == len(parts) - 1
            with self._synchronised(last):
                with self.autocast():
                    found = self.encode(part)
                # the temperature takes part once, not in every part
                shares = [_gradient_of(leaf) * last for leaf in leaves]
                _backward(found, [*(side[i] for side in gradients), *shares])
        set_random_states(after)
        return loss

    @contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Let the processes exchange gradients after the last part only."""
        wait = getattr(self.encode, "no_sync", None)
        with nullcontext() if last or wait is None else wait():
            yield

    def _compute_loss(
        self,
        batch: Batch,
        images: Tensor,
        texts: Tensor,
        negatives: Tensor,
        pairs: Tensor,
        scale: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        self.vectors = images.detach(), texts.detach()
        more: dict[str, Any] = {"ring": self.ring}
        if self.settings.loss.mask_duplicates:
            hard = [] if batch.negatives is None else [batch.negatives.captions]
            more["captions"] = torch.cat([batch.captions, *hard])
        if batch.negatives is not None:
            more["negatives"] = negatives
        if bias is not None:
            more["bias"] = bias
        if self.teach is not None:
            more["teacher"] = self.teach(batch)
        loss = self.loss(images, texts, scale, **more)
        extras = self._extra_losses(batch, images, texts, pairs, scale.detach())
        whole = {"pair_loss": loss} | {name: part for name, (part, _) in extras.items()}
        self.parts = {name: part.detach() for name, part in whole.items()} if extras else {}
        return sum((weight * part for part, weight in extras.values()), start=loss)

    def _extra_losses(
        self, batch: Batch, images: Tensor, texts: Tensor, pairs: Tensor, scale: Tensor
    ) -> dict[str, tuple[Tensor, float]]:
        """Losses beside that of the pairs, with their weights; the temperature is that of it."""
        found = {}
        loss = self.settings.loss
        if (proxies := self.trainee.proxies) is not None and isinstance(loss, InfoNCEConfig):
            value = proxies.loss(images, texts, batch.captions)
            found["concept_loss"] = value, loss.concepts
        if batch.pairs is not None:
            captions = batch.pairs.captions
            value = self.text_loss(
                pairs[0::2], pairs[1::2], scale, captions=captions, ring=self.ring
            )
            found["text_loss"] = value, self.settings.data.texts.weight
        return found

    @torch.no_grad()
    def _clamp_temperature(self) -> None:
        """Keep logit_scale in [0, ln 100], after every step (open_clip train.py)."""
        self.trainee.model.logit_scale.clamp_(0, LARGEST_SCALE)

    def _count_skipped(self, finite: bool, number: int) -> None:
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped > self.settings.optim.most_skipped:
            raise NumericalError(
                f"the gradients of the last {self.skipped} steps, up to step {number + 1}, were "
                'not finite; lower optim.rate, raise optim.warmup, or set precision = "fp32".'
            )


def build_loss(settings: LossConfig) -> Loss:
    """The loss that `settings` name."""
    if isinstance(settings, SigLIPConfig):
        return SigLip(settings.block)
    if isinstance(settings, DistillationConfig):
        return Distillation(settings.weight, settings.block)
    return InfoNCE(settings.block)


def time_precisions(
    trainee: Trainee, settings: TrainSettings, batch: Batch, teach: Teach | None = None
) -> dict[TrainPrecision, float]:
    """Seconds for the gradients of one batch in fp32 and in bf16; the better of two each.

    On some CPUs bf16 is slower than fp32. Neither weights nor random states change.
    """
    states = random_states()
    buffers = {name: buffer.clone() for name, buffer in trainee.named_buffers()}
    loss = build_loss(settings.loss)
    seconds: dict[TrainPrecision, float] = {}
    for precision in PRECISIONS:
        stepper = Stepper(trainee, replace(settings, precision=precision), loss, teach=teach)
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            float(stepper.accumulate(batch))
            times.append(time.perf_counter() - begun)
        seconds[precision] = min(times)
    trainee.zero_grad(set_to_none=True)
    for name, buffer in trainee.named_buffers():
        buffer.copy_(buffers[name])
    set_random_states(states)
    return seconds


def _backward(outputs: tuple[Tensor, ...], gradients: list[Tensor]) -> None:
    """Send gradients back through the outputs that were computed with gradients."""
    wanted = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    torch.autograd.backward([o for o, _ in wanted], [g.to(o) for o, g in wanted])


def _gradient_of(leaf: Tensor) -> Tensor:
    """Zeros where the loss does not depend on it."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def random_states() -> list[Tensor]:
    """The state of torch's generators, on the CPU and on the GPU in use."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def set_random_states(states: list[Tensor]) -> None:
    """Give the generators states that `random_states` returned."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
