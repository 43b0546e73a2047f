"""ComfyUI's conditioning nodes, each beside a short statement of its formula."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecliptic.diffusion import (
    Conditioning,
    ConditioningWarning,
    Hires,
    average,
    combine,
    concat,
    save_conditioning,
)
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


def passes(prompt: str, later: str | None = "later") -> Conditioning:
    hires = None if later is None else Hires(4, prompt=later)
    return make("sdxl")(prompt, steps=4, hires=hires)


def test_the_second_pass_is_treated_as_the_first() -> None:
    a, b = passes("a cat"), passes("a dog", "an owl")
    assert a.hires is not None
    assert b.hires is not None
    for join in (combine, concat, average):
        found, wanted = join(a, b).hires, join(a.hires, b.hires)
        assert found is not None
        assert torch.equal(tensor(found.tokens), tensor(wanted.tokens))
        assert len(found.alternatives) == len(wanted.alternatives)
        with pytest.raises(ConfigError, match="only one of the two conditionings has a second"):
            join(a, passes("a dog", None))
        with pytest.raises(ConfigError, match="only one of the two conditionings has a second"):
            join(passes("a dog", None), a)
    mixed = average(a, b, 0.25).hires
    assert mixed is not None
    torch.testing.assert_close(mixed.tokens, average(a.hires, b.hires, 0.25).tokens)
    late, none = a.between(0.5, 1).hires, a.zeroed().hires
    assert late is not None
    assert none is not None
    assert late.during == (0.5, 1.0)
    assert not tensor(none.tokens).any()
    assert none.ledger.rows == ()


def test_a_step_keeps_the_second_pass_and_the_networks() -> None:
    with pytest.warns(ConditioningWarning, match="pass loras="):
        made = make("sdxl")("a [cat:dog:2]<lora:x>", dialect="a1111", steps=4, hires=Hires(4))
    both = combine(made, made)
    assert len(both.networks) == 2
    for one in (made.at(1), made.at(4), both.at(2)):
        assert one.hires is not None
        assert one.networks[0].network.name == "x"


@pytest.mark.parametrize("family", ["unclip", "kandinsky2-prior"])
def test_a_step_keeps_what_the_call_has_for_all_steps(family: str) -> None:
    made = make(family)("a [cat:dog:2]", negative="x", dialect="a1111", steps=4)
    image = torch.ones(1, 8)
    assert made.negative is not None
    whole = replace(made, image=image, negative=replace(made.negative, image=image))
    for step in (1, 4):
        assert whole.at(step).image is image
        negative = whole.at(step).negative
        assert negative is not None
        assert negative.image is image
        wanted = made.at(step).negative
        assert wanted is not None
        assert negative.tokens is wanted.tokens


def test_wrong_kinds_of_arguments_are_refused_with_a_fix() -> None:
    a, b = pair()
    given: Any
    for join in (combine, concat, average):
        for given in (3, None, "a cat", {}):
            for both in ((a, given), (given, a)):
                with pytest.raises(ConfigError, match="only conditionings can be"):
                    join(*both)
    for given in ("x", None, [0.5], True):
        with pytest.raises(ConfigError, match="weight must be a number"):
            average(a, b, given)
    for given in ("a", None, [0.5]):
        with pytest.raises(ConfigError, match="start must be a number"):
            a.between(given, 1)
        with pytest.raises(ConfigError, match="end must be a number"):
            a.between(0, given)
    for given in ("1", 1.5, None, 0):
        with pytest.raises(ConfigError, match="step must be"):
            a.at(given)
        with pytest.raises(ConfigError, match="times must be"):
            a.repeat(given)


def test_a_file_holds_both_passes_or_says_why_not(tmp_path: Path) -> None:
    made, path = passes("a cat", "an owl"), tmp_path / "c.safetensors"
    assert made.hires is not None
    names = save_conditioning(made, path)
    later = {f"hires.{name}" for name in made.hires.to_diffusers()}
    assert set(names) == set(made.to_diffusers()) | later
    stored = load_file(path)
    assert torch.equal(stored["hires.prompt_embeds"], tensor(made.hires.tokens))
    assert torch.equal(stored["prompt_embeds"], tensor(made.tokens))
    changing = make("sdxl")("a", dialect="a1111", steps=4, hires=Hires(4, prompt="[a:b:6]"))
    with pytest.raises(ConfigError, match=r"the second pass cannot be written: .*c\.at"):
        save_conditioning(changing, path)
