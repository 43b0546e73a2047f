"""ComfyUI's conditioning nodes, each beside a short statement of its formula."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion import Conditioning, average, combine, concat
from ecliptic.errors import ConfigError, ShapeError
from tests.diffusion.test_conditioner import make

LONG = "fox " * 100


def pair(family: str = "sdxl", **options: Any) -> tuple[Conditioning, Conditioning]:
    return make(family)("a cat", **options), make(family)("a red dog", **options)


def tensor(given: Tensor | None) -> Tensor:
    assert given is not None
    return given


def test_combine_keeps_both_for_the_sampler() -> None:
    a, b = pair()
    found = combine(combine(a, b), b.between(0.5, 1))
    assert [weight for _, weight in found.alternatives] == [1.0, 1.0, 1.0]
    assert [one.during for one, _ in found.alternatives] == [(0, 1), (0, 1), (0.5, 1)]
    assert found.alternatives[1][0] is b
    assert found.tokens is a.tokens
    with pytest.raises(ConfigError, match=r"each part of c\.alternatives"):
        found.to_diffusers()
    both = make("sd1")("x AND y:0.5", dialect="a1111")
    more = combine(both, make("sd1")("z"))
    assert [weight for _, weight in more.alternatives] == [1.0, 0.5, 1.0]


def test_concat_is_on_the_token_axis_and_keeps_the_first_pooled() -> None:
    a, b = pair("kandinsky2-prior")
    found = concat(a, b)
    assert torch.equal(tensor(found.tokens), torch.cat([tensor(a.tokens), tensor(b.tokens)], 1))
    assert torch.equal(tensor(found.mask), torch.cat([tensor(a.mask), tensor(b.mask)], 1))
    assert found.pooled is a.pooled
    assert found.negative is a.negative
    texts = [(row.text, row.chunk) for row in found.ledger.rows]
    assert texts == [("a", 0), ("cat", 0), ("a", 0), ("red", 0), ("dog", 0)]
    assert [one.notes for one in found.ledger.readings] == [
        (),
        ("after the 1 chunk of the first conditioning",),
    ]
    assert found.ledger.prompts == ("a cat", "a red dog")


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 1.5])
@pytest.mark.parametrize(("first", "second"), [("a cat", LONG), (LONG, "a cat")])
def test_average_cuts_or_pads_the_second_with_zeros(weight: float, first: str, second: str) -> None:
    a, b = (make("sdxl")(text, long="chunk") for text in (first, second))
    found = average(a, b, weight)
    t1 = tensor(a.tokens)
    t0 = torch.zeros_like(t1)
    length = min(t1.shape[1], tensor(b.tokens).shape[1])
    t0[:, :length] = tensor(b.tokens)[:, :length]
    torch.testing.assert_close(found.tokens, t1 * weight + t0 * (1 - weight))
    pooled = tensor(a.pooled) * weight + tensor(b.pooled) * (1 - weight)
    torch.testing.assert_close(found.pooled, pooled)
    assert {"cat", "fox"} <= {row.text for row in found.ledger.rows}
    assert set(found.to_diffusers()) == set(a.to_diffusers())


def test_average_takes_the_pooled_vector_that_is_there() -> None:
    from dataclasses import replace

    a, b = pair()
    assert average(replace(a, pooled=None), b).pooled is b.pooled
    assert average(a, replace(b, pooled=None)).pooled is a.pooled


def test_a_range_is_kept_and_no_pipeline_takes_it() -> None:
    a, b = pair()
    late = a.between(0.2, 0.8)
    assert late.during == (0.2, 0.8)
    assert "from 0.2 to 0.8" in repr(late)
    with pytest.raises(ConfigError, match=r"from 0\.2 to 0\.8 of the sampling, but a pipeline"):
        late.to_diffusers()
    assert late.between(0, 1).to_diffusers().keys() == a.to_diffusers().keys()
    parts = combine(a, b).between(0.5, 1).alternatives
    assert all(one.during == (0.5, 1.0) for one, _ in parts)
    steps = make("sd1")("a [cat:dog:4]", dialect="a1111", steps=10).between(0, 0.5)
    assert steps.at(6).during == (0, 0.5)
    for start, end in ((0.8, 0.2), (0.5, 0.5), (-1, 1), (0, float("nan"))):
        with pytest.raises(ConfigError, match="fractions from 0 to 1"):
            a.between(start, end)


def test_zeroed_is_zeros_and_has_no_words() -> None:
    a = make("sdxl")("a cat", negative="blurry")
    found = a.zeroed()
    assert found.tokens is not None
    assert found.pooled is not None
    assert not found.tokens.any()
    assert not found.pooled.any()
    assert found.tokens.shape == tensor(a.tokens).shape
    assert found.size_ids is a.size_ids
    assert found.negative is a.negative
    assert found.ledger.rows == ()


@pytest.mark.parametrize("join", [combine, concat, average])
def test_what_does_not_fit_is_refused(join: Any) -> None:
    a, b = pair()
    with pytest.raises(ConfigError, match="Stable Diffusion XL base and one of Stable Diffusion 1"):
        join(a, make("sd1")("a cat"))
    with pytest.raises(ShapeError, match="of 1 and 2 prompts"):
        join(a, make("sdxl")(["a", "b"]))
    if join is combine:
        return
    with pytest.raises(ConfigError, match="more than one set of tensors"):
        join(combine(a, b), b)
    with pytest.raises(ConfigError, match="only conditionings with tokens"):
        join(*pair("flux"))
