"""Byte-pair merging equals the reference, for any bytes and any length."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.inputs.bpe import BYTE_ID, BYTES, BytePairs, byte_pairs
from ecliptic.inputs.specs import FULL_MERGES
from tests.inputs.texts import FIXED

WORDS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text("abeinrst", min_size=1, max_size=60).map(str.encode),
    st.text("la", min_size=1, max_size=60).map(str.encode),
)


def merge_naively(word: bytes, pairs: BytePairs) -> list[int]:
    """The definition: repeatedly join every place of the lowest merge, from the left."""
    symbols = [BYTE_ID[byte] for byte in word]
    symbols[-1] += BYTES
    while True:
        found = [pairs.pair(a, b) for a, b in pairwise(symbols)]
        lowest = min((id_ for id_ in found if id_ is not None), default=None)
        if lowest is None:
            return symbols
        joined: list[int] = []
        while symbols:
            if len(symbols) > 1 and pairs.pair(symbols[0], symbols[1]) == lowest:
                joined.append(lowest)
                del symbols[:2]
            else:
                joined.append(symbols.pop(0))
        symbols = joined


@given(WORDS)
@settings(FIXED, max_examples=500)
def test_merging_equals_its_definition(word: bytes) -> None:
    pairs = byte_pairs(FULL_MERGES)
    assert pairs.encode_word(word) == merge_naively(word, pairs)


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
