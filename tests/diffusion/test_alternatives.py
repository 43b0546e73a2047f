"""AND, weights at the end of a prompt, and schedules, through a conditioner."""

from typing import Any

import pytest

from ecliptic.diffusion import ConditioningWarning, Hires, parse
from ecliptic.errors import ConfigError, InputError
from tests.diffusion.test_conditioner import make, same


def test_alternatives_of_and_are_their_prompts() -> None:
    found = make("sd1")("a cat AND a dog:0.5", dialect="a1111")
    (cat, one), (dog, half) = found.alternatives
    assert (one, half) == (1.0, 0.5)
    same(cat.tokens, make("sd1")("a cat").tokens)
    same(dog.tokens, make("sd1")(" a dog").tokens)
    same(found.tokens, cat.tokens)
    with pytest.raises(ConfigError, match=r"each part of c\.alternatives"):
        found.to_diffusers()


def test_a_trailing_weight_is_no_text_even_without_and() -> None:
    with pytest.warns(ConditioningWarning, match=r"'a cat:1\.2', is read as the weight 1\.2"):
        found = make("sd1")("a cat:1.2", dialect="a1111")
    same(found.tokens, make("sd1")("a cat", dialect="a1111").tokens)
    ((same_one, weight),) = found.alternatives
    assert weight == 1.2
    same(same_one.tokens, found.tokens)
    assert found.to_diffusers().keys() == {"prompt_embeds", "negative_prompt_embeds"}
    with pytest.warns(ConditioningWarning, match="the weight 1 of all"):
        assert make("sd1")("ratio 1:1", dialect="a1111").alternatives == ()


@pytest.mark.parametrize("text", ["ratio 16:\\9", "ratio 16:9,", "ratio 16:9 photo", "(16:9)"])
def test_a_number_that_is_escaped_or_not_at_the_end_is_no_weight(text: str) -> None:
    found = make("sd1")(text, dialect="a1111")  # a warning would be an error
    assert found.alternatives == ()
    assert "9" in {row.text for row in found.ledger.rows} or text == "(16:9)"


def test_the_message_of_a_trailing_weight_names_an_escape_that_works() -> None:
    with pytest.warns(ConditioningWarning) as caught:
        make("sd1")("ratio 16:9", dialect="a1111")
    assert r"write ':\9' or a comma after them" in str(caught[0].message)


def test_a_weight_in_the_second_wording_has_no_effect() -> None:
    with pytest.warns(ConditioningWarning, match=r"\[0\.5\] at the ends of a prompt_2"):
        make("sdxl")("a cat", prompt_2="a dog:0.5", dialect="a1111")


def test_a_schedule_gives_the_prompt_of_each_step() -> None:
    found = make("sd1")(["a [cat:dog:4] sat", "a fox"], dialect="a1111", steps=10)
    for step, words in ((1, "cat"), (4, "cat"), (5, "dog"), (10, "dog")):
        same(found.at(step).tokens, make("sd1")([f"a {words} sat", "a fox"]).tokens)
        assert words in {row.text for row in found.at(step).ledger.rows}
    for step in (0, 11):
        with pytest.raises(ConfigError, match="1 to 10"):
            found.at(step)
    with pytest.raises(ConfigError, match=r"c\.at\(step\)"):
        found.to_diffusers()
    with pytest.raises(ConfigError, match="pass steps="):
        make("sd1")("a [cat:dog:4]", dialect="a1111")


def test_steps_keep_the_alternatives_of_and() -> None:
    found = make("sd1")("a [cat:dog:4] AND a fox:0.5", dialect="a1111", steps=10).at(6)
    (dog, _), (fox, weight) = found.alternatives
    assert weight == 0.5
    same(dog.tokens, make("sd1")("a dog ").tokens)
    same(fox.tokens, make("sd1")(" a fox").tokens)


@pytest.mark.parametrize("compat", ["diffusers", "a1111"])
def test_and_in_a_batch_has_a_weight_for_every_prompt(compat: str) -> None:
    how: dict[str, Any] = {"dialect": "a1111", "steps": 10, "compat": compat}
    prompts = ["a cat", "a (fox:1.4) AND [a:b:3] dog:0.5 AND tree", "a \\(owl AND snow:0.3"]
    found = make("sd1")(prompts, negative="blurry", **how)
    assert [weight.tolist() for _, weight in found.alternatives] == [  # type: ignore[union-attr]
        [1.0, 1.0, 1.0],
        pytest.approx([0.0, 0.5, 0.3]),
        [0.0, 1.0, 0.0],
    ]
    for row, prompt in enumerate(prompts):
        alone = make("sd1")(prompt, negative="blurry", **how)
        parts = alone.alternatives or ((alone, 1.0),)
        for number, (batch, _) in enumerate(found.alternatives):
            wanted = parts[number if number < len(parts) else 0][0]
            for step in (1, 10):
                tokens, own = batch.at(step).tokens, wanted.at(step).tokens
                assert tokens is not None
                assert own is not None
                # a1111 takes the mean over the batch, so only sums of one prompt stay
                if compat == "diffusers":
                    same(tokens[row], own[0])
                assert tokens.shape[0] == 3
    assert [w.tolist() for _, w in found.repeat(2).alternatives][2] == [0, 0, 1, 1, 0, 0]  # type: ignore[union-attr]
    same(found.at(10).tokens, found.alternatives[0][0].at(10).tokens)


