import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import ConfigError
from ecliptic.prompts.a1111 import grammar as a1111
from ecliptic.prompts.printing import write_decimal, write_with_point
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    LoraUse,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    merge,
)
from tests.prompts.twice import strip_places

SPAN = (0, 0)
_words = st.text("ab:|()[]1.,", min_size=1, max_size=5) | st.sampled_from(["AND", "BREAK", "a:1.2"])
_weights = st.sampled_from([1.3, -1.0, 0.0, 0.5])


def _nested(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(lambda inside, by: Weighted(inside, by, ":", SPAN), children, _weights),
        st.builds(lambda inside: Weighted(inside, 1.1, "(", SPAN), children),
        st.builds(lambda inside: Weighted(inside, 1 / 1.1, "[", SPAN), children),
        st.builds(lambda a, b: Scheduled(a, b, 3.0, False, SPAN), children, children),
        st.builds(lambda a, b: Scheduled(a, b, 0.5, True, SPAN), children, children),
        st.builds(lambda a, b: Alternating((a, b), SPAN), children, children),
    )


_trees = st.recursive(
    st.lists(_words.map(Text), max_size=1).map(tuple),
    lambda inside: st.lists(_words.map(Text) | _nested(inside), max_size=3).map(merge),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_trees)
def test_any_tree_of_a1111_is_read_back_from_what_is_printed(tree: Tree) -> None:
    assert strip_places(a1111.read(a1111.write(tree))) == strip_places(tree)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_trees, _weights | st.just(1.0)), min_size=2, max_size=3))
def test_sides_joined_by_and_are_read_back(parts: list[tuple[Tree, float]]) -> None:
    tree = (Joined("AND", tuple(parts), False, SPAN),)
    assert strip_places(a1111.read(a1111.write(tree))) == strip_places(tree)


def test_words_that_mean_something_are_printed_with_backslashes() -> None:
    tree = (Text("AND (a) BREAK b|c:1.2"),)
    assert a1111.write(tree) == "A\\ND \\(a\\) B\\REAK b\\|c:\\1.2"
    assert a1111.spans(a1111.write(tree)) == [("AND (a) BREAK b|c:1.2", 1.0)]


def test_breaks_are_printed_between_spaces_of_their_own() -> None:
    assert (
        a1111.write((Text("a"), ChunkBreak(SPAN), Text("b"), ChunkBreak(SPAN))) == "a BREAK b BREAK"
    )


@pytest.mark.parametrize(
    "node", [LoraUse("x", 1.0, SPAN), Joined("blend", (((Text("a"),), 1.0),), True, SPAN)]
)
def test_foreign_nodes_are_refused_with_a_fix(node: Node) -> None:
    with pytest.raises(ConfigError, match=r"a1111 prompts cannot express .* convert the prompt"):
        a1111.write((node,))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_printed_exactly_and_without_exponents(number: float) -> None:
    assert float(write_decimal(number)) == number
    assert float(write_with_point(number)) == number
    assert "e" not in write_decimal(number)
    assert "." in write_with_point(number)
