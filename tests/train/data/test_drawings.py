"""Drawings: concepts, splits, ink, captions; the layouts of the data of `mini`."""

import io
import pickle
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from ecliptic.errors import ImageError, StorageError
from ecliptic.train.data.captions import Captioner
from ecliptic.train.data.drawings import (
    Drawing,
    DrawingExamples,
    name_rows,
    open_drawings,
    read_csv,
    vary_caption,
)
from ecliptic.train.data.wordnet import WordNet
from ecliptic.train.settings import DRAWING_TEMPLATES, DrawingsConfig
from tests.train.drawings import DESIGNS, write_data
from tests.train.synsets import HEADER, write_synsets

from .pictures import png, write_tar

EMOJI = DrawingsConfig(Path("emoji"), designs=DESIGNS[:2])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def keys(found: DrawingExamples) -> set[str]:
    return {found.draw(i, Random(s)).key for i in range(len(found)) for s in range(20)}


def test_an_example_is_a_concept_in_any_design(root: Path) -> None:
    found = pickle.loads(pickle.dumps(open_drawings(EMOJI, root)))
    assert len(found) == 15
    assert len(found.names) == 16
    assert len({found.captions(i) for i in range(15)}) == 15
    assert {found.draw(4, Random(s)).key for s in range(20)} == {"flat/5.png", "thin/5.png"}
    assert found.draw(4, Random(1)).caption == found.draw(4, Random(1)).caption


def test_held_out_concepts_and_designs_are_never_drawn(root: Path) -> None:
    drawn = keys(open_drawings(EMOJI, root))
    assert len(drawn) == 30
    assert not any(key.endswith("/3.png") or key.startswith("unseen/") for key in drawn)
    val = open_drawings(replace(EMOJI, split="val", designs=DESIGNS, example="drawing"), root)
    assert keys(val) == {f"{design}/3.png" for design in DESIGNS}
    assert len(val) == 3
    assert len(val.names) == 16
    everything = open_drawings(replace(EMOJI, split="all", designs=("unseen",)), root)
    assert len(everything) == 16


def test_vague_titles_give_way_and_names_that_say_nothing_are_left_out(root: Path) -> None:
    clipart = open_drawings(DrawingsConfig(Path("openclipart")), root)
    assert [clipart.captions(i) for i in range(4)] == [
        ("stem 0",), ("stem 1",), ("stem 2",), ("A teal circle",)
    ]  # fmt: skip
    assert any("a b" in clipart.draw(0, Random(s)).caption for s in range(30))  # the category
    icons = open_drawings(
        DrawingsConfig(Path("game_icons"), ink="white", leave_out=("abstract",)), root
    )
    assert [icons.captions(i) for i in range(len(icons))] == [("sword",)]


@pytest.mark.parametrize(("ink", "inside"), [("white", 255), ("black", 0)])
def test_grey_drawings_are_ink_on_clear_paper(root: Path, ink: str, inside: int) -> None:
    config = DrawingsConfig(Path("game_icons"), ink=ink)  # type: ignore[arg-type]
    picture = open_drawings(config, root).picture(0)
    assert isinstance(picture, Image.Image)
    found = np.asarray(picture)
    assert found[..., :3].max() == 0
    assert (found[48, 48, 3], found[0, 0, 3]) == (inside, 255 - inside)  # a white square


def write_icons(root: Path) -> Path:
    """Two sets in the layout of the icons: grey ink on white, and colours."""
    folder = root / "icons"
    folder.mkdir()
    (folder / "icons.csv").write_text(
        "set,file,name,keywords\nline,cat.png,cat,pet|animal\ncolour,a.png,cat,\ncolour,b.png,dog,\n"
    )
    write_tar(folder / "line.tar", [("cat.png", png(0, mode="L"))])
    write_tar(folder / "colour.tar", [("a.png", png(1, mode="P")), ("b.png", png(2, mode="RGBA"))])
    return root


def test_sets_of_icons_share_their_concepts(tmp_path: Path) -> None:
    root = write_icons(tmp_path)
    found = open_drawings(DrawingsConfig(Path("icons"), ink="black"), root)
    assert len(found) == 2
    assert keys(found) == {"line/cat.png", "colour/a.png", "colour/b.png"}
    assert len(open_drawings(DrawingsConfig(Path("icons"), designs=("line",)), root)) == 1
    with pytest.raises(StorageError, match="no set 'colours'; did you mean 'colour'"):
        open_drawings(DrawingsConfig(Path("icons"), designs=("colours",)), root)


def test_captions_are_made_of_the_name_and_the_keywords() -> None:
    drawing = Drawing("flag: Qatar", ("QA", "flag"), (0, 0, 0), "k")
    captioner = Captioner(DRAWING_TEMPLATES)
    texts = {vary_caption(drawing, captioner, Random(s)) for s in range(300)}
    assert {"flag: Qatar", "flag of Qatar", "an emoji of flag of Qatar", "QA"} <= texts
    assert all("Qatar" in text or "QA" in text or text == "flag" for text in texts)
    alone = [
        vary_caption(Drawing("x", (), (0, 0, 0), "k"), captioner, Random(s)) for s in range(99)
    ]
    assert all("x" in text for text in alone)
    assert 50 < sum(text == "x" for text in alone) < 95


