"""The tokenizer gives the reference's ids for any text, and drops nothing silently."""

import json
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import given, settings

from ecliptic.errors import ConfigError, TextError, TextTooLongError
from ecliptic.inputs import Tokenizer, TokenizerSpec, TruncationWarning
from tests import peers
from tests.inputs.random_texts import random_texts
from tests.inputs.texts import FIXED, HARD, SPECIALS, texts

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokens.json").read_text())["cases"]
NUMBERS = "seven eight nine " * 40
OPEN_CLIP_SPECIALS = regex.compile("<start_of_text>|<end_of_text>", regex.IGNORECASE)
OPENAI_SPECIALS = regex.compile(r"<\|startoftext\|>|<\|endoftext\|>", regex.IGNORECASE)
tokenizer = Tokenizer()


@cache
def reference() -> Any:
    return peers.open_clip().tokenizer.SimpleTokenizer()


def check_against_open_clip(text: str) -> None:
    """Special strings are text, or with `specials` ids, but those of both projects are read then.

    So a text with open_clip's is compared with `specials` alone, one with OpenAI's without, and one
    with both not at all.
    """
    expected = reference().encode(text)
    cleaned = reference().clean_fn(text)
    if not OPEN_CLIP_SPECIALS.search(cleaned):
        assert tokenizer.encode(text) == expected
    if not OPENAI_SPECIALS.search(cleaned):
        assert tokenizer.encode(text, specials=True) == expected


@pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
def test_ids_equal_openai(case: dict[str, Any]) -> None:
    assert tokenizer.encode(case["text"]) == case["bpe"]
    rows = tokenizer([case["text"]], overflow="truncate")
    assert rows.tolist() == [case["tokens77_truncate"]]


@given(texts())
@settings(FIXED, max_examples=500)
def test_b12_ids_equal_open_clip(text: str) -> None:
    check_against_open_clip(text)


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_b12_none_of_many_random_texts_has_other_ids_than_in_open_clip(count: int) -> None:
    for text in random_texts(count):
        check_against_open_clip(text)


@given(texts(specials=False))
@settings(FIXED, max_examples=300)
def test_rows_equal_open_clip(text: str) -> None:
    batch = tokenizer.batch([text, "a cat"], overflow="truncate")
    np.testing.assert_array_equal(batch.ids, reference()([text, "a cat"]).numpy())
    ends = batch.ids[np.arange(2), batch.lengths - 1]
    assert (ends == tokenizer.spec.end_of_text).all()


@given(texts())
@settings(FIXED, max_examples=500)
def test_special_ids_never_come_from_text(text: str) -> None:
    assert max(tokenizer.encode(text), default=0) < tokenizer.spec.start_of_text


def test_special_strings_are_text_unless_asked_for() -> None:
    text = " ".join(SPECIALS[:4])
    assert tokenizer.encode(text, specials=True) == [49406, 49407, 49406, 49407]
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.lower().replace(
        " ", ""
    )


@pytest.mark.parametrize("merges", [0, 300, 8000])
@pytest.mark.parametrize("text", HARD)
def test_any_text_tokenizes_with_few_merges(merges: int, text: str) -> None:
    small = Tokenizer(TokenizerSpec(merges=merges))
    ids = small.encode(text)
    assert max(ids, default=0) < small.spec.start_of_text == 512 + merges
    assert small.decode(ids) == tokenizer.decode(tokenizer.encode(text))


def test_decoding_gives_the_text_back_in_lower_case() -> None:
    assert tokenizer.decode(tokenizer.encode("A photo of a café")) == "a photo of a café "
    assert tokenizer.decode([49406, 320, 49407]) == "<|startoftext|>a <|endoftext|>"


@pytest.mark.parametrize("id_", [-1, 49408])
def test_unknown_ids_are_named(id_: int) -> None:
    with pytest.raises(TextError, match=f"token id {id_} is outside the vocabulary of 49408"):
        tokenizer.decode([id_])


def test_padding_and_lengths_follow_the_spec() -> None:
    padded = Tokenizer(TokenizerSpec(context=8, pad=49407))
    batch = padded.batch(["a cat", ""])
    assert batch.ids.tolist() == [
        [49406, 320, 2368, 49407, 49407, 49407, 49407, 49407],
        [49406, 49407, 49407, 49407, 49407, 49407, 49407, 49407],
    ]
    assert batch.ids.dtype == np.int64
    assert batch.lengths.tolist() == [4, 2]
    assert batch.truncated == ()


def test_a_single_text_is_one_row_and_no_text_is_no_row() -> None:
    assert tokenizer("a cat").shape == (1, 77)
    assert tokenizer([]).shape == (0, 77)


