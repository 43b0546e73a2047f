"""Lines of texts are read one by one, and none of them without a limit."""

import csv
import io
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecliptic.engine import Columns, embedding, line_items, load, read_items, read_lines, text_item
from ecliptic.engine.sources import lines
from ecliptic.errors import EclipticError, InputError, StorageError
from tests.waiting import ENDLESS, alarm_after, special_files


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(20)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits that small files reach."""
    monkeypatch.setattr(lines, "LONGEST_LINE", 10)
    monkeypatch.setattr(lines, "ENDLESS", 100)
    monkeypatch.setattr(lines, "MOST_TOGETHER", 30)
    monkeypatch.setattr("ecliptic.engine.sources.tables.LONGEST_LINE", 10)
    before = csv.field_size_limit()
    yield
    csv.field_size_limit(before)  # of the whole process


@pytest.mark.parametrize("suffix", ["", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_pipes_and_devices_are_refused_at_once(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    for path in special_files(tmp_path, suffix):
        with pytest.raises(EclipticError, match="but must be a regular file"):
            list(read_items(str(path), Columns("a")) if suffix else read_lines(path))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_a_missing_file_is_named_in_words(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"captions{suffix}")
    with pytest.raises(StorageError, match=rf"^there is no file .*{suffix}; check the path\.$"):
        list(read_lines(path) if suffix == ".txt" else read_items(path, Columns("a")))


def test_the_way_to_pass_a_pipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="into standard input, and name that -"):
        list(read_lines(special_files(tmp_path)[0]))


@pytest.mark.usefixtures("short")
def test_b11_a_line_that_is_too_long_is_an_error_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a\n" + "b" * 25 + "\r\nc\n" + "d" * 10)
    one, long, three, four = line_items(str(tmp_path / "t"), "text")
    assert (one.value, three.value, four.value) == ("a", "c", "d" * 10)
    assert "line 2 has more than 10 characters" in str(long.error)
    assert long.name.endswith("t, line 2")
    with pytest.raises(InputError, match="line 2 has more than 10"):
        list(read_lines(tmp_path / "t"))


@pytest.mark.usefixtures("short")
def test_b11_a_row_that_is_too_long_is_rejected_or_ends_its_table(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}' + " " * 20 + '\n{"a":"x"}\n')
    long, good = read_items(str(tmp_path / "t.jsonl"), Columns("a", kind="text"))
    assert "more than 10 characters" in str(long.error)
    assert good.value == "x"
    (tmp_path / "t.csv").write_text("a\n" + "x" * 20 + "\n")
    with pytest.raises(StorageError, match="line 2: more than 10 characters"):
        list(read_items(str(tmp_path / "t.csv"), Columns("a", kind="text")))


@pytest.mark.usefixtures("short")
def test_texts_that_are_held_together_are_limited(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("12345678\n" * 3)
    assert len(list(read_lines(tmp_path / "t"))) == 3
    (tmp_path / "t").write_text("12345678\n" * 4)
    with pytest.raises(StorageError, match="more than 30 characters, too many to hold"):
        list(read_lines(tmp_path / "t"))


def test_b11_a_line_without_end_takes_little_memory_and_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ENDLESS.open("rb") as zero:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(zero))
        monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
        monkeypatch.setattr(lines, "ENDLESS", 1 << 25)
        tracemalloc.start()
        try:
            with pytest.raises(StorageError, match="has no end within 33554432 characters"):
                list(line_items("-", "text"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            sys.stdin.detach()
    assert peak < 16 << 20


def test_long_texts_are_embedded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MOST_TEXT", 10)
    counts: list[int] = []
    texts = ["a" * 6, "b" * 6, "c" * 6, "d"]
    with embedding.embed_items(
        load("mini"), [("text", map(text_item, texts))], None, counts.append
    ) as done:
        assert done.names == texts
    assert counts == [2, 2]


def test_a6_a_full_disk_for_the_vectors_is_named_and_nothing_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "ecliptic.engine.embedding.tempfile.TemporaryFile",
        lambda: Path("/dev/full").open("wb", buffering=0),  # noqa: SIM115
    )
    with pytest.raises(StorageError, match=r"No space left on device; free some space, or set TMP"):
        embedding.embed_items(load("mini"), [("text", [text_item("a")])])
