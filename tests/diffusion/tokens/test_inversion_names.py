import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion.tokens.chunks import lay_out
from ecliptic.diffusion.tokens.inversion_names import InversionMatch, UnknownInversionWarning
from ecliptic.diffusion.tokens.tokens import Token, tokenize
from ecliptic.diffusion.tokens.words import Wording
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.inputs import Tokenizer
from ecliptic.prompts.reading import Break, Line, Segment
from tests.diffusion.tokens.token_peers import huggingface_ids, huggingface_tokenizer

TOKENIZER = Tokenizer()
PLAIN = Wording()
D = 4


def inversion(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


TWO, ONE, THREE = inversion(2, 1), inversion(1, 2), inversion(3, 3)
NAMES = {"<cat-toy>": TWO, "sks": ONE, "skst": THREE}


def read(
    *parts: Segment | str,
    match: InversionMatch = "diffusers",
    inversions: dict[str, Tensor] = NAMES,
    wording: Wording = PLAIN,
) -> list[Token]:
    line = Line(tuple(Segment(part) if isinstance(part, str) else part for part in parts))
    stream = tokenize(line, TOKENIZER, wording, inversions=inversions, match=match)
    return [item for item in stream if isinstance(item, Token)]


def show(tokens: Sequence[Token]) -> list[int | str]:
    return [token.id if token.vector is None else token.piece for token in tokens]


def test_every_vector_is_a_token_of_one_word_under_the_weight_of_its_segment() -> None:
    found = read("a ", Segment("<cat-toy> b", 1.4))
    assert show(found) == [320, "<cat-toy> 1/2", "<cat-toy> 2/2", 321]
    assert [token.weight for token in found] == [1.0, 1.4, 1.4, 1.4]
    assert [token.word for token in found] == [0, 1, 1, 2]
    assert [token.span for token in found] == [(0, 1), (2, 11), (2, 11), (12, 13)]
    assert [token.id for token in found[1:3]] == [0, 0]
    vectors = [token.vector for token in found if token.vector is not None]
    assert torch.equal(torch.stack(vectors), TWO)


def test_rows_hold_the_vectors_where_splicing_into_the_sequence_puts_them() -> None:
    table = torch.randn(49408, D, generator=torch.Generator().manual_seed(9))
    stream = read("a <cat-toy> b")
    rows = lay_out(stream, "truncate", context=8, start=49406, end=49407, pad=0).chunks
    embedded = table[rows.ids]  # (1, 8, D)
    for place, vector in rows.vectors.items():
        embedded[place] = vector
    a, b, start, end, pad = (table[[id_]] for id_ in (320, 321, 49406, 49407, 0))
    spliced = torch.cat([start, a, TWO, b, end, pad, pad])
    assert torch.equal(embedded[0], spliced)


@pytest.mark.parametrize(
    "text",
    ["a <cat-toy> b", "a <Cat-Toy>b", "a<CAT-TOY>x", "sksts sks SKS", "asksb", "x<cat-toy>!y"],
)
@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_diffusers_names_are_found_where_huggingface_finds_added_tokens(
    text: str, pad: str
) -> None:
    added = tuple(NAMES)
    theirs = huggingface_tokenizer(pad, added).get_vocab()
    names = {theirs[name]: name for name in added}
    wording = Wording(exclamation="pad" if pad == "!" else "word")
    found = read(text, wording=wording)
    ours = [token.id if token.vector is None else token.piece.split(" ")[0] for token in found]
    once = [id_ for place, id_ in enumerate(ours) if _first(found, place)]
    assert once == [names.get(id_, id_) for id_ in huggingface_ids(text, pad, added)]


def _first(found: list[Token], place: int) -> bool:
    token = found[place]
    return token.vector is None or place == 0 or found[place - 1].word != token.word


def test_a_name_that_begins_another_name_leaves_it_whole() -> None:
    assert show(read("skst sks")) == ["skst 1/3", "skst 2/3", "skst 3/3", "sks"]


def test_names_of_several_words_are_found_across_any_white_space() -> None:
    assert show(read("a my\n  toy", inversions={"my toy": ONE})) == [320, "my toy"]


def test_an_exclamation_mark_that_is_padding_comes_before_names() -> None:
    inversions = {"toy!": ONE}
    assert show(read("a toy!", inversions=inversions)) == [320, "toy!"]
    padded = read("a toy!", inversions=inversions, wording=Wording(exclamation="pad"))
    assert show(padded) == [320, 5988, 0]


def test_a1111_finds_the_longest_run_of_ids() -> None:
    inversions = {"red": ONE, "red cat": TWO, "dog": THREE}
    found = read("a red cat, red dogs", match="a1111", inversions=inversions)
    assert show(found) == [320, "red cat 1/2", "red cat 2/2", 267, "red", 3255]
    assert found[1].span == (2, 9)
    assert [token.word for token in found] == [0, 1, 1, 2, 3, 4]


def test_a1111_finds_names_of_other_case_and_inside_longer_words() -> None:
    tail = [token.id for token in read("hotdogstand", inversions={})]
    assert len(tail) > 1
    name = TOKENIZER.decode(tail[-1:]).strip()
    found = read("hotdogstand RED", match="a1111", inversions={name: ONE, "red": ONE})
    assert show(found) == [*tail[:-1], name, "red"]


def test_a1111_names_do_not_reach_across_segments() -> None:
    found = read("red ", Segment("cat", 1.1), match="a1111", inversions={"red cat": ONE})
    assert show(found) == [736, 2368]


def test_comfyui_names_follow_a_space_and_leave_commas_as_text() -> None:
    found = read("a embedding:style, cat", match="comfyui", inversions={"style": TWO})
    assert show(found) == [320, "style 1/2", "style 2/2", 267, 2368]
    assert [token.segment for token in found] == [0, 1, 1, 2, 2]
    assert [token.span for token in found] == [(0, 1), (2, 17), (2, 17), (17, 18), (19, 22)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("embedding:style", ["style"]),  # starts the segment
        ("a\nembedding:style", [320, "style"]),
        ("embedding:style.pt b", ["style", 321]),
        ("embedding:sub/style", ["sub/style"]),
        ("embedding:style embedding:style", ["style", "style"]),
    ],
)
def test_comfyui_names_are_found(text: str, expected: list[int | str]) -> None:
    inversions = {"style": ONE, "sub/style": ONE}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert show(read(text, match="comfyui", inversions=inversions)) == expected


