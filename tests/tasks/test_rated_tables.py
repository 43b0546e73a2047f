"""Tables of ratings and choices: what is read, and what is refused with its line and reason."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ecliptic
from ecliptic.engine import Clip
from ecliptic.errors import ShapeError, StorageError
from ecliptic.tasks import encode_ratings, keep_best, rank_images, read_ratings
from tests import tiny
from tests.engine.models import save


def write(folder: Path, text: str, name: str = "ratings.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def reasons(table: Any) -> list[tuple[str, str]]:
    return [(Path(r.source).name, r.reason) for r in table.rejects]


def test_ratings_are_read_with_their_groups(tmp_path: Path) -> None:
    path = write(tmp_path, "image,rating,group,by\na.png,5,x,me\nsub/b.png,-1.5e0,y,you\n")
    table = read_ratings(path)
    assert table.kind == "ratings"
    assert [item.value for (item,) in table.rows] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "sub/b.png"),
    ]
    assert (table.ratings, table.groups, table.unused) == ([5, -1.5], ["x", "y"], ("by",))
    assert not table.rejects


@pytest.mark.parametrize("name", ["c.tsv", "c.jsonl"])
def test_choices_are_read(tmp_path: Path, name: str) -> None:
    lines = {
        "c.tsv": "worse\tbetter\nb.png\ta.png\n",
        "c.jsonl": '{"better": "a.png", "worse": "b.png"}\n',
    }
    table = read_ratings(write(tmp_path, lines[name], name))
    assert table.kind == "choices"
    assert [item.value for item in table.rows[0]] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.png"),
    ]
    assert table.groups is None


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    rows = pa.table({"image": ["a.png", None], "rating": [3, 4], "more": [1, 2]})
    pa.parquet.write_table(rows, tmp_path / "r.parquet")
    table = read_ratings(str(tmp_path / "r.parquet"))
    assert (table.ratings, table.unused) == ([3], ("more",))
    assert reasons(table)[0][0] == "r.parquet, row 2"


def test_bad_rows_are_listed_with_line_and_reason(tmp_path: Path) -> None:
    text = (
        "image,rating,group\na.png,,x\n,3,x\nc.png,nan,x\nd.png,good,x\ne.png,1e999,x\nf.png,2,\n"
    )
    table = read_ratings(write(tmp_path, text))
    assert not table.rows
    assert [line for line, _ in reasons(table)] == [f"ratings.csv, line {n}" for n in range(2, 8)]
    for (_, reason), part in zip(
        reasons(table),
        (
            "nothing in column 'rating'",
            "nothing usable in column 'image'",
            "'nan' in column 'rating'; it must be a finite number",
            "'good' in column 'rating'",
            "'1e999' in column 'rating'",
            "nothing in column 'group'",
        ),
        strict=True,
    ):
        assert part in reason
    same = read_ratings(write(tmp_path, "better,worse\na.png,a.png\nb.png,\n", "c.csv"))
    assert "the same image" in reasons(same)[0][1]
    assert "column 'worse'" in reasons(same)[1][1]
    lines = read_ratings(write(tmp_path, '{"image": "a", "rating": true}\n[]\n', "c.jsonl"))
    wanted = "'True' in column 'rating'; it must be a finite number."
    assert reasons(lines)[0] == ("c.jsonl, line 1", wanted)
    assert reasons(lines)[1][0] == "c.jsonl, line 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,raiting\n", "needs the columns image and rating, or better and worse; its columns"),
        ("image,raiting\n", r"its columns: image, raiting; did you mean 'rating'\?"),
        (
            "file,score\n",
            "rename the column of images to image and the column of ratings to rating",
        ),
        ("better,second\n", "second; rename the column of the other images to worse."),
        ("image,rating,better,worse\n", "make two tables"),
        ("", "its columns: none"),
    ],
)
def test_tables_of_other_columns_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        read_ratings(write(tmp_path, text))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no table; give a"):
        read_ratings("ratings.xlsx")
    with pytest.raises(StorageError, match="there is no file"):
        read_ratings(str(tmp_path / "none.csv"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return ecliptic.load(save(tiny.checkpoint("vit"), tmp_path_factory.mktemp("model") / "vit"))


def test_images_are_encoded_once_and_bad_ones_lose_their_rows(clip: Clip, tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        Image.new("RGB", (40, 40), (60 * number, 90, 30)).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows = ["a,b", "b,bad", "bad,none", "c,a"]
    text = "better,worse\n" + "".join(row.replace(",", ".png,") + ".png\n" for row in rows)
    table = read_ratings(write(tmp_path, text))
    counts: list[int] = []
    rated = encode_ratings(table, clip, counts.append)
    assert sum(counts) == 5  # images, of which two cannot be used
    assert [line for line, _ in reasons(table)] == ["ratings.csv, line 3", "ratings.csv, line 4"]
    a, b, c = clip.encode_image([str(tmp_path / f"{name}.png") for name in "abc"])
    torch.testing.assert_close(rated.vectors, torch.stack([a, c]))
    torch.testing.assert_close(rated.others, torch.stack([b, a]))
    assert rated.kind == "choices"


def test_images_are_ranked_and_the_best_are_kept() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 3.0])
    ranked = rank_images(list("abcd"), scores, ["a.png", None, None, "d.png"])
    assert [(one.name, one.rank) for one in ranked] == [("b", 1), ("d", 2), ("c", 3), ("a", 4)]
    assert ranked[1].source == "d.png"
    assert ranked[0].to_json() == {"image": "b", "rank": 1, "score": 3.0}
    assert [one.name for one in keep_best(ranked, 2)] == ["b", "d", "c"]
    assert [one.name for one in keep_best(ranked, 2, 1)] == ["b"]
    assert keep_best(ranked, 9) == []
    with pytest.raises(ShapeError, match=r"4 images need as many scores, got \(3,\)"):
        rank_images(list("abcd"), scores[:3])
