"""The random labels and logits that published numbers were computed on."""

import numpy as np
import torch
from torch import Tensor


def noisy_logits() -> tuple[Tensor, Tensor]:
    """(200, 5) logits in which the right label is 1 higher, and the (200,) right labels."""
    made = np.random.default_rng(42)
    logits = made.normal(size=(200, 5))
    truth = made.integers(0, 5, 200)
    logits[np.arange(200), truth] += 1
    return torch.from_numpy(logits), torch.from_numpy(truth)


def honest(count: int, labels: int, seed: int, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """(N, L) logits and truths that are drawn with the probabilities of their softmax."""
    made = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(count, labels, generator=made, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=made)[:, 0]
