"""Prompts keep their words and weights in another dialect, or `differences` has the change."""

import re
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import ConfigError
from ecliptic.prompts.conversion.convert import WEIGHTS_NOTE, convert, split_words
from ecliptic.prompts.dialects import DIALECTS, Dialect
from ecliptic.prompts.prompt import parse
from ecliptic.prompts.reading import Line, Mix, Reading, Segment
from tests.prompts.compel_prompts import GENERATED

NAMES: tuple[Dialect, ...] = tuple(DIALECTS)
PAIRS = [pair for pair in product(NAMES, NAMES) if pair[0] != pair[1]]


def _segments(reading: Reading) -> list[Segment]:
    if isinstance(reading, Mix):
        return [one for part, _ in reading.parts for one in _segments(part)]
    assert isinstance(reading, Line)
    return [part for part in reading.parts if isinstance(part, Segment)]


def _read(text: str, dialect: Dialect) -> list[tuple[str, float]]:
    """Words as the tokenizer splits them, with the weights that the encoders get."""
    sides = parse(text, dialect).readings(10)
    return [
        (word, segment.weight)
        for side in sides
        for segment in _segments(side.schedule[-1][1])
        for word in split_words(segment.text)
    ]


SAME = [  # (from, prompt, to, prompt)
    ("a1111", "a (red:1.3) fox", "comfyui", "a (red:1.3) fox"),
    ("a1111", "a (red:1.3) fox", "compel", "a (red)1.3 fox"),
    ("a1111", "a (b (c:1.5):1.2)", "comfyui", "a (b:1.2) (c:1.7999999999999998)"),
    ("comfyui", "a (b (c:1.5):1.2)", "a1111", "a (b:1.2) (c:1.5)"),
    ("comfyui", "a (b (c:1.5):1.2)", "compel", "a (b)1.2 (c)1.5"),
    ("a1111", "[word] a", "comfyui", "(word:0.9090909090909091) a"),
    ("a1111", "a (b) ((c d))", "compel", "a (b)1.1 (c d)1.2100000000000002"),
    ("compel", "a cat++ (b c)0.5", "a1111", "a (cat:1.2100000000000002) (b c:0.5)"),
    ("a1111", r"\(a\) (b\]:1.2)", "comfyui", r"\(a\) (b]:1.2)"),
    ("comfyui", r"[a] \(b\) BREAK", "a1111", r"\[a\] \(b\) B\REAK"),
    ("plain", "a (b:1.2) [c]", "a1111", r"a \(b:1.2\) \[c\]"),
    ("plain", "a (b) C++", "compel", r"a \(b\) C ++"),
    ("plain", "a AND b:2", "a1111", r"a A\ND b:\2"),
    ("compel", r"\(a\) [b] c:1", "a1111", r"\(a\) \[b\] c:\1"),
]


@pytest.mark.parametrize(("source", "prompt", "target", "expected"), SAME)
def test_words_and_weights_are_kept(
    source: Dialect, prompt: str, target: Dialect, expected: str
) -> None:
    found = convert(parse(prompt, source), target)
    assert (found.text, found.dialect) == (expected, target)
    assert set(found.differences) <= {WEIGHTS_NOTE}
    assert _read(found.text, target) == _read(prompt, source)


def test_other_arithmetic_is_said_once_and_only_of_weights() -> None:
    assert convert(parse("(a:1.2) (b:1.3)", "a1111"), "comfyui").differences == (WEIGHTS_NOTE,)
    assert convert(parse("a (b:1.0)", "a1111"), "comfyui").differences == ()


