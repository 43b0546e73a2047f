"""compel's modes beside its defaults: fragments removed, ends of chunks shared."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion import Emphasis, conditioner, parse
from ecliptic.errors import ConfigError
from ecliptic.inputs import TruncationWarning
from tests import peers
from tests.diffusion.emphasis.test_compel import folder, provider, theirs  # noqa: F401
from tests.diffusion.test_conditioner import make

SHORT = [
    "a (fluffy cat)0.8 sits",
    "a (fluffy)0.5 (cat)1.5 (sits there)0.1",
    "(a cat)0.0 (and a dog)0.7",
    "(all of it)0.6",
    "a (fluffy cat)1.3 sits",
]
LONG = "a (red fox)0.5, a (lazy dog)1.2. the quick brown cat jumps over (one)0.7 wall, then sleeps"


def vectors(folder: Path, prompt: str, **options: Any) -> torch.Tensor:  # noqa: F811
    made = conditioner("sd1", encoders=[folder], any_size=True)
    tokens = made(prompt, dialect="compel", **options).tokens
    assert tokens is not None
    return tokens[0]


def wanted(folder: Path, prompt: str, **options: Any) -> torch.Tensor:  # noqa: F811
    return theirs(provider(folder, **options), parse(prompt, "compel").spans)[0]


@pytest.mark.parametrize("prompt", SHORT)
def test_fragments_are_removed_as_in_compel(folder: Path, prompt: str) -> None:  # noqa: F811
    mode = peers.compel().DownweightMode.REMOVE
    found = vectors(folder, prompt, emphasis="compel-remove")
    expected = wanted(folder, prompt, downweight_mode=mode)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_removed_fragments_let_lost_words_in_as_in_compel(folder: Path) -> None:  # noqa: F811
    mode = peers.compel().DownweightMode.REMOVE
    with pytest.warns(TruncationWarning):
        found = vectors(folder, LONG, emphasis="compel-remove")
    expected = wanted(folder, LONG, downweight_mode=mode)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_fragments_are_removed_from_every_chunk_as_in_compel(folder: Path) -> None:  # noqa: F811
    compel = peers.compel()
    options = {
        "truncate": False,
        "split_long_text_mode": compel.SplitLongTextMode.BRUTAL,
        "downweight_mode": compel.DownweightMode.REMOVE,
    }
    found = vectors(folder, LONG, emphasis="compel-remove", long="compel-brutal")
    assert len(found) == 32
    torch.testing.assert_close(found, wanted(folder, LONG, **options), atol=2e-5, rtol=0)


@pytest.mark.parametrize("split", ["BRUTAL", "WORDS", "PHRASES", "SENTENCES"])
@pytest.mark.parametrize("ends", ["COPY_FIRST_CLS_TOKEN", "MERGE_CLS_TOKENS"])
def test_ends_of_chunks_are_shared_as_in_compel(folder: Path, split: str, ends: str) -> None:  # noqa: F811
    modes = peers.compel().SplitLongTextMode
    both = modes[split] | modes[ends]
    long: Any = "compel" if split == "SENTENCES" else f"compel-{split.lower()}"
    name = "first" if ends.startswith("COPY") else "mean"
    found = vectors(folder, LONG, long=long, chunk_ends=name)
    expected = wanted(folder, LONG, truncate=False, split_long_text_mode=both)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    own = vectors(folder, LONG, long=long)
    assert (found - own).abs().max() > 1e-3


def test_whole_fragments_take_no_normalization_of_words() -> None:
    with pytest.raises(ConfigError, match='"compel-remove" weights whole fragments'):
        Emphasis("compel-remove", normalization="mean")


@pytest.mark.parametrize("balance", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_balance_of_two_encoders_is_that_of_adv(balance: float) -> None:
    """Restated from `prepareXL`: each encoder fades out on its own side of one half."""
    clip_l = 1.0 if balance <= 0.5 else (1 - balance) / 0.5
    clip_g = 1.0 if balance >= 0.5 else balance / 0.5
    plain = make("sdxl")("a (red:1.3) fox", dialect="comfyui", negative="x")
    emphasis = Emphasis("comfyui", balance=balance)
    found = make("sdxl")("a (red:1.3) fox", dialect="comfyui", negative="x", emphasis=emphasis)
    width = make("sdxl").encoders[0].width
    for before, after in ((plain, found), (plain.negative, found.negative)):
        assert before is not None
        assert after is not None
        assert before.tokens is not None
        assert after.tokens is not None
        torch.testing.assert_close(after.tokens[..., :width], before.tokens[..., :width] * clip_l)
        torch.testing.assert_close(after.tokens[..., width:], before.tokens[..., width:] * clip_g)
        assert torch.equal(after.pooled, before.pooled)  # type: ignore[arg-type]


def test_new_options_leave_old_identities_as_they_are() -> None:
    plain = make("sdxl").identity(emphasis="comfyui")["options"]
    assert "chunk_ends" not in plain
    assert plain["emphasis"] == {"name": "comfyui", "normalization": "none"}
    even: Any = {"emphasis": Emphasis("comfyui", balance=0.5), "chunk_ends": "own"}
    assert make("sdxl").identity(**even)["options"] == plain
    other: Any = {"emphasis": Emphasis("comfyui", balance=0.4), "chunk_ends": "first"}
    changed = make("sdxl").identity(**other)["options"]
    assert changed["chunk_ends"] == "first"
    assert changed["emphasis"]["balance"] == 0.4


@pytest.mark.parametrize("balance", [-0.1, 1.1, float("nan")])
def test_a_balance_is_a_fraction(balance: float) -> None:
    with pytest.raises(ConfigError, match="balance must be"):
        Emphasis("comfyui", balance=balance)
