"""AdamW on groups of parameters, the schedule of their rates, and the moving average of weights.

Rates that fall with depth: Bao et al. 2021, arXiv:2106.08254 (BEiT), appendix; as open_clip's
EVA-CLIP recipes use them, each tower with a factor of its own.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from ecliptic.train.layers import layer_count, layered_parameters
from ecliptic.train.processes import fill, is_shard
from ecliptic.train.settings import EmaSettings, OptimSettings, TrainSettings
from ecliptic.train.trainee import Trainee


def adamw(trainee: Trainee, settings: TrainSettings) -> AdamW:
    """AdamW with one group for each rate and weight decay.

    Parameters with fewer than two axes (biases, norms, the class token, the temperature and the
    bias of the loss) are not decayed. `factor` of a group is its rate relative to `optim.rate`.
    """
    optim = settings.optim
    groups: defaultdict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    for factor, parameter in _rate_factors(trainee, settings):
        decay = optim.decay if parameter.ndim >= 2 else 0.0
        groups[factor, decay, is_shard(parameter)].append(parameter)  # torch steps them apart
    betas = (optim.beta1, optim.beta2)
    rows = [
        {"params": parameters, "weight_decay": decay, "factor": factor, "lr": optim.rate * factor}
        for (factor, decay, _), parameters in groups.items()
    ]
    return AdamW(rows, lr=optim.rate, betas=betas, eps=optim.eps, fused=True)


def rate_at(step: int, steps: int, settings: OptimSettings) -> float:
    """The rate of `step` (from 0) of `steps`: linear warm-up, then the schedule.

    "cosine" is half a cosine down to `last_rate`; with `restarts`, one between each two of them
    (Loshchilov & Hutter 2017, SGDR, arXiv:1608.03983, section 3). "linear" falls in a line.
    "inverse-sqrt" is rate sqrt(warmup / step) (Zhai et al. 2022, arXiv:2106.04560, section 3.5).
    "constant" and "inverse-sqrt" end with `cooldown` steps in a line down to `last_rate`.
    """
    warmup, rate, last = settings.warmup, settings.rate, settings.last_rate
    if step < warmup:
        return rate * (step + 1) / warmup
    if settings.schedule == "cosine":
        return _cosine_at(step, steps, settings)
    if settings.schedule == "linear":
        return rate + (last - rate) * (step - warmup) / max(1, steps - warmup)

    def level(at: int) -> float:
        if settings.schedule == "constant":
            return rate
        return rate * math.sqrt(max(1, warmup) / max(1, warmup, at))

    begins = steps - settings.cooldown
    if step < begins:
        return level(step)
    return last + (level(begins) - last) * (steps - step) / settings.cooldown


def _cosine_at(step: int, steps: int, settings: OptimSettings) -> float:
    restarts = settings.restarts
    begun = max((start for start in restarts if start <= step), default=settings.warmup)
    ends = min((start for start in restarts if start > step), default=steps)
    rate = settings.restart_rate if begun in restarts else settings.rate
    progress = (step - begun) / max(1, ends - begun)
    low = settings.last_rate
    return low + (rate - low) * 0.5 * (1 + math.cos(math.pi * progress))


def set_rates(optimiser: AdamW, rate: float) -> None:
    """Give each group its share of `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _rate_factors(trainee: Trainee, settings: TrainSettings) -> list[tuple[float, nn.Parameter]]:
    """The rate of each trained parameter relative to `optim.rate`."""
    found: list[tuple[float, nn.Parameter]] = []
    for name, tower in trainee.towers().items():
        own = getattr(settings, name)
        base = 1.0 if own.rate is None else own.rate / settings.optim.rate
        top = layer_count(tower) - 1
        for layer, _, parameter in layered_parameters(tower):
            found.append((base * own.rate_decay ** (top - layer), parameter))
    found.append((1.0, trainee.model.logit_scale))
    if trainee.logit_bias is not None:
        found.append((1.0, trainee.logit_bias))
    if trainee.proxies is not None:
        found.append((1.0, trainee.proxies.vectors))
    return [(factor, parameter) for factor, parameter in found if parameter.requires_grad]


class MovingAverage:
    """The moving average e of weights w: e += (1 - d) (w - e), d = min(decay, (1 + t) / (10 + t)).

    Statistics of batch norms and counters are copied, not averaged.

    Args:
        trainee: whose weights are averaged; t counts its steps.
        settings: the decay.
    """

    def __init__(self, trainee: Trainee, settings: EmaSettings) -> None:
        self.decay = settings.decay
        self.steps = 0
        self._trainee = trainee
        self.weights = {name: w.detach().clone() for name, w in trainee.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        averaged = {name for name, _ in self._trainee.named_parameters()}
        now = self._trainee.state_dict()
        moved = [(self.weights[name], now[name]) for name in averaged]
        for shares in (True, False):  # torch does not mix them
            some = [(e, w) for e, w in moved if is_shard(e) == shares]
            if some:
                torch._foreach_lerp_([e for e, _ in some], [w for _, w in some], 1 - decay)
        for name in now.keys() - averaged:
            self.weights[name].copy_(now[name])

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        return {"steps": self.steps, "weights": self.weights}

    @torch.no_grad()
    def load(self, steps: int, weights: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.steps = steps
        for name, tensor in self.weights.items():
            fill(tensor, weights[name])
