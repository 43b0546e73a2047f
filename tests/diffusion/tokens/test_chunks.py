import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from ecliptic.diffusion.options import LAYOUTS, ChunkLayout
from ecliptic.diffusion.tokens.chunks import (
    NO_WORD,
    TokenizedLine,
    equalise,
    lay_out,
    pad_chunks,
)
from ecliptic.diffusion.tokens.tokens import Token, tokenize
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.inputs import Tokenizer
from ecliptic.prompts.reading import Break, Line, Segment
from tests.diffusion.tokens.token_peers import compel_chunks

TOKENIZER = Tokenizer()
START, END, CAT, COMMA = 49406, 49407, 2368, 267
CUTTING = ("truncate", "kohya", "lpw")  # layouts that may drop tokens


def lay(
    *parts: Segment | Break | str,
    layout: ChunkLayout = "a1111",
    context: int = 77,
    pad: int = END,
    inversions: dict[str, torch.Tensor] | None = None,
) -> TokenizedLine:
    line = Line(tuple(Segment(part) if isinstance(part, str) else part for part in parts))
    stream = tokenize(line, TOKENIZER, inversions=inversions or {})
    return lay_out(stream, layout, context=context, start=START, end=END, pad=pad)


def sizes(found: TokenizedLine) -> list[int]:
    """Tokens in each chunk."""
    return (found.chunks.words != NO_WORD).sum(dim=1).tolist()


def cats(count: int) -> str:
    return " ".join(["cat"] * count)


# the recorded cases 26 to 29 of webui and ComfyUI


@pytest.mark.parametrize(("layout", "expected"), [("a1111", [61, 30]), ("comfyui", [75, 16])])
def test_webui_moves_what_follows_a_comma_and_comfyui_does_not(
    layout: ChunkLayout, expected: list[int]
) -> None:
    assert sizes(lay(f"{cats(60)}, {cats(30)}", layout=layout)) == expected


@pytest.mark.parametrize(("before", "expected"), [(55, [56, 40]), (54, [75, 20])])
def test_webui_looks_back_for_a_comma_through_20_tokens(before: int, expected: list[int]) -> None:
    assert sizes(lay(f"{cats(before)}, {cats(40)}")) == expected


def test_a_break_begins_a_chunk_even_behind_nothing_but_not_before_nothing() -> None:
    assert sizes(lay(Break(), "a dog")) == [0, 2]
    assert sizes(lay("a cat", Break())) == [2]
    assert sizes(lay("a cat", Break(), Break(), "b")) == [2, 0, 1]
    assert sizes(lay(Break())) == [0]


@pytest.mark.parametrize(("layout", "expected"), [("a1111", [75, 1]), ("comfyui", [72, 4])])
def test_comfyui_keeps_a_short_group_whole(layout: ChunkLayout, expected: list[int]) -> None:
    group = Segment("blue dog red cat", 1.2)
    found = lay(cats(72), group, layout=layout)
    assert sizes(found) == expected
    assert found.chunks.weights.flatten().tolist().count(pytest.approx(1.2)) == 4


@pytest.mark.parametrize(("size", "expected"), [(7, [72, 7]), (8, [75, 5])])
def test_comfyui_cuts_groups_of_8_tokens(size: int, expected: list[int]) -> None:
    assert sizes(lay(cats(72), Segment(cats(size), 1.2), layout="comfyui")) == expected


def test_comfyui_cuts_a_short_group_that_no_chunk_could_hold() -> None:
    assert sizes(lay("cat", Segment(cats(6), 1.2), layout="comfyui", context=6)) == [4, 3]


def test_a_comma_that_falls_behind_a_full_chunk_moves_nothing() -> None:
    found = lay(f"{cats(75)}, {cats(3)}")
    assert sizes(found) == [75, 4]
    assert found.chunks.ids[1, 1] == COMMA


# inversions across the end of a chunk