def test_comfyui_reads_a_name_inside_a_word_as_text() -> None:
    found = read("xembedding:style", match="comfyui", inversions={"style": ONE})
    assert all(token.vector is None for token in found)
    assert "style" in {token.piece for token in found}


@pytest.mark.parametrize(
    ("text", "name", "left"),
    [
        ("a embedding:nothing b", "nothing", [320, 321]),
        ("a embedding:nothing, b", "nothing", [320, 267, 321]),
        ("a embedding:style,b c", "style,b", [320, 322]),
        ("a embedding:", "", [320]),
    ],
)
def test_an_unknown_comfyui_name_is_left_out_with_a_warning(
    text: str, name: str, left: list[int]
) -> None:
    with pytest.warns(UnknownInversionWarning, match=f"no textual inversion is called '{name}'"):
        found = read(text, match="comfyui", inversions={"style": ONE})
    assert show(found) == left


@pytest.mark.parametrize("match", ["diffusers", "a1111", "comfyui"])
def test_without_inversions_every_rule_gives_the_plain_tokens(match: InversionMatch) -> None:
    text = "a photo of sks, 3 dogs!"
    assert show(read(text, match=match, inversions={})) == TOKENIZER.encode(text)


def test_breaks_pass_between_inversions() -> None:
    line = Line((Segment("sks"), Break(), Segment("sks")))
    stream = tokenize(line, TOKENIZER, inversions=NAMES)
    assert [isinstance(item, Break) for item in stream] == [False, True, False]


def test_an_inversion_of_one_dimension_is_one_vector() -> None:
    (found,) = read("sks", inversions={"sks": ONE[0]})
    assert found.vector is not None
    assert torch.equal(found.vector, ONE[0])


def test_inversions_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"inversion 'x' is \(1, 2, 3\); it must be \(n, D\)"):
        read("x", inversions={"x": torch.ones(1, 2, 3)})
    with pytest.raises(ShapeError, match=r"inversion 'x' is \(0, 4\)"):
        read("x", inversions={"x": torch.ones(0, 4)})
    with pytest.raises(NumericalError, match="inversion 'x' must be finite"):
        read("x", inversions={"x": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ConfigError, match="a textual inversion has no name"):
        read("x", inversions={" ": ONE})
