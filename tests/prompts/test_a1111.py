"""A1111's prompts; the numbers come from the web UI's own parser (section 2.5 of the project's
reference) or from its grammar."""

import math

import pytest
from hypothesis import assume, given, settings

from ecliptic.errors import ConfigError, EclipticError, TextError
from ecliptic.prompts.prompt import Prompt, parse
from ecliptic.prompts.reading import Break, Line, Segment
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    Scheduled,
    Text,
    Weighted,
)
from tests.prompts.twice import is_balanced, list_readings, strip_places, texts

HOUSE = "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."
RECORDED = [
    ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    ("\\(literal\\]", [("(literal]", 1)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
        HOUSE,
        [
            *(("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55)),
            *((", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)),
        ],
    ),
    ("[word]", [("word", 1 / 1.1)]),
    ("(a:1.2 b)", [("a:1.2 b", 1.1)]),
    ("(a (b:1.5) c:0.8)", [("a ", 0.8), ("b", 1.2), (" c", 0.8)]),
    ("(((a:1.2)))", [("a", 1.452)]),
    ("(a:-1)", [("a", -1)]),
    ("(a: 1.2 )", [("a", 1.2)]),
    ("a:1.2", [("a:1.2", 1)]),
    ("(a:b)", [("a:b", 1.1)]),
    ("(:1.2)", [("", 1)]),
    ("()", [("", 1)]),
    ("a BREAK b", [("a", 1), ("BREAK", -1), ("b", 1)]),
    ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
    ("aBREAKb", [("aBREAKb", 1)]),
    ("(word:1.2:1.3)", [("word:1.2", 1.3)]),
    ("a) b", [("a) b", 1)]),
    ("(a:1e2)", [("a:1e2", 1.1)]),
    ("(a\\:1.2)", [("a", 1.2)]),
    ("(a, (b), [c]:1.3)", [("a, ", 1.3), ("b", 1.43), (", ", 1.3), ("c", 1.3 / 1.1)]),
    ("a, BREAK, b", [("a,", 1), ("BREAK", -1), (", b", 1)]),
    ("", [("", 1)]),
    ("a\\", [("a", 1)]),
    ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
]


@pytest.mark.parametrize(("text", "spans"), RECORDED)
def test_attention_gives_the_recorded_spans(text: str, spans: list[tuple[str, float]]) -> None:
    found = parse(text, "a1111").spans
    assert [text for text, _ in found] == [text for text, _ in spans]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in spans])


def test_the_published_examples_hold_exactly() -> None:
    fox = parse("a (red:1.3) fox", dialect="a1111")
    assert fox.spans == [("a ", 1.0), ("red", 1.3), (" fox", 1.0)]
    pets = parse("a cat AND a dog:0.5", dialect="a1111")
    assert pets.alternatives == [("a cat", 1.0), (" a dog", 0.5)]
    assert parse("a [b:3]", dialect="a1111").schedule(steps=10) == [(3, "a "), (10, "a b")]
    assert parse("a cat:1.2", "a1111").spans == [("a cat:1.2", 1.0)]


@pytest.mark.parametrize(
    ("text", "place"), [("(a:1.2.3)", 2), ("x (a:.)", 4), (f"(a:{'9' * 400})", 2)]
)
def test_a_weight_that_is_no_number_is_refused_with_its_place(text: str, place: int) -> None:
    with pytest.raises(TextError, match=f"at position {place} .* a finite number; write one"):
        parse(text, "a1111")


def test_a_product_of_weights_beyond_float_is_refused() -> None:
    huge = "9" * 200
    with pytest.raises(TextError, match="must be a finite number"):
        _ = parse(f"((a:{huge}):{huge})", "a1111").spans


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("a cat:1.2", [("a cat", 1.2)]),
        ("(a AND b:1.2)", [("(a", 1), (" b:1.2)", 1)]),
        ("a : -.5  AND b: 2. ", [("a", -0.5), (" b", 2)]),
        ("HAND ANDY", [("HAND ANDY", 1)]),
        ("AND", [("", 1), ("", 1)]),
        ("a:1:2", [("a:1", 2)]),
        ("a:1e2", [("a:1e2", 1)]),
        (" a \n", [(" a", 1)]),
        (":0.5", [("", 0.5)]),
    ],
)
def test_and_splits_raw_text_and_takes_weights(text: str, sides: list[tuple[str, float]]) -> None:
    assert parse(text, "a1111").alternatives == sides


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("test", [(10, "test")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("[a:b: 3 ]", [(3, "a"), (10, "b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a::4]b", [(4, "ab"), (10, "b")]),
        ("[fire:1.1]", [(10, "")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:0.05]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:1e0]", [(1, "a"), (10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:w]", [(10, "[a:b:w]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[x [a:b] y:3]", [(10, "[x [a:b] y:3]")]),
        ("(a|b) [c:3]", [(10, "(a|b) [c:3]")]),
        ("[a|b:3]", [(10, "[a|b:3]")]),
        ("[a:3] x|y", [(10, "[a:3] x|y")]),
        ("[a:3] \\", [(10, "[a:3] \\")]),
        ("[a\\:b:c:3]", [(3, "a\\:b"), (10, "c")]),
        ("\\[a:b:3]", [(10, "\\[a:b:3]")]),
    ],
)
def test_schedules_follow_the_grammar(text: str, schedule: list[tuple[int, str]]) -> None:
    assert parse(text, "a1111").schedule(10) == schedule


def test_alternation_cycles_and_options_may_be_empty() -> None:
    words = [text for _, text in parse("[fe|||]male", "a1111").schedule(5)]
    assert words == ["female", "male", "male", "male", "female"]
    assert parse("[|a]", "a1111").schedule(2) == [(1, ""), (2, "a")]


def test_the_second_pass_counts_on_from_the_first() -> None:
    assert parse("a [b:.5] c", "a1111").schedule(10, 10) == [(10, "a b c")]
    assert parse("a [b:1.5] c", "a1111").schedule(10, 10) == [(5, "a  c"), (10, "a b c")]
    assert parse("[a:b:14]", "a1111").schedule(6, base_steps=10) == [(4, "a"), (6, "b")]


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_below_one_are_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match=f"steps must be at least 1, got {steps}"):
        parse("[a:b:3]", "a1111").schedule(steps)
    with pytest.raises(ConfigError, match="base_steps must be at least 1, got 0"):
        parse("[a:b:3]", "a1111").schedule(5, 0)


def test_readings_run_all_stages_and_remember_places() -> None:
    cat, dog = parse("a [big:(cat\\)):2] AND dog:0.5", "a1111").readings(4)
    assert (dog.weight, dog.schedule) == (
        0.5,
        ((4, Line((Segment(" dog", 1.0, (21, 22, 23, 24)),))),),
    )
    assert cat.schedule[0] == (2, Line((Segment("a big", 1.0, (0, 1, 3, 4, 5)),)))
    late = Line((Segment("a ", 1.0, (0, 1)), Segment("cat)", 1.1, (8, 9, 10, 12))))
    assert cat.schedule[1] == (4, late)


def test_break_is_a_break_only_at_weight_minus_one() -> None:
    (side,) = parse("a BREAK (b BREAK c)", "a1111").readings()
    line = side.schedule[0][1]
    assert isinstance(line, Line)
    assert line.parts[1] == Break((2, 7))
    assert line.parts[4] == Segment("BREAK", -1.1, (11, 12, 13, 14, 15))


def test_negative_prompts_are_not_split() -> None:
    (side,) = parse("a AND b:0.5", "a1111").readings(negative=True)
    assert side.schedule == ((1, Line((Segment("a AND b:0.5", 1.0, tuple(range(11))),))),)


def test_readings_of_a_changing_prompt_need_the_steps() -> None:
    for text in ("[a:b:3]", "x AND [a|b]"):
        with pytest.raises(ConfigError, match="pass steps="):
            parse(text, "a1111").readings()


def test_a_weight_that_only_some_step_spells_is_refused_there() -> None:
    prompt = parse("(a:[1.5:1.2.3:2])", "a1111")
    with pytest.raises(TextError, match=r"'1.2.3' at position 2"):
        prompt.readings(4)


def test_the_tree_shows_ordinary_prompts_nested() -> None:
    (joined,) = parse("(a [b]:1.3) BREAK [c:d:.5] AND [e|f]:0.5", "a1111").tree
    assert isinstance(joined, Joined)
    (first, one), (second, half) = joined.parts
    assert (one, half) == (1.0, 0.5)
    weighted, chunk, change = (node for node in first if not isinstance(node, Text))
    assert isinstance(weighted, Weighted)
    assert (weighted.weight, weighted.mark, weighted.span) == (1.3, ":", (0, 11))
    inner = weighted.children[1]
    assert isinstance(inner, Weighted)
    assert (inner.mark, inner.span, inner.children) == ("[", (3, 6), (Text("b", (4,)),))
    assert isinstance(chunk, ChunkBreak)
    assert chunk.span == (12, 17)
    assert isinstance(change, Scheduled)
    assert (change.when, change.fraction, change.span) == (0.5, True, (18, 26))
    assert isinstance(second[1], Alternating)


@settings(max_examples=60, deadline=None)
@given(texts)
def test_any_text_parses_finite_or_is_refused_with_a_place(text: str) -> None:
    try:
        prompt = parse(text, "a1111")
        spans, readings = prompt.spans, prompt.readings(3)
    except TextError as error:
        assert f"position {error.place} " in str(error)  # noqa: PT017
        return
    assert all(math.isfinite(weight) for _, weight in spans)
    for side in readings:
        for _, line in side.schedule:
            assert isinstance(line, Line)
            for part in line.parts:
                if isinstance(part, Segment):
                    assert part.text == "".join(text[place] for place in part.origin)


@settings(max_examples=60, deadline=None)
@given(texts)
def test_printing_gives_a_prompt_with_the_same_tree_and_readings(text: str) -> None:
    assume("\\" not in text or "BREAK" not in text)  # a backslash can join or split a BREAK
    try:
        prompt = parse(text, "a1111")
        wanted = list_readings(prompt, 4)
    except EclipticError:
        assume(False)
    again = parse(prompt.print(), "a1111")
    assert strip_places(again.tree) == strip_places(prompt.tree)
    assert again.print() == prompt.print()
    changing = len(prompt.schedule(4)) > 1
    if is_balanced(text) or not changing:  # crossing brackets can change meaning per step
        assert list_readings(again, 4) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "an (important) word",
        "a [b:c:0.5] [d|e|] BREAK f",
        "(a:1.3) AND [b]:0.5",
        "(a (b:1.5) c:0.8)",
    ],
)
def test_prompts_in_their_plainest_form_are_printed_unchanged(text: str) -> None:
    assert parse(text, "a1111").print() == text


@pytest.mark.parametrize("unit", ["(", "[", "[a:", "((a:1.1)", "(a)", "BREAK ", " ", ": ", "[a|b]"])
def test_long_prompts_parse_or_are_refused_without_recursion(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    try:
        prompt = parse(text, "a1111")
    except TextError as error:
        assert f"64 brackets are open at position {error.place} " in str(error)  # noqa: PT017
        return
    assert parse(prompt.print(), "a1111").dialect == "a1111"


def test_nesting_is_limited_with_the_place_of_the_bracket() -> None:
    assert len(parse("(" * 64 + "a", "a1111").spans) == 1
    with pytest.raises(TextError, match="at position 64 "):
        parse("(" * 65 + "a", "a1111")


# --- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "name", "weights"),
    [
        ("<lora:ink>", "ink", (1.0, 1.0)),
        ("<lora:ink:0.8>", "ink", (0.8, 0.8)),
        ("<lora:ink:0.8:0.5>", "ink", (0.8, 0.5)),
        ("<lyco:ink:te=0.2:unet=.4>", "ink", (0.2, 0.4)),
        ("<lora:ink:0.8:te=0.2>", "ink", (0.2, 0.2)),
        ("<hypernet:ink:-1.5>", "ink", (-1.5, 1.0)),
        ("<other:ink:words>", "ink", (1.0, 1.0)),
        ("<lora:te=1>", "", (1.0, 1.0)),
    ],
)
def test_networks_are_read_and_leave_no_text(
    tag: str, name: str, weights: tuple[float, float]
) -> None:
    prompt = parse(f"a (fox{tag}:1.2) AND dog{tag}:0.5{tag}", "a1111")
    assert [(one.name, one.weight, one.denoiser_weight) for one in prompt.networks] == [
        (name, *weights)
    ] * 3
    assert [prompt.text[slice(*one.span)] for one in prompt.networks] == [tag] * 3
    assert prompt.alternatives == [("a (fox:1.2)", 1.0), (" dog", 0.5)]
    fox, dog = prompt.readings()
    same = parse("a (fox:1.2) AND dog:0.5", "a1111")
    assert strip_places((fox, dog)) == strip_places(same.readings())
    again = parse(prompt.print(), "a1111")
    assert strip_places(again.readings()) == strip_places(same.readings())
    assert [one.items for one in again.networks] == [one.items for one in prompt.networks]
    assert prompt.notes == ()  # `networks` tells of them


def test_a_network_in_a_negative_prompt_is_words() -> None:
    (side,) = parse("bad <lora:ink:1>", "a1111").readings(negative=True)
    assert side.schedule[0][1] == Line((Segment("bad <lora:ink:1>", 1.0, tuple(range(16))),))


def test_a_multiplier_that_is_no_number_is_refused() -> None:
    for tag in ("<lora:ink:strong>", "<lora:ink:1:nan>", "<hypernet:ink:>"):
        with pytest.raises(TextError, match="position 2 "):
            parse(f"a {tag}", "a1111")


@pytest.mark.parametrize("text", ["<lora:x:1>", "a <3: b> <<b:c>", "(<x:1.2) >", "<a:<b:c>d>"])
def test_words_in_angle_brackets_are_printed_as_words(text: str) -> None:
    tree = (Text(text),)
    again = parse(Prompt("", "a1111", tree).print(), "a1111")
    assert again.networks == ()
    assert "".join(words for words, _ in again.spans) == text
