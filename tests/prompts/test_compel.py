"""compel's dialect reads as in compel 2.5.1; prompts that break compel raise a clear error."""

import time

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.compel import grammar as compel
from ecliptic.prompts.reading import Line, Mix, Segment
from ecliptic.prompts.tree import ChunkBreak, Swap, Text, Weighted, loras, walk
from tests.prompts.compel_prompts import (
    GENERATED,
    PROMPTS,
    REFUSED,
    parser,
    read_by_compel,
    read_by_us,
)

RECORDED = [  # of compel 2.5.1
    ("a cat++", [("a", 1.0), ("cat", 1.21)]),
    ("(blue cat)1.3", [("blue cat", 1.3)]),
    ("(a+ b)++", [("a", 1.331), ("b", 1.21)]),
    ("a (b (c)1.3)1.1", [("a", 1.0), ("b", 1.1), ("c", 1.43)]),
    ("hot-dog", [("hot-dog", 1.0)]),
    ("(x)+1", [("x", 1.1), ("1", 1.0)]),
    ("(a)-1", [("a", 0.9), ("1", 1.0)]),
    ("a (word:1.2) b", [("a word:1 . 2 b", 1.0)]),
    ("apple+++-", [("apple", 1.331), ("-", 1.0)]),
    ("C++", [("C", 1.21)]),
    ("a,b", [("a, b", 1.0)]),
    ("", [("", 1.0)]),
]


@pytest.mark.parametrize(("prompt", "expected"), RECORDED)
def test_recorded_prompts_give_the_recorded_segments(
    prompt: str, expected: list[tuple[str, float]]
) -> None:
    found = compel.spans(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


def test_joined_prompts_read_as_mixes() -> None:
    (one,) = compel.readings('("a","b").and(1,0.5)', 20, False)
    a, b = (Line((Segment(text, 1.0, (place,)),)) for text, place in (("a", 2), ("b", 6)))
    assert (one.weight, one.schedule) == (1.0, ((20, Mix("and", ((a, 1.0), (b, 0.5)))),))
    (blend,) = compel.readings('("fire","").blend(0.7,1)', None, True)
    reading = blend.schedule[0][1]
    assert isinstance(reading, Mix)
    assert [weight for _, weight in reading.parts] == [0.7, 1.0]
    assert reading.parts[1][0] == Line((Segment(""),))


def test_hand_made_prompts_are_read_as_compel_reads_them() -> None:
    parser()
    assert len(PROMPTS) >= 150
    different = [prompt for prompt in PROMPTS if read_by_us(prompt) != read_by_compel(prompt)]
    assert not different


@given(GENERATED)
@settings(max_examples=40, deadline=None)
def test_generated_prompts_are_read_as_compel_reads_them(prompt: str) -> None:
    parser()
    try:
        expected = read_by_compel(prompt)
    except Exception:  # compel and its parser raise many types
        # an empty side of a blend breaks compel; ours reads it as the empty text
        assert ".blend(" in prompt
        compel.read(prompt)
        return
    assert read_by_us(prompt) == expected


@pytest.mark.parametrize(("prompt", "message"), REFUSED)
def test_what_compel_refuses_is_refused_with_the_place(prompt: str, message: str) -> None:
    with pytest.raises(TextError, match=message) as refused:
        compel.read(prompt)
    assert f"position {refused.value.place} " in str(refused.value)
    module, found = parser()
    unparsable = module.pp.ParseException  # from the parser library of compel
    refusals = (module.PromptParser.ParsingException, ValueError, unparsable)
    with pytest.raises(refusals):
        found.parse_conjunction(prompt)


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ('("a","b").blend(inf,1)', 16),
        ('("a","b").and(nan,1)', 14),
        ("x cat" + "+" * 9000, 5),
        ("(a)" + "9" * 400, 3),
        ("withLora(x, " + "9" * 400 + ")", 12),
        ("((a)" + "9" * 300 + ")" + "9" * 300, 1),
    ],
)
def test_no_weight_is_ever_infinite(prompt: str, place: int) -> None:
    with pytest.raises(TextError, match=f"position {place} of the prompt"):
        compel.readings(prompt, 1, False)