def test_b13_truncation_keeps_the_first_tokens_and_the_end() -> None:
    batch = tokenizer.batch(["a cat", NUMBERS], overflow="truncate")
    assert batch.ids[1, -1] == tokenizer.spec.end_of_text
    assert batch.ids[1, 1:-1].tolist() == tokenizer.encode(NUMBERS)[:75]
    assert batch.lengths.tolist() == [4, 77]
    assert batch.truncated == ((1, NUMBERS.split(" ", 75)[75].strip()),)


@pytest.mark.parametrize(
    "dropped",
    ["18 19 20", "Two DOGS", "caf\u00e9 &amp; \u201ctea\u201d", "\u72d0\u72f8  x", "don't, 1girl!"],
)
@pytest.mark.parametrize("kept", ["cat ", "7", "\u00e9 "])
def test_b13_what_is_dropped_is_quoted_as_it_was_written(kept: str, dropped: str) -> None:
    text = kept * 75 + dropped
    assert tokenizer.batch([text], overflow="truncate").truncated == ((0, dropped),)


def test_b13_a_word_is_quoted_from_its_first_dropped_character() -> None:
    text = "cat " * 74 + "Antidisestablishmentarianism now"
    ((_, dropped),) = tokenizer.batch([text], overflow="truncate").truncated
    assert text.endswith(dropped)
    assert dropped.endswith("ianism now")
    assert dropped != "Antidisestablishmentarianism now"


def test_exactly_full_context_is_not_truncated() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.batch("cat " * 75).lengths.tolist() == [77]


def test_b13_one_warning_quotes_the_dropped_words_where_the_caller_stands() -> None:
    with pytest.warns(TruncationWarning, match="text 1 loses 'seven eight.*text 2 loses") as seen:
        tokenizer(["a cat", NUMBERS, NUMBERS])
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_a_warning_about_many_texts_stays_short() -> None:
    with pytest.warns(TruncationWarning, match="100 texts need.*and 95 more") as seen:
        tokenizer.batch([NUMBERS] * 100)
    assert len(str(seen[0].message)) < 1000


def test_b13_overflow_error_names_the_row_and_the_words() -> None:
    with pytest.raises(TextTooLongError, match="text 1 loses 'seven eight nine"):
        tokenizer(["a cat", NUMBERS], overflow="error")


def test_an_unknown_overflow_is_refused() -> None:
    with pytest.raises(ConfigError, match='"warn", "error" or "truncate"'):
        tokenizer("a cat", overflow="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a \ud800 cat", r"text 1: character 2 is a lone surrogate \(U\+D800\)"),
        ("\udc00", r"text 1: character 0 is a lone surrogate \(U\+DC00\)"),
        (b"a cat", "text 1: got bytes, not text; decode"),
        (["a"], "text 1: got list, not text"),
        (None, "text 1: got NoneType, not text"),
        (3, "text 1: got int, not text"),
    ],
)
def test_what_is_not_text_is_refused_kindly(text: Any, message: str) -> None:
    with pytest.raises(TextError, match=message):
        tokenizer(["a cat", text])


@pytest.mark.parametrize(("texts", "name"), [(b"a cat", "bytes"), (None, "NoneType"), (3, "int")])
def test_something_else_than_texts_is_refused_kindly(texts: Any, name: str) -> None:
    with pytest.raises(TextError, match=f"text 0: got {name}, not text"):
        tokenizer(texts)


def test_any_iterable_of_texts_will_do() -> None:
    assert tokenizer(text for text in ("a", "b")).shape == (2, 77)


def test_b12_surrogate_pairs_are_one_character() -> None:
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "hello " * 166_666,
        "&amp; " * 166_666,
        pytest.param("é漢" * 500_000, marks=pytest.mark.slow),
        pytest.param("\u0301" * 10**6, marks=pytest.mark.slow),
        pytest.param("1!" * 500_000, marks=pytest.mark.slow),
    ],
)
def test_b11_a_million_characters_take_seconds(text: str) -> None:
    began = time.perf_counter()
    tokenizer.batch([text], overflow="truncate")
    assert time.perf_counter() - began < 20


def test_the_cache_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.inputs.tokenizer._CACHED_CHUNKS", 10)
    fresh = Tokenizer()
    for number in range(50):
        assert fresh.encode(f"word{number}") == tokenizer.encode(f"word{number}")
        assert len(fresh._chunks) <= 10
    fresh.encode("x" * 1000)
    assert "x" * 1000 not in fresh._chunks
