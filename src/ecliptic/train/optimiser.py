"""AdamW on two groups of parameters, and the schedule of the learning rate."""

import math

from torch import nn
from torch.optim import AdamW

from ecliptic.train.settings import OptimiserSettings


def adamw(model: nn.Module, settings: OptimiserSettings) -> AdamW:
    """AdamW without decay for 1-D parameters: biases, norms, the temperature and others."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return AdamW(groups, lr=settings.rate, betas=betas, eps=settings.eps)


def rate_at(step: int, steps: int, settings: OptimiserSettings) -> float:
    """Learning rate of `step` (from 0): linear warm-up, then half a cosine down to zero.

    With `restarts`, half a cosine between each two of them (Loshchilov & Hutter 2017, SGDR,
    arXiv:1608.03983, section 3).
    """
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    begun = max((start for start in settings.restarts if start <= step), default=settings.warmup)
    ends = min((start for start in settings.restarts if start > step), default=steps)
    rate = settings.restart_rate if begun in settings.restarts else settings.rate
    progress = (step - begun) / max(1, ends - begun)
    return rate * 0.5 * (1 + math.cos(math.pi * progress))