def test_captions_have_words_of_wordnet_for_the_names_that_it_knows(root: Path) -> None:
    config = replace(EMOJI, wordnet=write_synsets(root / "synsets.tsv").relative_to(root))
    found = pickle.loads(pickle.dumps(open_drawings(config, root)))
    assert len(found.senses) == 15  # circles and squares, by the last word of their names
    plain = open_drawings(EMOJI, root)
    texts = [found.draw(0, Random(seed)).caption for seed in range(900)]
    usual = {plain.draw(0, Random(seed)).caption for seed in range(9000)}
    words = {"thing", "a thing", "a kind of thing", "ring", "a round line"}
    with_name = {f"red circle, {text}" for text in words}
    others = {synset.lemmas[0] for synset in WordNet(root / "synsets.tsv").synsets}
    strange = {text for word in others for text in (f"{word} circle", f"red {word}")} - usual
    assert words | with_name == set(texts) - usual - strange
    assert sum(text in strange for text in texts) / 900 == pytest.approx(0.1, abs=0.03)
    share = sum(text in words | with_name for text in texts) / 900
    assert share == pytest.approx(0.25, abs=0.05)
    named = sum(text in with_name for text in texts) / 900 / share
    assert named == pytest.approx(0.4, abs=0.12)
    assert found.draw(0, Random(5)).caption == found.draw(0, Random(5)).caption


def test_names_without_a_synset_keep_their_own_words(root: Path, tmp_path: Path) -> None:
    row = "n7\tnoun.object\tcube\t\t\t\ta solid"
    (tmp_path / "synsets.tsv").write_text(f"{HEADER}\n{row}\n")
    found = open_drawings(replace(EMOJI, wordnet=tmp_path / "synsets.tsv"), root)
    assert found.senses == {}
    texts = {found.draw(0, Random(seed)).caption for seed in range(200)}
    assert all({"red", "circle", "round"} & set(text.replace(",", "").split()) for text in texts)


def test_the_fingerprint_covers_the_table_of_synsets(root: Path, tmp_path: Path) -> None:
    table = write_synsets(tmp_path / "synsets.tsv")
    config = replace(EMOJI, wordnet=table)
    prints = [open_drawings(one, root).fingerprint() for one in (EMOJI, config, config)]
    write_synsets(table, "n99\tnoun.food\tbread\t\t\t\ta baked food")
    prints.append(open_drawings(config, root).fingerprint())
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_names_alone_where_the_settings_say_so(root: Path) -> None:
    found = open_drawings(replace(EMOJI, captions="names"), root)
    assert {found.draw(0, Random(s)).caption for s in range(20)} == {"red circle"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,naem\na,b\n", "no column 'name'.*did you mean 'naem'"),
        ("name\nb\n", "no column 'file'"),
        ("title,file\nb,c\n", "no column 'stem'"),
        ("key,name\n", "has no rows"),
        ("key,name\nzz,b\n", "no drawing of .* is left"),
        ('name\n"' + "x" * 9_000_000 + '"\n', "is no csv file"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.csv").write_text(text)
    write_tar(tmp_path / "x" / "x.tar", [("a.png", png())])
    with pytest.raises(StorageError, match=message):
        open_drawings(DrawingsConfig(Path("x")), tmp_path)


def test_missing_files_and_paths_are_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(StorageError, match=r"emoji\.csv cannot be read.*data.root"):
        open_drawings(EMOJI, tmp_path)
    with pytest.raises(StorageError, match=r"none\.tar cannot be read"):
        open_drawings(replace(EMOJI, designs=("none",)), root)
    with pytest.raises(StorageError, match="a design is the name of a tar"):
        open_drawings(replace(EMOJI, designs=("../flat",)), root)


def test_hostile_pictures_are_errors_of_their_example_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.csv").write_text("file,name\na.png,a\nb.png,b\n")
    buffer = io.BytesIO()
    Image.new("1", (30_000, 2_000)).save(buffer, "PNG")
    write_tar(tmp_path / "x" / "x.tar", [("a.png", buffer.getvalue()), ("b.png", b"\xff\xd8\xff")])
    found = open_drawings(DrawingsConfig(Path("x"), ink="black"), tmp_path)
    with pytest.raises(ImageError, match=r"x/a\.png is 30000x2000"):
        found.picture(0)
    with pytest.raises(ImageError, match=r"x/b\.png"):
        found.picture(1)


def test_the_fingerprint_follows_the_table_and_the_tars(tmp_path: Path) -> None:
    root = write_data(tmp_path)
    found = open_drawings(EMOJI, root)
    prints = [found.fingerprint()]
    assert prints[0] == open_drawings(EMOJI, root).fingerprint()
    for name in ("emoji.csv", "flat.tar"):
        path = root / "emoji" / name
        path.write_bytes(path.read_bytes() + b"\n")
        prints.append(found.fingerprint())
    assert len(set(prints)) == 3


def test_rows_keep_their_order_and_spaces_are_cut(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("\ufefffile,name\na, x \nb,y\n".encode())
    rows = read_csv(tmp_path / "t.csv")
    assert name_rows(tmp_path / "t.csv", rows) == ["x", "y"]