def test_and_in_only_one_wording_is_refused() -> None:
    with pytest.raises(ConfigError, match="as often in both"):
        make("sdxl")(["a AND b", "c"], prompt_2=["a", "c"], dialect="a1111")


def test_each_keeps_the_weight_of_a_prompt_and_refuses_and() -> None:
    with pytest.warns(ConditioningWarning, match="weight 9"):
        first, second = make("sd1").each(["ratio 16:9", "a cat"], dialect="a1111")
    assert [weight for _, weight in first.alternatives] == [9.0]
    assert second.alternatives == ()
    with pytest.raises(ConfigError, match="joins several by AND"):
        make("sd1").each(["a cat", "a AND b"], dialect="a1111")


def test_and_in_a_negative_is_a_word() -> None:
    found = make("sd1")("x", negative="a AND b", dialect="a1111")
    assert found.negative is not None
    same(found.negative.tokens, make("sd1")("a AND b").tokens)


# --- blends of other lengths -------------------------------------------------------------------

LONG = "a cat on a mat and a dog, " * 14


@pytest.mark.parametrize("compat", ["diffusers", "a1111", "kohya"])
def test_blends_of_any_lengths_fit_into_one_batch_under_kohya(compat: str) -> None:
    how: dict[str, Any] = {"long": "kohya", "compat": compat, "emphasis": "ignore"}
    long, short = make("sd1")([LONG, "a dog"], **{**how, "compat": "kohya"}).tokens  # type: ignore[misc]
    blended = make("sd1")(f'("{LONG}","a dog").blend(1,3)', dialect="compel", **how).tokens
    same(blended, (0.25 * long + 0.75 * short)[None])
    prompts = [f'("{LONG}","a dog").and(1,0.5)', '("a","b").blend()', LONG, "a"]
    found = make("sd1")(prompts, negative='("a","b").and()', dialect="compel", **how)
    assert found.tokens is not None
    assert found.negative is not None
    assert found.negative.tokens is not None
    assert found.tokens.shape == found.negative.tokens.shape
    alone = make("sd1")("a", **how).tokens
    assert alone is not None
    same(found.tokens[3, :76], alone[0, :76])


# --- the second pass of A1111 ------------------------------------------------------------------


def test_schedules_go_on_in_the_second_pass() -> None:
    prompts = ["a [cat:dog:13] x", "[b:c:1.5] [d|e]"]
    found = make("sd1")(
        prompts, negative="[f:g:4]", dialect="a1111", steps=10, hires=Hires(steps=6)
    )
    assert found.hires is not None
    for step in range(1, 7):
        texts = [
            next(text for last, text in parse(one, dialect="a1111").schedule(6, 10) if step <= last)
            for one in prompts
        ]
        same(found.hires.at(step).tokens, make("sd1")(texts).tokens)
        negative = found.hires.at(step).negative
        assert negative is not None
        same(negative.tokens, make("sd1")(["g", "g"]).tokens)
    assert {row.text for row in found.hires.at(3).ledger.rows} > {"cat", "b"}
    assert {row.text for row in found.hires.at(4).ledger.rows} > {"dog", "c"}
    assert found.repeat(2).hires.at(1).tokens.shape[0] == 4  # type: ignore[union-attr]


def test_options_that_no_pass_reads_are_said_and_those_of_the_second_are_not() -> None:
    how: dict[str, Any] = {"dialect": "a1111", "steps": 10}
    with pytest.warns(ConditioningWarning, match="'dog' at position 7 is never read, .* 10 steps"):
        make("sd1")("a [cat:dog:13] x", **how)
    make("sd1")("a [cat:dog:13] x", hires=Hires(steps=6), **how)
    with pytest.warns(ConditioningWarning, match="'dog' at position 7 is never read, .* 16 steps"):
        make("sd1")("a [cat:dog:19] x", hires=Hires(steps=6), **how)
    with pytest.warns(ConditioningWarning, match="BREAK starts no chunk"):
        make("sd1")("a", hires=Hires(steps=6, prompt="b BREAK c"), **how)


def test_the_second_pass_can_have_its_own_prompts() -> None:
    found = make("sdxl")(
        "a cat",
        prompt_2="an owl",
        negative="bad",
        steps=5,
        dialect="a1111",
        hires=Hires(steps=5, prompt="a dog:0.5 AND [a:b:7]", negative=""),
    ).hires
    assert found is not None
    (dog, half), (other, one) = found.alternatives
    assert (half, one) == (0.5, 1.0)
    same(dog.tokens, make("sdxl")("a dog").tokens)
    same(other.at(3).tokens, make("sdxl")(" b").tokens)
    same(dog.negative.tokens, make("sdxl")("bad").tokens)  # type: ignore[union-attr]
    kept = make("sdxl")("a", prompt_2="an owl", steps=5, hires=Hires(steps=5)).hires
    same(kept.tokens, make("sdxl")("a", prompt_2="an owl").tokens)  # type: ignore[union-attr]


def test_a_second_pass_needs_the_steps_of_the_first() -> None:
    with pytest.raises(ConfigError, match="pass steps="):
        make("sd1")("a", hires=Hires(steps=5))
    with pytest.raises(ConfigError, match="steps must be"):
        Hires(steps=0)
    with pytest.raises(ConfigError, match="cannot use prompt_2"):
        make("sd1")("a", steps=5, hires=Hires(steps=5, prompt="b", prompt_2="c"))
    with pytest.raises(InputError, match=r"hires\.prompt has 2 texts"):
        make("sd1")("a", steps=5, hires=Hires(steps=5, prompt=["a", "b"]))