STATED = [  # (from, prompt, to, prompt, words of the differences)
    ("a1111", "a BREAK b", "compel", '("a", "b").and()', ["BREAK becomes .and()"]),
    ("a1111", "a BREAK b", "comfyui", "a b", ["BREAK has no counterpart"]),
    ("a1111", "a AND b:0.5", "compel", '("a", "b").blend(1, 0.5)', ["AND becomes .blend()"]),
    ("a1111", "a AND b:0.5", "comfyui", "a  b", ["AND has no counterpart"]),
    ("compel", '("a", "b").blend(1, .5)', "a1111", "a AND b:0.5", [".blend() becomes AND"]),
    ("compel", '("a", "b").and()', "a1111", "a BREAK b", [".and() becomes BREAK"]),
    ("compel", '("a", "b").and()', "plain", "a b", [".and() has no counterpart"]),
    ("compel", "a cat.swap(dog)", "comfyui", "a cat", ["first side"]),
    ("compel", "withLora(x,0.5) a", "a1111", "a", ["the LoRA 'x' with weight 0.5"]),
    ("a1111", "a [b:c:0.7]", "plain", "a b", ["a schedule has no counterpart"]),
    ("a1111", "a [b:c:3]", "plain", "a c", ["a schedule has no counterpart"]),
    ("a1111", "a [b::3]", "plain", "a b", ["a schedule has no counterpart"]),
    ("a1111", "a [b|c]", "comfyui", "a b", ["an alternation has no counterpart"]),
    ("a1111", "a (b:1.2)", "plain", "a b", ["weights have no counterpart"]),
    ("a1111", "un(happy:1.2)", "plain", "un happy", ["weights have no counterpart"]),
    ("a1111", "(a:-1) b", "compel", "(a)0 b", ["no weight below 0"]),
    ("a1111", "(a d=e:1.2)", "compel", "(a)1.2 d=e", ["'d=e' into brackets"]),
    ("plain", "a!++ b", "compel", "a! ++ b", ["'!++' with weight 1 is read as '!'"]),
    ("plain", r"a \( b", "compel", r"a \\( b", [r"read as '('"]),
]


@pytest.mark.parametrize(("source", "prompt", "target", "expected", "said"), STATED)
def test_what_has_no_counterpart_is_stated(
    source: Dialect, prompt: str, target: Dialect, expected: str, said: list[str]
) -> None:
    found = convert(parse(prompt, source), target)
    assert found.text.strip() == expected
    differences = [one for one in found.differences if one != WEIGHTS_NOTE]
    assert len(differences) == len(said)
    assert all(part in one for part, one in zip(said, differences, strict=True))


_PIECES = re.findall(
    r":1\.2\)|:0\.5[)\]]|\\[(\]]| BREAK | AND |\.\.\.|C\+\+|1\.2|cat|.",
    r":1.2):0.5):0.5]\(\] BREAK  AND ...C++1.2cata, ()[]:=-\é|" + "\"'",
)
_WRITTEN = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)
PROMPTS: dict[Dialect, st.SearchStrategy[str]] = {
    "plain": _WRITTEN,
    "a1111": _WRITTEN,
    "comfyui": _WRITTEN,
    "compel": GENERATED,
}


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_without_differences_the_target_reads_the_same(
    source: Dialect, target: Dialect, data: st.DataObject
) -> None:
    prompt = data.draw(PROMPTS[source])
    try:
        given_prompt = parse(prompt, source)
        before = _read(prompt, source)
    except ValueError:  # the source dialect refuses the prompt
        return
    found = convert(given_prompt, target)
    if set(found.differences) <= {WEIGHTS_NOTE}:
        assert _read(found.text, target) == before


@pytest.mark.parametrize("dialect", NAMES)
def test_the_same_dialect_is_only_printed_anew(dialect: Dialect) -> None:
    prompt = parse("a cat", dialect)
    assert convert(prompt, dialect).text == prompt.print()
    assert convert(prompt, dialect).differences == ()


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ConfigError, match="midjourney"):
        convert(parse("a cat"), "midjourney")  # type: ignore[arg-type]


def test_networks_are_left_out_and_named() -> None:
    for text, words in (("a <lora:ink:0.8>(fox:1.2)", "fox"), ("a [b:c:3]<lora:ink:.8> d", "d")):
        changed = convert(parse(text, dialect="a1111"), "compel")
        assert "lora" not in changed.text
        assert words in changed.text
        assert "the lora 'ink' with weight 0.8 is left out; load it separately." in (
            changed.differences
        )
