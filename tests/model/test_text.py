"""The text tower is causal, pools the first end of text, and refuses wrong inputs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import ClipConfig, TextConfig, TextTower, end_positions, random_model
from tests import tiny, twins
from tests.twins import check_relative

END = 50  # not the largest id, so that an argmax over ids finds something else
CONFIG = TextConfig(vocabulary=60, context=16, width=32, depth=3, heads=4, mlp=96, end_of_text=END)


def tower(config: TextConfig = CONFIG) -> TextTower:
    return random_model(ClipConfig(embed=24, image=None, text=config)).text_tower


def ids(rows: int, end: int, seed: int = 0) -> Tensor:
    """(rows, 16) ids below END, the end of text at `end`."""
    tokens = torch.randint(0, END, (rows, 16), generator=torch.Generator().manual_seed(seed))
    tokens[:, end] = END
    return tokens


@torch.no_grad()
def test_what_follows_the_end_of_text_cannot_change_the_vector() -> None:
    model, tokens = tower(), ids(4, end=6)
    changed = tokens.clone()
    changed[:, 7:] = ids(4, end=9, seed=1)[:, 7:]
    assert not torch.equal(tokens, changed)
    torch.testing.assert_close(model(changed), model(tokens), rtol=0, atol=0)
    before, after = model.states(tokens), model.states(changed)
    for hidden, other in zip(before.hidden, after.hidden, strict=True):
        torch.testing.assert_close(hidden[:, :7], other[:, :7], rtol=0, atol=0)


@torch.no_grad()
def test_what_comes_before_the_end_of_text_does_change_the_vector() -> None:
    model, tokens = tower(), ids(1, end=6)
    for place in range(6):
        changed = tokens.clone()
        changed[:, place] = (tokens[:, place] + 1) % END
        assert (model(changed) - model(tokens)).abs().max() > 1e-4, place


@torch.no_grad()
def test_attention_looks_at_no_later_token() -> None:
    for weights in tower().states(ids(2, end=6), look=True).attention:
        assert torch.equal(weights.triu(1), torch.zeros_like(weights))


@pytest.mark.parametrize("kind", ["vit", "odd", "cut"])
@torch.no_grad()
def test_a_shorter_text_has_the_vector_of_the_full_context(kind: str) -> None:
    model, tokens = twins.ours(kind, "gelu").text_tower, tiny.tokens(tiny.checkpoint(kind))
    full = model(tokens)
    for row, end in enumerate(end_positions(tokens, model.config.end_of_text).tolist()):
        check_relative(model(tokens[row : row + 1, : end + 1]), full[row : row + 1])


@torch.no_grad()
def test_the_first_end_of_text_is_pooled() -> None:
    model, tokens = tower(), ids(3, end=4)
    tokens[:, 9] = END  # a second one
    tokens[:, 2] = tokens[:, 11] = 59  # the largest ids, before and behind
    assert end_positions(tokens, END).tolist() == [4, 4, 4]
    states = model.states(tokens)
    torch.testing.assert_close(states.pooled, states.last[:, 4])
    torch.testing.assert_close(model(tokens), states.vectors)
    torch.testing.assert_close(model(tokens[:, :5]), states.vectors, rtol=1e-5, atol=1e-6)


def test_a_row_without_end_of_text_is_refused_by_number() -> None:
    tokens = ids(3, end=4)
    tokens[1, 4] = 0
    with pytest.raises(ShapeError, match=r"row 1 .*no end-of-text id 50.*cut long texts"):
        tower()(tokens)


@pytest.mark.parametrize("shape", [(16,), (2, 17), (2, 3, 4)])
def test_ids_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"must be \(batch, at most 16\).*clip\.tokenize"):
        tower()(torch.full(shape, END))


@torch.no_grad()
def test_without_projection_the_vector_is_the_pooled_state() -> None:
    model = twins.ours("unprojected", "quick_gelu").text_tower
    states = model.states(tiny.tokens(tiny.checkpoint("unprojected")))
    assert model.projection is None
    assert torch.equal(states.vectors, states.pooled)


@torch.no_grad()
def test_layers_are_counted_from_both_ends() -> None:
    model, tokens = tower(), ids(2, end=6)
    hidden = model.states(tokens).hidden
    assert len(hidden) == CONFIG.depth + 1
    for layer, wanted in enumerate(hidden):
        for index in (layer, layer - len(hidden)):
            assert torch.equal(model.sequence(tokens, layer=index, final_norm=False), wanted)
    for layer in (4, -5):
        with pytest.raises(ConfigError, match=rf"layer {layer} does not exist.*0 .* to 3"):
            model.sequence(tokens, layer=layer)


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not split into 5 heads"):
        replace(CONFIG, heads=5)
    with pytest.raises(ConfigError, match="end_of_text 60 is outside the vocabulary of 60"):
        replace(CONFIG, end_of_text=60)
    with pytest.raises(ConfigError, match="depth must be a whole number of 1 to 256, got 0"):
        replace(CONFIG, depth=0)