def test_webui_moves_an_inversion_that_does_not_fit_to_the_next_chunk() -> None:
    inversions = {"style": torch.eye(4)}
    found = lay(cats(73), Segment("style dog", 1.3), inversions=inversions)
    assert sizes(found) == [73, 5]
    assert sorted(found.chunks.vectors) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert torch.equal(torch.stack([found.chunks.vectors[1, p] for p in range(1, 5)]), torch.eye(4))
    torch.testing.assert_close(found.chunks.weights[1, 1:6], torch.full((5,), 1.3))
    assert found.chunks.ids[1, 1:5].tolist() == [0, 0, 0, 0]


def test_webui_takes_the_vectors_along_when_a_comma_moves_their_inversion() -> None:
    found = lay(f"{cats(60)}, style {cats(20)}", inversions={"style": torch.eye(4)})
    assert sizes(found) == [61, 24]
    assert sorted(found.chunks.vectors) == [(1, 1), (1, 2), (1, 3), (1, 4)]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "a1111"])
def test_other_layouts_cut_an_inversion_where_the_chunk_ends(layout: ChunkLayout) -> None:
    found = lay(f"{cats(73)} style", layout=layout, inversions={"style": torch.eye(4)})
    whole = layout in ("compel", "compel-phrases", "compel-words")
    assert sizes(found)[0] == (73 if whole else 75)
    kept = 2 if layout == "truncate" else 4
    assert len(found.chunks.vectors) == kept
    assert len(found.dropped) == 4 - kept


def test_an_inversion_larger_than_a_chunk_is_cut() -> None:
    vectors = torch.arange(20.0).reshape(10, 2)
    found = lay("cat style cat", context=6, inversions={"style": vectors})
    assert sizes(found) == [1, 4, 4, 3]
    placed = torch.stack([found.chunks.vectors[place] for place in sorted(found.chunks.vectors)])
    assert torch.equal(placed, vectors)


# what the chunks hold


def test_chunks_are_start_tokens_end_and_padding() -> None:
    found = lay("a ", Segment("cat", 1.5), layout="truncate", context=7, pad=0)
    assert found.chunks.ids.tolist() == [[START, 320, CAT, END, 0, 0, 0]]
    assert found.chunks.weights.tolist() == [[1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0]]
    assert found.chunks.words.tolist() == [[-1, 0, 1, -1, -1, -1, -1]]
    assert found.chunks.segments.tolist() == [[-1, 0, 1, -1, -1, -1, -1]]
    assert found.places == ((0, 1), (0, 2))
    assert found.chunks.ids.dtype == torch.int64
    assert found.chunks.weights.dtype == torch.float32


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [(), ("",), ("  ",)])
def test_the_empty_prompt_is_one_chunk(layout: ChunkLayout, parts: tuple[str, ...]) -> None:
    found = lay(*parts, layout=layout, context=5, pad=0)
    assert found.chunks.ids.tolist() == [[START, END, 0, 0, 0]]
    assert not found.places
    assert not found.dropped


def test_truncation_keeps_one_chunk_and_drops_the_rest() -> None:
    found = lay("a cat", Break(), "and a dog", layout="truncate", context=5)
    assert sizes(found) == [3]
    assert [token.piece for token in found.dropped] == ["a", "dog"]
    assert found.places == ((0, 1), (0, 2), (0, 3), None, None)


@pytest.mark.parametrize("layout", ["kohya", "lpw"])
def test_kohya_and_lpw_stop_after_three_chunks(layout: ChunkLayout) -> None:
    found = lay(cats(230), layout=layout)
    assert sizes(found) == [75, 75, 75]
    assert len(found.dropped) == 5


@pytest.mark.parametrize(("count", "length"), [(10, 77), (76, 152), (225, 227)])
def test_kohya_keeps_one_start_and_one_end(count: int, length: int) -> None:
    found = lay(cats(count), layout="kohya")
    used = found.chunks.used
    assert used is not None
    assert int(used.sum()) == length  # 75 a chunk, and 2
    kept = found.chunks.ids[used]
    assert kept[0] == START
    assert kept[1 : count + 1].tolist() == [CAT] * count
    assert kept[-1] == END
    assert (kept == START).sum() == 1


def test_longclip_needs_one_chunk_for_248_tokens() -> None:
    for layout in LAYOUTS:
        assert sizes(lay(cats(246), layout=layout, context=248)) == [246]


# compel as a peer

