import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st

from ecliptic.diffusion.tokens.tokens import Token, tokenize
from ecliptic.diffusion.tokens.words import Wording
from ecliptic.errors import ConfigError, ShapeError, TextError
from ecliptic.inputs import Tokenizer, TokenizerSpec
from ecliptic.prompts.reading import Break, Line, Segment
from tests.diffusion.tokens.token_peers import huggingface_ids

TOKENIZER = Tokenizer()
PLAIN = Wording()
PADDED = Wording(exclamation="pad")
OPENAI = Wording(cleaning="openai")
MIXTURE = (
    "cat",
    "!",
    "!!",
    "?",
    "'s",
    "'",
    "İ",
    "Σ",
    "ς",
    "ſ",
    "é",
    "e\u0301",
    "\u0301",
    "&amp;",
    "&lt;",
    "<|ENDOFTEXT|>",
    "Ｆｕｌｌ",
    "！",
    "🙂",
    "👩‍👩‍👧",
    "\x00",
    "\x1c",
    "\x85",
    "\u200b",
    "“quoted”",
    "â€™",
    "Ã©",
    "ﬁ",
    "½",
    "٣",
    "漢字",
    "한국",
    "ᄒ",
    "ᅡ",
    "ᆫ",
    "n\u0303",
    "\u212b",
    "ßß",
    "don't",
    "DON'T",
    "'LL",
    "_",
    "-",
    "|>",
    "<|",
    "123",
    "ǅ",
    "\u0345",
    "ᾳ",
    "𝔘",
    "\ufeff",
    "\u00ad",
    "\ufffd",
    "नमस्ते",
    "กำ",
    "ŉ",
    "<|endoftext|>",
    "<|startoftext|>",
)
# what the repairs of openai/CLIP change, and Hugging Face's tokenizer does not
REPAIRED = [
    "&amp;",
    "&lt;",
    "Ｆｕｌｌ",
    "！",
    "\x00",
    "\x1c",
    "\x85",
    "“quoted”",
    "â€™",
    "Ã©",
    "ﬁ",
    "ǅ",
    "\u0345",
    "\ufeff",
    "ŉ",
]


def tokens(
    *parts: Segment | Break | str, wording: Wording = PLAIN, tokenizer: Tokenizer = TOKENIZER
) -> list[Token]:
    line = Line(tuple(Segment(part) if isinstance(part, str) else part for part in parts))
    return [item for item in tokenize(line, tokenizer, wording) if isinstance(item, Token)]


def ids(text: str, wording: Wording = PLAIN) -> list[int]:
    return [token.id for token in tokens(text, wording=wording)]


def mixtures(count: int) -> list[str]:
    choose = random.Random(0)
    gaps = ("", " ", "\n", "\t", "  ")
    return [
        "".join(choose.choice(MIXTURE) + choose.choice(gaps) for _ in range(choose.randint(1, 8)))
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("text", "as_word", "as_pad"),
    [
        ("a cat!", [320, 2368, 256], [320, 2368, 0]),
        ("hello!!", [3306, 748], [3306, 0, 0]),
        ("a!?b", [320, 6004, 321], [320, 0, 286, 321]),
        ("un!happy", [2271, 256, 900], [2271, 0, 900]),
    ],
)
def test_an_exclamation_mark_is_a_word_or_padding_by_name(
    text: str, as_word: list[int], as_pad: list[int]
) -> None:
    assert ids(text) == as_word
    assert ids(text, PADDED) == as_pad


@pytest.mark.parametrize("pad", ["word", "pad"])
def test_huggingface_cleaning_gives_the_ids_of_huggingface(pad: str) -> None:
    wording = Wording(exclamation="pad" if pad == "pad" else "word", specials=True)
    theirs = "!" if pad == "pad" else "<|endoftext|>"
    for text in mixtures(400):
        assert ids(text, wording) == huggingface_ids(text, theirs), repr(text)


def test_the_two_cleanings_differ_exactly_where_openai_repairs() -> None:
    differing = [text for text in MIXTURE if ids(text) != ids(text, OPENAI)]
    assert differing == REPAIRED


@pytest.mark.parametrize("text", MIXTURE)
def test_openai_cleaning_gives_the_ids_of_our_tokenizer(text: str) -> None:
    assert ids(text, OPENAI) == TOKENIZER.encode(text)


@pytest.mark.parametrize("wording", [Wording(), PADDED, OPENAI])
def test_special_strings_in_a_prompt_stay_text_unless_asked_for(wording: Wording) -> None:
    text = "a cat <|endoftext|> on a mat <|startoftext|>"
    assert max(ids(text, wording)) < TOKENIZER.spec.start_of_text
    asked = ids(text, Wording(specials=True))
    assert asked == [320, 2368, 49407, 525, 320, 9063, 49406]