def test_prompts_that_break_compel_are_read() -> None:
    assert compel.spans("()+") == [("", 1.0)]
    reading = compel.reading_of(compel.read('("a","b").blend(1,-1)'))
    assert isinstance(reading, Mix)
    assert [weight for _, weight in reading.parts] == [1.0, -1.0]
    assert compel.spans("a\fb") == [("a b", 1.0)]


def test_a_swap_reads_as_its_first_side_and_keeps_both() -> None:
    tree = compel.read("a cat.swap(dog, s_start=0.2) runs")
    assert compel.spans("a cat.swap(dog, s_start=0.2) runs") == [
        ("a", 1.0),
        ("cat", 1.0),
        ("runs", 1.0),
    ]
    (swap,) = (node for node in walk(tree) if isinstance(node, Swap))
    assert (swap.options, swap.span) == ((("s_start", 0.2),), (2, 28))
    assert [node.text for node in swap.after if isinstance(node, Text)] == ["dog"]


def test_loras_are_collected_and_leave_no_text() -> None:
    tree = compel.read("withLora(one, 0.5) a (useLora(two) cat)+")
    assert loras(tree) == (("one", 0.5), ("two", 1.0))
    assert compel.spans("a withLora(one) cat") == [("a cat", 1.0)]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_character_points_at_itself(prompt: str) -> None:
    for node in walk(compel.read(prompt)):
        if isinstance(node, Text):
            assert len(node.origin) == len(node.text)
            pairs = zip(node.text, node.origin, strict=True)
            assert all(prompt[place] == one for one, place in pairs if not one.isspace())


def _normalise(found: object) -> object:
    """Remove white space, which the printer may change, and empty texts."""
    if isinstance(found, str):
        return "".join(found.split())
    if isinstance(found, list | tuple):
        inside = [_normalise(one) for one in found]
        return [one for one in inside if not (isinstance(one, list) and one[:1] == [""])]
    return found


@given(GENERATED)
@settings(max_examples=60, deadline=None)
def test_printing_and_reading_gives_the_prompt_again(prompt: str) -> None:
    written = compel.write(compel.read(prompt))
    assert _normalise(read_by_us(written)) == _normalise(read_by_us(prompt))
    assert compel.write(compel.read(written)) == written


def test_a_printed_prompt_is_tidy() -> None:
    prompt = 'a  (blue cat)1.30, (dog)++ ("x")-'
    assert compel.write(compel.read(prompt)) == "a (blue cat)1.3 , dog++ x-"
    blend = '( "a b" , c ).blend( 1 , .5 , no_normalize )'
    assert compel.write(compel.read(blend)) == '("a b", "c").blend(1, 0.5, no_normalize)'


def test_the_printer_refuses_what_compel_cannot_say() -> None:
    with pytest.raises(ConfigError, match="ChunkBreak"):
        compel.write((Text("a"), ChunkBreak((0, 5))))
    with pytest.raises(ConfigError, match="below 0"):
        compel.write((Weighted((Text("a"),), -1.0, ":", (0, 6)),))


@given(st.text(alphabet='ab ()",.+-=\\1:[]\n\x0b', max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_refused_with_a_place(prompt: str) -> None:
    try:
        compel.write(compel.read(prompt))
    except TextError as refused:
        assert f"position {refused.place} " in str(refused)  # noqa: PT017 reading is allowed to succeed


def test_deep_nesting_is_refused_with_the_place() -> None:
    for opener in ("(", "(a ", "a.swap("):
        with pytest.raises(TextError, match=r"brackets are open at position \d+"):
            compel.read(opener * 100_000)


@pytest.mark.parametrize(
    "prompt",
    [
        "(a+ " * 40 + "x " * 4000,
        "((" * 20 + "a" * 9000,
        '"a' * 5000,
        "a, " * 3333,
        "(a)1.1 " * 1400,
    ],
    ids=["unclosed", "deep", "quotes", "commas", "groups"],
)
def test_b11_ten_thousand_characters_are_read_in_time(prompt: str) -> None:
    start = time.process_time()
    compel.spans(prompt)
    assert time.process_time() - start < 2
