"""Captions that fit no image go from the examples through the towers into the loss."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecliptic.inputs import ImageSource, Tokenizer
from ecliptic.train.data import BatchMaker, Example, Mixture, Plain
from ecliptic.train.settings import InfoNCEConfig, OptimSettings, SigLIPConfig

from .trainees import SETTINGS, SPEC, gradients_of, largest_error, make_batch, make_stepper


class Pairs:
    """Ten examples; every second one has two negatives."""

    def __len__(self) -> int:
        return 10

    def draw(self, index: int, random: Random) -> Example:
        del random
        wrong = (f"not {index}", f"picture {index + 1}") if index % 2 == 0 else ()
        return Example(str(index), self.picture(index), f"picture {index}", wrong)

    def picture(self, index: int) -> ImageSource:
        return np.full((20, 20, 3), 20 * index, np.uint8)

    def captions(self, index: int) -> tuple[str, ...]:
        return (f"picture {index}",)

    def fingerprint(self) -> str:
        return "pairs"


def make_maker(rank: int = 0, size: int = 1) -> BatchMaker:
    mixture = Mixture([10], [1.0], 10, 0, 0.0)
    plain, tokenizer = Plain(SETTINGS.pixels), Tokenizer(SPEC)
    return BatchMaker([Pairs()], mixture, plain, tokenizer, 0, rank=rank, size=size)


def test_a_batch_holds_the_negatives_of_its_examples() -> None:
    batch = make_maker()[0].batch
    assert batch.negatives is not None
    assert len(batch.negatives) == 10
    ids = set(batch.captions.tolist())
    known = [int(number) in ids for number in batch.negatives.captions]
    assert sum(known) == 5  # "picture 1" and so on are captions of other pairs
    halves = [make_maker(rank, 2)[0].batch.negatives for rank in (0, 1)]
    joined = [text for half in halves if half for text in half.captions.tolist()]
    assert joined == batch.negatives.captions.tolist()


@pytest.mark.parametrize(
    "loss", [InfoNCEConfig(), InfoNCEConfig(mask_duplicates=False), SigLIPConfig(bias=-2.0)]
)
def test_a_step_has_the_gradients_of_the_loss_with_negatives(
    loss: InfoNCEConfig | SigLIPConfig,
) -> None:
    stepper = make_stepper(replace(SETTINGS, loss=loss))
    batch = make_maker()[0].batch
    assert batch.negatives is not None
    found = stepper.accumulate(batch)
    gradients = gradients_of(stepper.trainee)
    stepper.trainee.zero_grad()
    model, hard = stepper.trainee.model, batch.negatives
    vectors = (
        model.encode_image(batch.normalised("cpu")),
        model.encode_text(batch.tokens),
        model.encode_text(hard.tokens),
    )
    image, text, negatives = (F.normalize(v, dim=-1) for v in vectors)
    bias = stepper.trainee.logit_bias
    z = model.logit_scale.exp() * image @ torch.cat([text, negatives]).T
    equal = batch.captions[:, None] == torch.cat([batch.captions, hard.captions])
    equal.fill_diagonal_(False)
    hidden = equal if loss.mask_duplicates else torch.zeros_like(equal)
    if bias is None:
        z = z.masked_fill(hidden, float("-inf"))
        labels = torch.arange(10)
        wanted = (F.cross_entropy(z, labels) + F.cross_entropy(z[:, :10].T, labels)) / 2
    else:
        signs = 2 * torch.eye(10, 20) - 1
        wanted = -F.logsigmoid(signs * (z + bias)).masked_fill(hidden, 0).sum() / 10
    wanted.backward()
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=0)
    assert largest_error(gradients, gradients_of(stepper.trainee)) < 1e-4


def test_negatives_push_their_texts_away() -> None:
    """After some steps, no image is closer to a negative than to its own text."""
    optim = OptimSettings(rate=5e-3, warmup=2, schedule="constant")
    stepper = make_stepper(replace(SETTINGS, optim=optim, steps=60))
    batch = make_batch(8, negatives=8, captions=1000)
    apart = []
    for number in range(60):
        stepper.step(batch, number)
        if number in (0, 59):
            with torch.no_grad():
                images, _, negatives, *_ = stepper.trainee(batch)
            own = (images * stepper.vectors[1]).sum(1)
            apart.append(float((own - (images @ negatives.T).amax(1)).mean()))
    assert apart[1] > 0.3
    assert apart[1] > apart[0]
