"""A row takes only the beginning of a long text: exact, quick and in little memory."""

import random
import subprocess
import sys
from functools import partial
from itertools import pairwise

import ftfy
import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import TextError
from ecliptic.inputs import Tokenizer, beginnings, written_merges
from ecliptic.inputs.bpe import BYTE_OF_NAME, WORD_END, byte_pairs
from ecliptic.inputs.cleaning import repair
from ecliptic.inputs.specs import FULL_MERGES
from tests.inputs.texts import FIXED, texts
from tests.pace import slowness

tokenizer = Tokenizer()
PAIRS = byte_pairs(FULL_MERGES)
UNITS = {
    "one word": "a",
    "many words": "hello ",
    "spaces": " ",
    "combining marks": "\u0301",
    "marks in disorder": "\u0301\u0316",
    "emoji": "😀",
    "entities": "&amp;",
    "cjk": "漢",
    "mojibake": "Ã©",
    "sigmas": "Σ",
    "lines": "漢字 b\n",
    "empty lines": "\n",
    "empty lines of Windows": "\r\n",
    "spaces as entities": "&#32;",
    "controls as entities": "&#1;",
    "letters with 998 marks": "e" + "\u0301\u0327" * 499,
}
BUDGET = """
import re, time
from ecliptic.inputs import Tokenizer
tokenizer, text = Tokenizer(), {unit!r} * (10**7 // len({unit!r}.encode()))
tokenizer.encode("caf\\u00e9 &amp;")
began = time.process_time()
assert tokenizer.batch([text], overflow="truncate").ids.shape == (1, 77)
seconds = time.process_time() - began
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(seconds, int(peak[1]) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("unit", UNITS.values(), ids=list(UNITS))
def test_b11_ten_megabytes_take_a_second_and_150_megabytes(unit: str) -> None:
    code = BUDGET.format(unit=unit)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 4 * slowness()  # of the processor; about 1 s on a free core
    assert megabytes < 150


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read beginnings of a few characters, in segments of at most seven."""
    config = partial(ftfy.TextFixerConfig, max_decode_length=7)
    monkeypatch.setattr(ftfy, "TextFixerConfig", config)
    monkeypatch.setattr(beginnings, "FIRST", 2)


def check_beginnings(text: str) -> None:
    try:
        ids = tokenizer.encode(text)
    except TextError:
        return
    for count in {1, 2, len(ids), len(ids) + 1, 10**4}:
        assert tokenizer.encode_beginning(text, count) == ids[:count]


@given(texts())
@settings(FIXED, max_examples=300)
@pytest.mark.usefixtures("short")
def test_b12_the_first_ids_of_a_beginning_are_those_of_the_text(text: str) -> None:
    check_beginnings(text)


@given(st.lists(st.sampled_from(["Σ", "ΟΣ", "'", "'r", "e", "'l", "l", "ſ", ".", "\u0301", " "])))
@settings(FIXED, max_examples=200)
@pytest.mark.usefixtures("short")
def test_b12_words_and_sigmas_that_go_on_are_not_cut(pieces: list[str]) -> None:
    check_beginnings("é" + "".join(pieces))


@given(st.lists(st.sampled_from([*"&#;x19 <", "amp", "amp;", "not", "it;", "eacute", "#65"])))
@settings(FIXED, max_examples=200)
@pytest.mark.usefixtures("short")
def test_b14_entities_that_go_on_are_not_cut(pieces: list[str]) -> None:
    check_beginnings("".join(pieces))


BLANKS = ["\n", "\r\n", "&nbsp;", "&#32;", "&#1;", "&#xA0;", "&amp;nbsp;", "\xa0", "\0", " ", "\t"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [*BLANKS, *BLANKS, "<", "Ã", "Ã©", "é", "&", "a", "\u0301", "\x1b[", "Σ"]
            ),
            st.integers(1, 250),
        ),
        max_size=8,
    )
)
@settings(FIXED, max_examples=300)
def test_b11_long_blank_runs_clean_to_the_same(runs: list[tuple[str, int]]) -> None:
    text = "".join(unit * (count if unit in BLANKS else 1) for unit, count in runs)
    blanked = beginnings.blank(text)
    assert len(blanked) == len(text)
    assert repair(blanked).split() == repair(text).split()