def test_specials_have_the_ids_of_a_smaller_vocabulary() -> None:
    small = Tokenizer(TokenizerSpec(merges=10))
    found = tokens("<|endoftext|>", wording=Wording(specials=True), tokenizer=small)
    assert [token.id for token in found] == [small.spec.end_of_text]


def test_segments_are_tokenized_by_themselves_and_counted_through_the_prompt() -> None:
    found = tokens(Segment("un"), Segment("happy cats", 1.2), Break(), Segment("hotdogstand!"))
    assert [token.id for token in found[:3]] == [2271, 900, 3989]  # two words, not "unhappy"
    assert [token.segment for token in found] == [0, 1, 1, *[2] * (len(found) - 3)]
    assert [token.word for token in found[:3]] == [0, 1, 2]
    assert found[3].word == found[4].word == 3  # pieces of one word
    assert found[-1].word == 4
    assert [token.weight for token in found[:4]] == [1.0, 1.2, 1.2, 1.0]


def test_breaks_keep_their_place_between_the_tokens() -> None:
    mark = Break((2, 7))
    stream = tokenize(Line((Segment("a"), mark, Segment("b"), Break())), TOKENIZER)
    assert [item if isinstance(item, Break) else item.id for item in stream] == [
        320,
        mark,
        321,
        Break(),
    ]


@pytest.mark.parametrize("wording", [Wording(), PADDED, OPENAI])
def test_spans_point_into_the_prompt_past_escapes_and_weights(wording: Wording) -> None:
    prompt = r"a \(small\) (red:1.3) fox!"
    kept = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]  # the prompt without its backslashes
    parts = (
        Segment("a (small) ", 1.0, tuple(kept)),
        Segment("red", 1.3, (13, 14, 15)),
        Segment(" fox!", 1.0, (21, 22, 23, 24, 25)),
    )
    found = tokens(*parts, wording=wording)
    shown = [(prompt[slice(*token.span)], token.weight) for token in found]
    assert shown == [
        ("a", 1.0),
        ("(", 1.0),
        ("small", 1.0),
        (")", 1.0),
        ("red", 1.3),
        ("fox", 1.0),
        ("!", 1.0),
    ]


def test_spans_cover_an_entity_that_became_one_character() -> None:
    found = tokens(Segment("cats &amp; dogs", origin=tuple(range(10, 25))), wording=OPENAI)
    assert [token.span for token in found] == [(10, 14), (15, 20), (21, 25)]


def test_spans_cover_letters_that_were_composed_or_lengthened() -> None:
    text = "xé İstanbul 🙂"
    composed = text.replace("é", "e\u0301")
    shown = [composed[slice(*token.span)] for token in tokens(composed)]
    assert shown[:2] == ["x", "e\u0301"]
    assert shown[-1] == "🙂"
    assert "".join(dict.fromkeys(shown)) == "xe\u0301İstanbul🙂"


def test_segments_without_an_origin_stand_side_by_side() -> None:
    found = tokens("a cat ", "and a dog")
    assert [token.span for token in found] == [(0, 1), (2, 5), (6, 9), (10, 11), (12, 15)]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.booleans())
def test_any_text_gives_ids_of_the_vocabulary_and_spans_of_the_prompt(
    text: str, repaired: bool
) -> None:
    found = tokens(Segment(text), wording=OPENAI if repaired else PADDED)
    for token in found:
        assert 0 <= token.id < TOKENIZER.spec.start_of_text
        assert 0 <= token.span[0] < token.span[1] <= len(text)
    assert all(b.word - a.word in (0, 1) for a, b in pairwise(found))


def test_a_lone_surrogate_is_refused_with_its_place_in_the_prompt() -> None:
    with pytest.raises(
        TextError, match=r"character 42 of the prompt is a lone surrogate \(U\+D800"
    ):
        tokens(Segment("a\ud800", origin=(41, 42)))


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(TextError, match=f"weight of 'cat' at character 5 is {weight}.*finite"):
        tokens(Segment("cat", weight, (5, 6, 7)))


def test_origins_must_be_one_for_each_character() -> None:
    with pytest.raises(ShapeError, match="3 characters but places for 2"):
        tokens(Segment("cat", origin=(0, 1)))


def test_an_unknown_wording_or_match_names_the_choices() -> None:
    with pytest.raises(
        ConfigError, match="cleaning must be one of huggingface, openai, got 'ftfy'"
    ):
        Wording(cleaning="ftfy")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="exclamation must be one of word, pad, got 'id'"):
        Wording(exclamation="id")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="match must be one of diffusers, a1111, comfyui"):
        tokenize(Line(()), TOKENIZER, match="webui", inversions={"x": torch.ones(2)})  # type: ignore[arg-type]
