"""Cleaning equals the reference, and every clean character has its original place."""

import html
import random
import string

import ftfy
import pytest
from hypothesis import given, settings

from ecliptic.errors import TextError
from ecliptic.inputs.cleaning import (
    clean,
    clean_with_offsets,
    is_mojibake,
    repair,
    repaired_pieces,
)
from tests.inputs.texts import FIXED, texts


def clean_without_shortcut(text: str) -> str:
    """openai/CLIP clip/simple_tokenizer.py, step by step."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).strip().lower()


@given(texts())
@settings(FIXED, max_examples=1000)
def test_b14_cleaning_equals_every_step_of_the_reference(text: str) -> None:
    assert clean(text) == clean_without_shortcut(text)


def test_the_ascii_shortcut_changes_nothing() -> None:
    source = random.Random(0)
    letters = [chr(code) for code in range(128)]
    for _ in range(5000):
        text = "".join(source.choices(letters + list(string.ascii_letters) * 3, k=12))
        assert repair(text) == html.unescape(html.unescape(ftfy.fix_text(text)))


@given(texts())
@settings(FIXED, max_examples=1000)
def test_offsets_are_in_order_and_inside_the_text(text: str) -> None:
    cleaned = clean_with_offsets(text)
    assert cleaned.text == clean(text)
    assert len(cleaned.starts) == len(cleaned.ends) == len(cleaned.text)
    assert cleaned.starts == sorted(cleaned.starts)
    assert cleaned.ends == sorted(cleaned.ends)
    spans = zip(cleaned.starts, cleaned.ends, strict=True)
    assert all(0 <= start <= end <= len(text) for start, end in spans)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("A  Cat", ["A", "  ", "C", "a", "t"]),
        ("caf\u00c3\u00a9!", ["c", "a", "f", "\u00c3\u00a9", "!"]),
        ("x &amp;amp; y", ["x", " ", "&amp;amp;", " ", "y"]),
        ("&eacute;t", ["&eacute;", "t"]),
        ("e\u0301t", ["e\u0301", "t"]),
        ("a\x00b", ["a", "b"]),
        ("\ufb01t", ["\ufb01", "\ufb01", "t"]),
        ("\u0130n", ["\u0130", "\u0130", "n"]),
        ("\u00d0\u00bf\u00d1\u20ac\u00d0\u00b8", ["\u00d0\u00bf", "\u00d1\u20ac", "\u00d0\u00b8"]),
    ],
)
def test_each_clean_character_points_at_its_origin(text: str, origins: list[str]) -> None:
    cleaned = clean_with_offsets(text)
    spans = zip(cleaned.starts, cleaned.ends, strict=True)
    assert [text[start:end] for start, end in spans] == origins


def test_mojibake_is_told_from_accents() -> None:
    assert is_mojibake("caf\u00c3\u00a9")
    assert not is_mojibake("café")
    assert not is_mojibake("plain")


ENTITY = "&#" + "9" * 5000 + ";"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"a cat {ENTITY}", 6),
        (f"&amp;{ENTITY[1:]}", None),  # only the second time
        (f"<b> &amp;{ENTITY[1:]}", None),  # ftfy leaves the entities of HTML alone
        (f"<b> {ENTITY} caf\u00c3\u00a9", 4),
    ],
)
def test_b12_an_entity_that_the_reference_cannot_read_is_a_typed_error(
    text: str, place: int | None
) -> None:
    with pytest.raises(ValueError, match="limit"):
        clean_without_shortcut(text)
    for read in (clean, clean_with_offsets, repaired_pieces):
        with pytest.raises(TextError, match="thousands of digits") as caught:
            read(text)
        assert caught.value.place == place


def test_b12_pieces_that_only_alone_hold_such_an_entity_stay_whole() -> None:
    text = f"<b> &amp;amp;{ENTITY[1:]}"
    assert clean(text) == clean_without_shortcut(text) == f"<b> {ENTITY}"
    cleaned = clean_with_offsets(text)
    assert cleaned.text == clean(text)
    assert cleaned.ends[-1] == len(text)


@pytest.mark.parametrize("digits", [640, 4300])
def test_b12_long_entities_that_the_reference_reads_become_the_replacement(digits: int) -> None:
    text = f"a {ENTITY[: digits + 2]};"
    assert clean(text) == clean_without_shortcut(text) == "a \ufffd"
