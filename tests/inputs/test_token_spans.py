"""The ledger has every token, in order, with the characters it came from."""

import json

import pytest
from hypothesis import given, settings

from ecliptic.errors import TextError
from ecliptic.inputs import Tokenizer, ledger
from tests.inputs.texts import FIXED, texts

tokenizer = Tokenizer()


@given(texts())
@settings(FIXED, max_examples=1000)
def test_spans_are_in_order_and_inside_the_text(text: str) -> None:
    tokens = ledger(text, tokenizer)
    for place in (0, 1):
        edges = [token.span[place] for token in tokens]
        assert edges == sorted(edges)
    assert all(0 <= start <= end <= len(text) for start, end in (token.span for token in tokens))


@given(texts())
@settings(FIXED, max_examples=500)
def test_kept_ids_are_the_row_of_the_tokenizer(text: str) -> None:
    tokens = ledger(text, tokenizer)
    batch = tokenizer.batch([text], overflow="truncate")
    assert [t.id for t in tokens if t.kept] == batch.ids[0, : batch.lengths[0]].tolist()
    assert [t.id for t in tokens if t.kind == "text"] == tokenizer.encode(text)


def test_spans_are_exact_where_cleaning_changes_nothing() -> None:
    text = "a supercalifragilistic cat, isn't it? 42!"
    for token in ledger(text, tokenizer)[1:-1]:
        assert text[slice(*token.span)] == token.piece


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("Two  CATS", ["Two", "CATS"]),
        ("caf\u00c3\u00a9 au go", ["caf\u00c3\u00a9", "au", "go"]),
        ("salt &amp; pepper", ["salt", "&amp;", "pepper"]),
        ("it\u2019s", ["it", "\u2019s"]),
        ("\U0001f9ff", ["\U0001f9ff"] * len(tokenizer.encode("\U0001f9ff"))),
    ],
)
def test_spans_survive_cleaning(text: str, sources: list[str]) -> None:
    tokens = ledger(text, tokenizer)[1:-1]
    assert [text[slice(*token.span)] for token in tokens] == sources


def test_dropped_tokens_are_marked_and_the_end_is_kept() -> None:
    tokens = ledger("cat " * 80, tokenizer)
    assert [token.kept for token in tokens] == [True] * 76 + [False] * 5 + [True]


def test_specials_show_as_such_only_when_asked_for() -> None:
    text = "a <|endoftext|>"
    assert [token.kind for token in ledger(text, tokenizer)].count("end") == 1
    read = ledger(text, tokenizer, specials=True)
    assert [token.kind for token in read] == ["start", "text", "end", "end"]
    assert text[slice(*read[2].span)] == "<|endoftext|>"


def test_bytes_of_a_character_are_shown_as_such() -> None:
    small = ledger("\U0001f9ff", Tokenizer(type(tokenizer.spec)(merges=0)))
    assert [token.piece for token in small[1:-1]] == [r"\xf0", r"\x9f", r"\xa7", r"\xbf"]
    assert [token.ends_word for token in small[1:-1]] == [False, False, False, True]


def test_a_ledger_is_json() -> None:
    cat = ledger("a cat", tokenizer)[2]
    assert json.loads(json.dumps(cat.to_json())) == {
        "id": 2368,
        "piece": "cat",
        "kind": "text",
        "span": [2, 5],
        "kept": True,
        "ends_word": True,
    }


def test_what_the_tokenizer_refuses_the_ledger_refuses() -> None:
    with pytest.raises(TextError, match="lone surrogate"):
        ledger("\udfff", tokenizer)
