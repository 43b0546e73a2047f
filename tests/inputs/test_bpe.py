"""Byte-pair merging equals the reference, for any bytes and any length."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.inputs import written_bytes, written_merges, written_vocabulary
from ecliptic.inputs.bpe import BYTE_OF_NAME, WORD_END, byte_pairs
from ecliptic.inputs.specs import FULL_MERGES
from tests.inputs.texts import FIXED

NAMES, VOCABULARY = written_bytes(), written_vocabulary()
RANKS = {tuple(line.split(" ")): rank for rank, line in enumerate(written_merges())}
WORDS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text("abeinrst", min_size=1, max_size=60).map(str.encode),
    st.text("la", min_size=1, max_size=60).map(str.encode),
)


def merge_naively(word: bytes, *, ends: bool = True) -> list[str]:
    """The definition: repeatedly join every place of the first merge of the list, from the left."""
    symbols = [NAMES[byte] for byte in word]
    symbols[-1] += WORD_END if ends else ""
    while found := [RANKS[pair] for pair in pairwise(symbols) if pair in RANKS]:
        lowest, joined = min(found), list[str]()
        while symbols:
            if RANKS.get(tuple(symbols[:2])) == lowest:
                joined.append("".join(symbols[:2]))
                del symbols[:2]
            else:
                joined.append(symbols.pop(0))
        symbols = joined
    return symbols


@given(WORDS)
@settings(FIXED, max_examples=500)
def test_merging_equals_its_definition(word: bytes) -> None:
    ids = byte_pairs(FULL_MERGES).encode_word(word)
    assert [VOCABULARY[id_] for id_ in ids] == merge_naively(word)


def test_the_bytes_of_each_symbol_are_merged_to_it() -> None:
    """`BytePairs` relies on it, since it looks up words and neighbours by their names.

    A word with the name of a symbol is merged to it. Neighbours whose names join to that of a
    symbol are joined by its merge: no merge has crossed the ends of the two, so their bytes alone
    would be merged to these two as well, and then on to the symbol. No name is written twice, and
    no names inside a word join to that of an end, which has "</w>".
    """
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert not any(name.endswith("</w") or name in ("w>", "/w>") for name in VOCABULARY)
    for name in VOCABULARY[:-2]:
        word = bytes(BYTE_OF_NAME[char] for char in name.removesuffix(WORD_END))
        assert merge_naively(word, ends=name.endswith(WORD_END)) == [name]


@pytest.mark.parametrize("merges", [0, 1, 500, 8000, FULL_MERGES])
def test_any_bytes_have_ids_and_come_back(merges: int) -> None:
    pairs, source = byte_pairs(merges), random.Random(0)
    for word in (source.randbytes(length) for length in range(1, 200)):
        ids = pairs.encode_word(word)
        assert max(ids) < len(pairs) == 512 + merges
        assert b"".join(map(pairs.piece, ids)) == word
        assert [pairs.ends_word(id_) for id_ in ids] == [False] * (len(ids) - 1) + [True]


def test_fewer_merges_are_a_prefix_of_the_list() -> None:
    full, cut = byte_pairs(FULL_MERGES), byte_pairs(1000)
    assert [full.piece(id_) for id_ in range(1512)] == [cut.piece(id_) for id_ in range(1512)]


def test_no_bytes_give_no_ids() -> None:
    assert byte_pairs(0).encode_word(b"") == []


@pytest.mark.parametrize("unit", [b"a", b"ab", b"the", bytes(range(256))])
def test_b11_a_huge_word_takes_seconds_not_hours(unit: bytes) -> None:
    pairs = byte_pairs(FULL_MERGES)
    word = unit * (300_000 // len(unit))
    began = time.perf_counter()
    ids = pairs.encode_word(word)
    assert time.perf_counter() - began < 10  # the reference's loop would take minutes
    assert sum(len(pairs.piece(id_)) for id_ in ids) == len(word)