WORDS = (
    "a",
    "cat",
    "dog,",
    ".",
    ";",
    ":",
    "hotdogstand",
    "supercalifragilistic",
    "red!",
    "blue;",
    "end.",
    "the",
    "<cat-toy>",
)
MODES: Sequence[tuple[ChunkLayout, str]] = (
    ("compel", "SENTENCES"),
    ("compel-phrases", "PHRASES"),
    ("compel-words", "WORDS"),
    ("compel-brutal", "BRUTAL"),
)


@pytest.mark.parametrize(("layout", "mode"), MODES)
def test_compel_layouts_are_those_of_compel(layout: ChunkLayout, mode: str) -> None:
    choose = random.Random(mode)
    for length in (0, 20, 60, 90, 150, 200):
        words = [[choose.choice(WORDS) for _ in range(length // 2)] for _ in range(2)]
        fragments, weights = [" ".join(part) for part in words], [1.0, 1.3]
        ids, expanded = compel_chunks(fragments, weights, mode)
        parts = [Segment(text, weight) for text, weight in zip(fragments, weights, strict=True)]
        found = lay(*parts, layout=layout).chunks
        assert torch.equal(found.ids, ids)
        torch.testing.assert_close(found.weights, expanded)


@pytest.mark.parametrize(("layout", "mode"), MODES)
def test_compel_layouts_fall_back_when_there_is_nowhere_better(
    layout: ChunkLayout, mode: str
) -> None:
    for text in ("supercalifragilistic" * 40, cats(100), f"{cats(40)}, {cats(60)}"):
        ids, _ = compel_chunks([text], [1.0], mode)
        assert torch.equal(lay(text, layout=layout).chunks.ids, ids)


def test_compel_never_splits_after_an_inversion() -> None:
    text = f"{cats(74)} <cat-toy> {cats(20)}"
    ids, _ = compel_chunks([text], [1.0], "WORDS", ("<cat-toy>",))
    ids[ids == END + 1] = 0
    found = lay(text, layout="compel-words", inversions={"<cat-toy>": torch.ones(1, 2)})
    assert sizes(found) == [74, 21]
    assert torch.equal(found.chunks.ids, ids)


# properties

PIECES = st.sampled_from(["cat ", "a, ", ", ", ". ", "hotdogstand ", "style ", "!! ", "dog; ", ""])
PARTS = st.lists(
    st.one_of(
        st.just(Break()),
        st.builds(
            Segment,
            st.lists(PIECES, max_size=12).map("".join),
            st.sampled_from([1.0, 0.5, 1.3, -1.0]),
        ),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(PARTS, st.sampled_from(LAYOUTS), st.integers(3, 16))
def test_no_token_is_lost_but_at_the_end_of_a_cutting_layout(
    parts: list[Segment | Break], layout: ChunkLayout, context: int
) -> None:
    stream = tokenize(Line(tuple(parts)), TOKENIZER, inversions={"style": torch.ones(3, 2)})
    tokens = [item for item in stream if isinstance(item, Token)]
    found = lay_out(stream, layout, context=context, start=START, end=END, pad=0)
    kept = [place for place in found.places if place is not None]
    assert len(found.places) == len(tokens)
    assert kept == sorted(set(kept))  # order kept, one token a place
    assert found.places[len(kept) :] == (None,) * len(found.dropped)
    assert [*found.dropped] == tokens[len(kept) :]
    assert layout in CUTTING or not found.dropped
    for token, place in zip(tokens, kept, strict=False):
        assert int(found.chunks.ids[place]) == token.id
        assert float(found.chunks.weights[place]) == pytest.approx(token.weight)
        assert (place in found.chunks.vectors) == (token.vector is not None)


@settings(max_examples=60, deadline=None)
@given(PARTS, st.sampled_from(LAYOUTS), st.integers(3, 16))
def test_every_chunk_is_a_start_then_tokens_then_an_end_then_padding(
    parts: list[Segment | Break], layout: ChunkLayout, context: int
) -> None:
    stream = tokenize(Line(tuple(parts)), TOKENIZER, inversions={"style": torch.ones(3, 2)})
    chunks = lay_out(stream, layout, context=context, start=START, end=END, pad=0).chunks
    assert chunks.ids.shape == chunks.weights.shape == chunks.words.shape == chunks.segments.shape
    assert chunks.ids.shape[1] == context
    for ids, words, weights in zip(chunks.ids, chunks.words, chunks.weights, strict=True):
        size = int((words != NO_WORD).sum())
        assert ids[0] == START
        assert ids[size + 1] == END
        assert ids[size + 2 :].tolist() == [0] * (context - size - 2)
        assert (words[1 : size + 1] != NO_WORD).all()
        assert (weights[words == NO_WORD] == 1).all()


@settings(max_examples=40, deadline=None)
@given(PARTS, st.integers(3, 16))
def test_webui_moves_at_most_20_tokens_and_only_after_a_comma(
    parts: list[Segment | Break], context: int
) -> None:
    breakless = [part for part in parts if isinstance(part, Segment)]
    chunks = lay(*breakless, context=context).chunks
    for ids, words in list(zip(chunks.ids, chunks.words, strict=True))[:-1]:
        size = int((words != NO_WORD).sum())
        moved = context - 2 - size
        assert moved == 0 or (ids[size] == COMMA and moved <= 20)


# more chunks


def test_added_chunks_are_the_empty_prompt() -> None:
    chunks = lay("a cat", context=6, pad=0).chunks
    padded = pad_chunks(chunks, 3, end=END, pad=0)
    assert padded.ids.tolist() == [[START, 320, CAT, END, 0, 0], *[[START, END, 0, 0, 0, 0]] * 2]
    assert padded.weights[1:].eq(1).all()
    assert padded.words[1:].eq(NO_WORD).all()
    assert padded.segments[1:].eq(NO_WORD).all()
    assert padded.used is None
    assert padded.mask is None


def test_chunks_added_to_a_masked_prompt_may_be_attended_to() -> None:
    chunks = lay("a cat", context=6).chunks
    seen = torch.ones_like(chunks.ids, dtype=torch.bool)
    seen[0, 2] = False
    mask = pad_chunks(replace(chunks, mask=seen), 2, end=END, pad=END).mask
    assert mask is not None
    assert mask.tolist() == [seen[0].tolist(), [True] * 6]


def test_kohya_prompts_of_three_chunks_are_227_long_whatever_they_say() -> None:
    short, long = lay("a cat", layout="kohya").chunks, lay(cats(160), layout="kohya").chunks
    made = equalise([short, long], end=END, pad=END)
    lengths = [int(chunks.used.sum()) for chunks in made if chunks.used is not None]
    assert lengths == [227, 227]
    assert made[0].ids[made[0].used][-1] == END


def test_equalising_keeps_what_is_long_enough() -> None:
    one, two = lay("a").chunks, lay("a", Break(), "b").chunks
    made = equalise([one, two], end=END, pad=END)
    assert [len(chunks.ids) for chunks in made] == [2, 2]
    assert made[1] is two
    assert equalise([], end=END, pad=END) == []


def test_chunks_cannot_be_taken_away() -> None:
    two = lay("a", Break(), "b").chunks
    with pytest.raises(ShapeError, match="2 chunks cannot be padded to 1; ask for at least 2"):
        pad_chunks(two, 1, end=END, pad=END)


def test_an_unknown_layout_or_a_tiny_context_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layout must be one of truncate, a1111.*mean 'a1111'"):
        lay("a", layout="a111")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="context must hold start, one token and end, got 2"):
        lay("a", context=2)


def test_some_chunks_keep_what_is_theirs() -> None:
    chunks = lay("cat", Break(), Segment("style", 1.2), inversions={"style": torch.eye(2)}).chunks
    mask = torch.arange(2 * 77).reshape(2, 77) % 5 != 0
    found = replace(chunks, mask=mask).select([1])
    assert torch.equal(found.ids, chunks.ids[1:])
    assert torch.equal(found.weights, chunks.weights[1:])
    assert torch.equal(found.words, chunks.words[1:])
    assert torch.equal(found.segments, chunks.segments[1:])
    assert set(found.vectors) == {(0, 1), (0, 2)}
    assert found.mask is not None
    assert torch.equal(found.mask, mask[1:])
    assert found.used is None
