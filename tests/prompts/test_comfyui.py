"""ComfyUI's prompts; the numbers come from its own parser."""

import pytest
from hypothesis import assume, given, settings

from ecliptic.errors import ConfigError, EclipticError, TextError
from ecliptic.prompts.prompt import parse
from ecliptic.prompts.reading import Line, Segment
from ecliptic.prompts.tree import Scheduled, Text, Weighted
from tests.prompts.test_a1111 import HOUSE
from tests.prompts.twice import list_readings, strip_places, texts

RECORDED = [
    ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
    ("(unbalanced", [("(unbalanced", 1)]),
    ("\\(literal\\]", [("(literal\\]", 1)]),
    ("(unnecessary)(parens)", [("unnecessary", 1.1), ("parens", 1.1)]),
    (HOUSE, [("a ", 1), (HOUSE[2:], 1)]),
    ("[word]", [("[word]", 1)]),
    ("(a:1.2 b)", [("a:1.2 b", 1.1)]),
    ("(a (b:1.5) c:0.8)", [("a ", 0.8), ("b", 1.5), (" c", 0.8)]),
    ("(((a:1.2)))", [("a", 1.2)]),
    ("(a:-1)", [("a", -1)]),
    ("(a: 1.2 )", [("a", 1.2)]),
    ("a:1.2", [("a:1.2", 1)]),
    ("(a:b)", [("a:b", 1.1)]),
    ("(:1.2)", [(":1.2", 1.1)]),
    ("()", []),
    ("", []),
    ("a BREAK b", [("a BREAK b", 1)]),
    ("(a BREAK b:1.2)", [("a BREAK b", 1.2)]),
    ("aBREAKb", [("aBREAKb", 1)]),
    ("(word:1.2:1.3)", [("word:1.2", 1.3)]),
    ("a) b", [("a) b", 1)]),
    ("(a:1e2)", [("a", 100)]),
    ("(a\\:1.2)", [("a\\", 1.2)]),
    ("(a, (b), [c]:1.3)", [("a, ", 1.3), ("b", 1.43), (", [c]", 1.3)]),
    ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
    ("a, BREAK, b", [("a, BREAK, b", 1)]),
    # the level of brackets can fall below zero; a rest that ends with ")" is a group
    ("a) ((b))", [("a) (", 1), ("b", 1.1), (")", 1)]),
    ("a (b (c:1.2)", [("a ", 1), ("b ", 1.2), ("(c", 1.2)]),
]


@pytest.mark.parametrize(("text", "spans"), RECORDED)
def test_groups_give_the_recorded_spans(text: str, spans: list[tuple[str, float]]) -> None:
    found = parse(text, "comfyui").spans
    assert [text for text, _ in found] == [text for text, _ in spans]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in spans])


@pytest.mark.parametrize("number", ["inf", "nan", "-Infinity", "1e999"])
def test_weights_beyond_float_are_refused_with_their_place(number: str) -> None:
    with pytest.raises(TextError, match=f"the number '{number}' at position 4 "):
        parse(f"x (a:{number})", "comfyui")
    with pytest.raises(TextError, match="must be a finite number"):
        parse("(((a)):1.7e308)", "comfyui")


def test_segments_remember_their_places_behind_escapes() -> None:
    (side,) = parse("\\(a (b\\):1.5)", "comfyui").readings()
    words = (Segment("(a ", 1.0, (1, 2, 3)), Segment("b)", 1.5, (5, 7)))
    assert side.schedule == ((1, Line(words)),)


def test_one_reading_holds_for_all_steps_and_negatives() -> None:
    prompt = parse("a AND [b:3]", "comfyui")
    assert prompt.schedule(7) == [(7, "a AND [b:3]")]
    assert prompt.alternatives == [("a AND [b:3]", 1.0)]
    assert prompt.readings(7) == prompt.readings(7, negative=True)


@settings(max_examples=60, deadline=None)
@given(texts)
def test_printing_gives_a_prompt_with_the_same_tree_and_readings(text: str) -> None:
    try:
        prompt = parse(text, "comfyui")
    except EclipticError as error:
        assert f"position {error.place} " in str(error)  # noqa: PT017
        assume(False)
    again = parse(prompt.print(), "comfyui")
    assert strip_places(again.tree) == strip_places(prompt.tree)
    assert list_readings(again, 4) == list_readings(prompt, 4)


def test_texts_that_would_read_as_weights_or_escapes_are_printed_apart() -> None:
    span = (0, 0)
    for inner in ("b:1.2", "b\\"):
        tree = (Text("a\\"), Weighted((Text(inner),), 1.1, "(", span))
        from ecliptic.prompts import comfyui

        assert comfyui.spans(comfyui.write(tree)) == [("a\\", 1.0), (inner, pytest.approx(1.1))]


def test_nodes_comfyui_has_no_words_for_are_refused() -> None:
    from ecliptic.prompts import comfyui

    with pytest.raises(ConfigError, match="comfyui prompts cannot express Scheduled"):
        comfyui.write((Scheduled((), (Text("a"),), 3.0, False, (0, 5)),))


@pytest.mark.parametrize("unit", ["(", ")", "(a)", "\\(", "a:"])
def test_long_prompts_parse_without_recursion(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    assert "".join(words for words, _ in parse(text, "comfyui").spans)


@pytest.mark.parametrize("text", ["(" * 20_000 + ")" * 20_000, "((a:1.1)" * 2_500])
def test_nesting_is_limited(text: str) -> None:
    with pytest.raises(TextError, match="more than 64 brackets are open at position 0 "):
        parse(text, "comfyui")
