"""Clips and conditionings survive pickle and copy, so that worker processes can use them."""

import copy
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
import torch.multiprocessing  # lets processes share tensors

from ecliptic.diffusion import conditioner
from ecliptic.engine import Clip
from tests.engine.models import draw

COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_copy_of_a_clip_gives_the_same_vectors_and_card(clip: Clip, copied: Any) -> None:
    """Up to rounding: on some processors it depends on where a weight lies in memory."""
    again = copied(clip)
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(again.encode_text("a cat"), clip.encode_text("a cat"), **close)
    torch.testing.assert_close(again.encode_image(draw()), clip.encode_image(draw()), **close)
    assert again.card == clip.card
    assert again.card.exact == clip.card.exact
    assert again.model is not clip.model


def test_a_clip_that_is_sent_to_a_process_stays_as_it_is(clip: Clip) -> None:
    """PyTorch moves the weights to shared memory then."""
    own = copy.deepcopy(clip)
    card = own.card
    ForkingPickler.dumps(own)
    assert own.model.logit_scale.is_shared()  # type: ignore[no-untyped-call]
    assert own.card is card
    assert own._loaded.holds([*own.model.parameters(), *own.model.buffers()])


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_a_copy_sees_changes_of_its_own_weights(clip: Clip, copied: Any) -> None:
    again = copied(clip)
    with torch.no_grad():
        again.model.logit_scale.add_(1)
    assert "the weights changed since loading" in again.card.notes
    assert again.card.weights != clip.card.weights
    assert "the weights changed since loading" in copied(again).card.notes


def test_the_preparation_and_a_conditioning_can_be_sent_to_another_process(clip: Clip) -> None:
    prepare = pickle.loads(pickle.dumps(clip.preprocess))
    assert torch.equal(prepare(draw()), clip.preprocess(draw()))
    made = conditioner("sd1", encoders=clip, any_size=True)("a (red:1.2) cat", dialect="a1111")
    again = pickle.loads(pickle.dumps(made))
    assert torch.equal(again.tokens, made.tokens)
    assert again.ledger.to_json() == made.ledger.to_json()
