"""`embed`, `classify` and `similarity` read the same sources, and count them for their bars."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from ecliptic.engine import Columns, Encoded, count_items, count_lines, load, load_vectors
from ecliptic.engine.images import ImageEncoder
from ecliptic.engine.progress import describe_progress
from tests import tiny


@pytest.fixture
def paths(images: Path) -> Path:
    """A table of two images and one that is missing, with ids."""
    table = images / "table.csv"
    table.write_text("key,file\n1,a.png\n2,gone.png\n3,sub/b.png\n")
    return table


def names_of(result: Any, command: str) -> list[str]:
    found = json.loads(result.stdout)
    if command == "similarity":
        return list(found["columns"])
    return [one["image"] for one in found if "labels" in one]


WORDS = {"classify": ["-l", "cat,dog"], "similarity": ["-t", "cat"]}


@pytest.mark.parametrize("command", WORDS)
def test_files_folders_globs_tables_and_stdin(
    command: str, run: Any, model: str, images: Path, paths: Path
) -> None:
    more = [*WORDS[command], "-m", model, "--json"]
    a, b = str(images / "a.png"), str(images / "sub/b.png")
    table = ["--column", "file"]
    for given, expected, code in (
        ([a, images / "sub"], [a, b], 0),
        ([images / "*.png"], [a], 3),
        ([images / "**/?.png"], [a, b], 0),
        ([paths, *table], ["a.png", "sub/b.png"], 3),
        ([paths, *table, "--id", "key"], ["1", "3"], 3),
        ([b, paths, a, *table], [b, "a.png", "sub/b.png", a], 3),
    ):
        result = run(command, *given, *more)
        assert result.exit_code == code, result.stderr
        assert names_of(result, command) == expected
    piped = run(command, "-", *more, input=f"{a}\n\n{b}\n")
    assert names_of(piped, command) == [a, b]


@pytest.mark.parametrize("command", WORDS)
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_stored_vectors_give_what_their_images_give(
    command: str, suffix: str, run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    a, b = images / "a.png", images / "sub/b.png"
    out = tmp_path / f"v{suffix}"
    assert run("embed", a, b, "-m", model, "-o", out).exit_code == 0
    more = [*WORDS[command], "-m", model, "--json"]
    assert run(command, out, *more).stdout == run(command, a, b, *more).stdout
    mixed = names_of(run(command, a, out, *more), command)
    assert mixed == [str(a), str(a), str(b)]
    write(tiny.checkpoint("vit", seed=1), tmp_path / "other")
    refused = run(command, out, *WORDS[command], "-m", tmp_path / "other")
    assert refused.exit_code == 1
    assert "two spaces cannot be compared" in refused.stderr


def test_a_parquet_file_is_a_table_with_column(run: Any, model: str, images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = images / "t.parquet"
    parquet.write_table(pyarrow.table({"file": ["a.png", "sub/b.png"]}), table)
    more = ["-l", "cat,dog", "-m", model, "--json"]
    found = names_of(run("classify", table, "--column", "file", *more), "classify")
    assert found == ["a.png", "sub/b.png"]
    refused = run("classify", table, *more)
    assert refused.exit_code == 1
    assert "does not hold vectors" in refused.stderr


def test_texts_of_a_table_and_stdin_are_columns(run: Any, model: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("c\na cat\na dog\n")
    more = ["-t", "a fox", "-m", model, "--json", "--kind", "text"]
    found = run("similarity", tmp_path / "t.csv", "--column", "c", *more)
    assert json.loads(found.stdout)["columns"] == ["a cat", "a dog"]
    piped = run("similarity", "-", *more, input="a cat\na dog\n")
    assert piped.stdout == found.stdout


def test_many_files_named_one_by_one_share_batches(
    run: Any, model: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    stream = ImageEncoder.stream

    def noted(*given: Any, **options: Any) -> Any:
        for part in stream(*given, **options):
            assert isinstance(part, Encoded)
            sizes.append(len(part.kept))
            yield part

    monkeypatch.setattr(ImageEncoder, "stream", noted)
    files = [images / "a.png"] * 20
    assert run("embed", *files, "-m", model, "-o", tmp_path / "v.npy").exit_code == 0
    assert sizes == [20]
    assert len(load_vectors(tmp_path / "v.npy", load(model).card).vectors) == 20


def test_labels_that_read_the_same_count_once(run: Any, model: str, images: Path) -> None:
    words = ["classify", images / "a.png", "-m", model, "--json", "-l"]
    result = run(*words, "cat, dog,cat,  Cat ,a  dog")
    assert result.exit_code == 0
    assert result.stdout == run(*words, "cat,dog,a dog").stdout.replace("a dog", "a  dog")
    assert result.stderr.count("reads the same as 'cat', so it counts once") == 2
    one = run(*words, "cat,CAT")
    assert "'cat' is the only label" in one.stderr


def test_items_are_counted_before_the_work(images: Path, paths: Path, tmp_path: Path) -> None:
    table = Columns("file")
    (images / "notes.txt").write_text("x", encoding="utf-8")  # the work warns, not the count
    assert count_items(str(images), table) == 3
    assert count_items(str(images / "a.png"), table) == 1
    assert count_items(str(images / "*.png"), table) == 2
    assert count_items(str(paths), table) == 3
    (tmp_path / "t.jsonl").write_text('{"file": "a"}\n\n{"file": "b"}\n')
    assert count_items(str(tmp_path / "t.jsonl"), table) == 2
    assert count_items("-", table) is None
    assert count_items(str(tmp_path / "gone.csv"), table) is None
    assert count_items(str(paths), Columns("no such column")) is None
    (tmp_path / "t.txt").write_text("a\n\nb\n")
    assert count_lines(tmp_path / "t.txt") == 2
    assert count_lines("-") is None


def test_rows_of_parquet_are_counted_without_reading_them(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"c": ["x"] * 70_000}), tmp_path / "t.parquet")
    assert count_items(str(tmp_path / "t.parquet"), Columns("c")) == 70_000


def test_a_large_table_is_not_read_to_count_it(
    paths: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.engine.sources.counting.MOST_TO_READ", 10)
    assert count_items(str(paths), Columns("file")) is None
    assert count_lines(paths) is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((448, 1000, 52.4, 11), "448/1,000  52/s  0:11 left"),
        ((448, None, 52.4, None), "448  52/s"),
        ((0, 1000, None, None), "0/1,000"),
        ((3, 10_000_000, 0.25, 40_000), "3/10,000,000  0.2/s  11:06:40 left"),
    ],
)
def test_a_bar_shows_total_rate_and_time_left(given: tuple[Any, ...], shown: str) -> None:
    assert describe_progress(*given) == shown


LONG = {
    "embed": ["embed", "IMAGES", "-m", "MODEL"],
    "classify": ["classify", "IMAGES", "-l", "a,b", "-m", "MODEL"],
    "similarity": ["similarity", "IMAGES", "-t", "a", "-m", "MODEL"],
    "captions": ["captions", "write", "TABLE", "--for", "sdxl", "ENCODERS", "-o", "cache"],
}


@pytest.mark.parametrize("command", LONG)
def test_every_long_command_shows_a_bar_with_its_total(
    command: str, run: Any, model: str, images: Path, table: Path, encoders: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    totals: list[int | None] = []

    def bar(label: str, total: int | None, *, show: bool) -> Any:
        from contextlib import nullcontext

        totals.append(total)
        assert show
        return nullcontext(lambda _: None)

    for module in ("embed", "gathering", "captions"):
        monkeypatch.setattr(f"ecliptic.cli.{module}.on_terminal", lambda: True)
    monkeypatch.setattr("ecliptic.engine.progress_bar", bar)
    monkeypatch.setattr("ecliptic.cli.gathering.progress_bar", bar)
    places = {"IMAGES": str(images), "MODEL": model, "TABLE": str(table)}
    words = [x for word in LONG[command] for x in (encoders if word == "ENCODERS" else [word])]
    result = run(*[places.get(word, word) for word in words])
    assert result.exit_code in (0, 3), result.stderr
    assert totals[0] == 3
