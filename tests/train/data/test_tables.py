"""Tables of pairs: columns, separators, stored images, and what is wrong with a row."""

import json
import pickle
import sys
from pathlib import Path
from random import Random

import pytest

from ecliptic.errors import ConfigError, InputError, MissingExtraError, StorageError
from ecliptic.train.data.tables import TableExamples, open_table
from ecliptic.train.settings import TableConfig

from .pictures import colour_of, png


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png(number))
    return tmp_path


def opened(root: Path, name: str, **settings: object) -> TableExamples:
    return open_table(TableConfig(Path(name), **settings), root)  # type: ignore[arg-type]


CSV = "image,caption,more\npictures/0.png,one|two ,three\npictures/1.png,,four\n"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_formats_give_the_same_pairs(root: Path, suffix: str) -> None:
    rows = [line.split(",") for line in CSV.splitlines()[1:]]
    path = root / f"t{suffix}"
    if suffix == ".jsonl":
        names = CSV.splitlines()[0].split(",")
        path.write_text("\n".join(json.dumps(dict(zip(names, r, strict=True))) for r in rows))
    elif suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        columns = zip(*rows, strict=True)
        table = pyarrow.table(dict(zip(("image", "caption", "more"), columns, strict=True)))
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        path.write_text(CSV.replace(",", "\t") if suffix == ".tsv" else CSV)
    found = opened(root, path.name, captions=("caption", "more"), separator="|")
    assert len(found) == 2
    assert [found.captions(i) for i in range(2)] == [("one", "two", "three"), ("four",)]
    copy = pickle.loads(pickle.dumps(found))
    example = copy.draw(1, Random(0))
    assert (example.key, example.caption) == (f"t{suffix}, row 2", "four")
    assert colour_of(example.image) == (37, 91, 128)


def test_negatives_come_with_their_row(root: Path) -> None:
    (root / "t.csv").write_text("image,caption,no\npictures/0.png,a,b|c\npictures/1.png,d,\n")
    found = opened(root, "t.csv", negatives=("no",), separator="|")
    assert [found.draw(i, Random(0)).negatives for i in range(2)] == [("b", "c"), ()]
    with pytest.raises(StorageError, match="no column 'none'"):
        opened(root, "t.csv", negatives=("none",))


def test_images_inside_parquet_are_read_by_row_group(root: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": png(i), "path": None} for i in range(5)]
    images += [{"bytes": None, "path": "pictures/3.png"}, {"bytes": None, "path": None}]
    captions = [[f"thing {i}", "x"] for i in range(7)]
    table = pyarrow.table({"image": images, "caption": captions})
    parquet.write_table(table, root / "t.parquet", row_group_size=3)
    found = pickle.loads(pickle.dumps(opened(root, "t.parquet")))
    for index in (4, 0, 2, 3):
        assert found.picture(index) == png(index)
        assert found.captions(index) == (f"thing {index}", "x")
    assert found.picture(5) == root / "pictures" / "3.png"
    with pytest.raises(InputError, match=r"t\.parquet, row 7: nothing usable in column 'image'"):
        found.draw(6, Random(0))


def test_parquet_without_pyarrow_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (root / "t.parquet").touch()
    with pytest.raises(MissingExtraError, match="pip install"):
        opened(root, "t.parquet")
    (root / "t.csv").write_text(CSV)
    assert len(opened(root, "t.csv")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,captoin\na.png,x\n", "no column 'caption'.*did you mean 'captoin'"),
        ("path,caption\na.png,x\n", "no column 'image'; its columns: path, caption"),
        ("image,caption,caption\na,b,c\n", "has the column 'caption' 2 times"),
        ("", "no column 'caption'.*the file is empty"),
        ("image,caption\n", "has no rows"),
        ("image,caption\n,x\n", "no row of .* can be used; the first: nothing usable in column"),
        ("image,caption\na.png,\n", "the first: no caption in 'caption'"),
    ],
)
def test_tables_that_cannot_be_used_are_named(root: Path, text: str, message: str) -> None:
    (root / "t.csv").write_text(text)
    with pytest.raises(StorageError, match=message):
        opened(root, "t.csv")


def test_bad_rows_are_examples_that_cannot_be_read(root: Path) -> None:
    lines = [
        b'{"image": "pictures/0.png", "caption": "good"}', b"no json", b"[1]",
        b'{"image": "pictures/1.png", "captoin": "x"}', b'{"image": 5, "caption": "x"}',
        b'{"image": "pictures/1.png", "caption": 7}',
        b'{"image": "pictures/1.png", "caption": "\xff\xfe"}',
    ]  # fmt: skip
    (root / "t.jsonl").write_bytes(b"\n".join(lines))
    found = opened(root, "t.jsonl")
    assert len(found) == 7
    assert found.captions(0) == ("good",)
    for index, message in enumerate(
        ("not JSON", "not a JSON object", "did you mean 'captoin'", "nothing usable in column",
         "not a text", "not valid UTF-8"), start=1,
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"t\.jsonl, row {index + 1}: .*{message}"):
            found.draw(index, Random(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captions": ("caption", "mroe")}, "no column 'mroe'.*did you mean 'more'"),
        ({"negatives": ("negg",)}, "no column 'negg'.*did you mean 'neg'"),
        ({"image": "imgae"}, "no column 'imgae'.*did you mean 'image'"),
    ],
)
def test_a_column_that_no_row_of_json_has_is_refused(
    root: Path, settings: dict[str, object], message: str
) -> None:
    rows = [{"caption": "a"}, {"more": ["b"]}, {"neg": "c", "caption": "d"}]
    lines = [json.dumps({"image": f"pictures/{i}.png", **row}) for i, row in enumerate(rows)]
    (root / "t.jsonl").write_text("\n".join(["no json", *lines]))
    found = opened(root, "t.jsonl", captions=("caption", "more"), negatives=("neg",))
    assert [found.captions(i) for i in (1, 2, 3)] == [("a",), ("b",), ("d",)]
    with pytest.raises(StorageError, match=message):
        opened(root, "t.jsonl", **settings)


def test_a_table_without_a_row_of_json_says_so(root: Path) -> None:
    (root / "t.jsonl").write_text("no json\n[1]\n")
    with pytest.raises(StorageError, match=r"no row of .* can be used; the first: not JSON"):
        opened(root, "t.jsonl")


def test_other_files_and_no_columns_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"suffix must be \.csv"):
        opened(root, "t.txt")
    with pytest.raises(ConfigError, match="must name at least one column"):
        opened(root, "t.csv", captions=())
    with pytest.raises(StorageError, match="no file"):
        opened(root, "t.csv")


def test_the_fingerprint_follows_the_table_and_its_images(root: Path) -> None:
    (root / "t.csv").write_text(CSV)
    found = opened(root, "t.csv")
    prints = [found.fingerprint()]
    assert prints[0] == opened(root, "t.csv").fingerprint()
    (root / "pictures" / "0.png").write_bytes(png(0) + b"x")
    prints.append(found.fingerprint())
    (root / "pictures" / "0.png").unlink()
    prints.append(found.fingerprint())
    (root / "t.csv").write_text(CSV + "\n")
    prints.append(found.fingerprint())
    assert len(set(prints)) == 4
