"""Names that are held out of every source of drawings."""

from dataclasses import replace
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.train.data.drawings import DrawingExamples, open_drawings, read_csv
from ecliptic.train.data.held_out import HeldOutNames
from ecliptic.train.settings import DrawingsConfig

from .pictures import png, write_tar

DATA = Path(__file__).parents[4] / "shared" / "data"
ROWS = [
    {"name": name, "concept_split": split}
    for name, split in (("duck", "val"), ("Palm tree", "val"), ("mouth", "val"), ("goose", "train"))
]
ICONS = DrawingsConfig(Path("icons"), held_out=Path("emoji/emoji.csv"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "emoji").mkdir()
    lines = ["name,concept_split", *(f"{row['name']},{row['concept_split']}" for row in ROWS)]
    (tmp_path / "emoji" / "emoji.csv").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "icons"
    folder.mkdir()
    names = ["duck", "rubber Ducks", "palm  tree", "duckling", "goose"]
    rows = [f"line,{n}.png,{name},duck|bird|ducks" for n, name in enumerate(names)]
    (folder / "icons.csv").write_text("\n".join(["set,file,name,keywords", *rows]) + "\n")
    write_tar(folder / "line.tar", [(f"{n}.png", png(n)) for n in range(len(names))])
    return tmp_path


def names_of(found: DrawingExamples) -> list[str]:
    return [found.captions(index)[0] for index in range(len(found))]


def test_drawings_and_keywords_of_held_out_names_are_left_out(root: Path) -> None:
    found = open_drawings(ICONS, root)
    assert names_of(found) == ["duckling", "goose"]
    assert {drawing.keywords for group in found.groups for drawing in group} == {("bird",)}
    assert len(open_drawings(replace(ICONS, held_out=None), root)) == 5


def test_in_their_own_table_only_the_names_themselves_are_held_out() -> None:
    held = HeldOutNames(Path("emoji.csv"), ROWS)
    assert not held.has("face without mouth", Path("emoji.csv"))
    assert held.has("face without mouth", Path("icons.csv"))
    assert held.has("mouth", Path("emoji.csv"))
    assert [held.is_one(name) for name in ("DUCK", "ducks", "duckling", "goose")] == [
        *(True, True, False, False)
    ]


def test_the_fingerprint_covers_the_table_of_held_out_names(root: Path) -> None:
    before = open_drawings(ICONS, root).fingerprint()
    assert before == open_drawings(ICONS, root).fingerprint()
    assert before != open_drawings(replace(ICONS, held_out=None), root).fingerprint()
    table = root / "emoji" / "emoji.csv"
    table.write_text(table.read_text() + "cow,val\n")
    assert before != open_drawings(ICONS, root).fingerprint()


def test_a_table_that_holds_nothing_out_is_refused(root: Path) -> None:
    with pytest.raises(StorageError, match=r'has no concept_split "val", so it holds no name out'):
        HeldOutNames(Path("emoji.csv"), [ROWS[-1]])
    with pytest.raises(StorageError, match="has no column 'concept_split'"):
        open_drawings(replace(ICONS, held_out=Path("icons/icons.csv")), root)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the training data")
@pytest.mark.parametrize("source", ["emoji", "openclipart", "game_icons"])
def test_no_source_of_mini_shows_a_held_out_concept(source: str) -> None:
    table = Path("emoji") / "emoji.csv"
    rows = read_csv(DATA / table)
    held = {row["name"].lower() for row in rows if row["concept_split"] == "val"}
    config = DrawingsConfig(Path(source), held_out=table)
    designs = ("noto", "twemoji") if source == "emoji" else ()
    found = open_drawings(replace(config, designs=designs), DATA)
    shown = {drawing.name.lower() for group in found.groups for drawing in group}
    words = {w.lower() for group in found.groups for drawing in group for w in drawing.keywords}
    assert len(held) == 67
    assert not held & (shown | words)