def test_b11_a_line_that_is_blank_at_its_beginning_only_is_no_blank_line() -> None:
    """Python 3.11.0 to 3.11.4 matched too much with a possessive group here."""
    text = "\n\n&nbsp;Ã&nbsp;"
    assert beginnings.blank(text) == " \n&nbsp;Ã&nbsp;"
    assert repair(beginnings.blank(text)).split() == repair(text).split() == ["Ã"]


def test_b11_marks_of_medium_runs_are_ordered_as_ftfy_does() -> None:
    for length in (31, 32, 33, 500):
        text = "e" + "\u0301\u0327" * length
        assert repair(text) == ftfy.fix_text(text)


def test_b11_the_row_of_a_long_text_is_that_of_all_its_ids() -> None:
    source = random.Random(0)
    for unit in ("aeh", "aeh ", "é漢 &;", "'re ll", "😀\u0301\u0316", "0123 !?"):
        text = "".join(source.choices(unit, k=20_000))
        batch = tokenizer.batch([text], overflow="truncate")
        assert batch.ids[0, 1:-1].tolist() == tokenizer.encode(text)[:75]
        ((row, dropped),) = batch.truncated
        assert row == 0
        assert dropped
        assert dropped in text


def test_b11_what_is_dropped_far_behind_is_written_from_its_tokens() -> None:
    text = " " * 10_000 + "Cat " * 75 + "DOG 19"
    assert tokenizer.batch([text], overflow="truncate").truncated == ((0, "dog 1 9"),)


def test_a_merge_joins_only_what_earlier_merges_made() -> None:
    """`_Merging` relies on it where a word is open."""
    made: set[str] = set()
    for line in written_merges():
        left, right = line.split(" ")
        assert all(x in made or x.removesuffix(WORD_END) in BYTE_OF_NAME for x in (left, right))
        assert left + right not in made
        made.add(left + right)


@given(st.data())
@settings(FIXED, max_examples=200)
def test_b11_ids_of_an_open_word_are_those_of_every_word_with_this_beginning(
    data: st.DataObject,
) -> None:
    alphabet = data.draw(st.sampled_from(["la", "aeh", "abeinrst", "-.!", "漢字é", "a"]))
    some = st.text(alphabet, min_size=1, max_size=200)
    word, more = data.draw(some).encode(), data.draw(some).encode()
    count = len(word)
    certain = PAIRS.encode_beginning(word, count, whole=False)
    for longer in (word, word + more, word * 3):
        assert PAIRS.encode_word(longer)[: len(certain)] == certain
    assert PAIRS.encode_beginning(word * 5, 3) == PAIRS.encode_word(word * 5)[:3]


def test_b12_marks_in_disorder_are_repaired_as_ftfy_does() -> None:
    source = random.Random(0)
    for length in (999, 1000, 3000):
        marks = source.choices("\u0301\u0316\u0345\u05b0\u3099e", [9, 9, 9, 9, 9, 0], k=length)
        text = f"caf\u00c3\u00a9 a{''.join(marks)}b \u201cx\u201d"
        assert repair(text) == ftfy.fix_text(text)


def test_b11_work_on_one_word_grows_with_its_length() -> None:
    counts = []
    for size in (2_000, 4_000, 8_000):
        calls = 0

        class Counted(type(PAIRS)):  # type: ignore[misc]
            def pair(self, left: int, right: int) -> int | None:
                nonlocal calls
                calls += 1
                return super().pair(left, right)

        Counted(FULL_MERGES).encode_word(b"the" * size)
        counts.append(calls)
    assert all(after < 2.2 * before for before, after in pairwise(counts))
