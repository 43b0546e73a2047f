"""Questions about held-out images, by which a model is calibrated at the end of its run.

A question is an image and some names; its own is among them in half of all questions. I images,
C names.
"""

import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.scoring import NONE, cosine

NAMES = (2, 3, 5, 10, 20, 50)  # of a question
FEWEST = 3  # names, so that two can be asked for without the own one
ROUNDS = 4  # questions of each number of names, for each image


def ask(images: Tensor, names: Tensor, own: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Questions for `fit_calibration`: cosines (N, 50), -inf where there are fewer, and answers.

    Args:
        images: (I, E) vectors.
        names: (C, E) vectors.
        own: (I,) the name of each image.
        seed: of the names that are drawn.

    Raises:
        ConfigError: fewer than three names.
    """
    if len(names) < FEWEST:
        raise ConfigError(
            f"a calibration needs at least {FEWEST} names to ask for, but its set has {len(names)}."
        )
    cosines = cosine(images, names)
    random = torch.Generator().manual_seed(seed)
    most = max(NAMES)
    rows, answers = [], []
    for count in sorted({min(count, len(names) - 1) for count in NAMES}):
        for number in range(ROUNDS):
            row, answer = _ask(cosines, own, count, known=number % 2 == 0, random=random)
            rows.append(torch.nn.functional.pad(row, (0, most - count), value=-torch.inf))
            answers.append(answer)
    return torch.cat(rows), torch.cat(answers)


def _ask(
    cosines: Tensor, own: Tensor, count: int, *, known: bool, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(I, count) cosines with drawn names, the own one in the first place if it is among them."""
    images, names = cosines.shape
    drawn = torch.rand(images, names, generator=random)
    drawn[torch.arange(images), own] = -1.0  # never drawn
    others = drawn.topk(count, dim=-1).indices
    answers = torch.full((images,), NONE)
    if known:
        others[:, 0] = own
        answers = torch.zeros(images, dtype=torch.int64)
    return cosines.gather(1, others), answers
