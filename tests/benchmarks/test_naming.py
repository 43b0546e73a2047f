"""The measures of `benchmarks.naming` on planted vectors, whose answers are known."""

import csv
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import naming
from benchmarks.emoji import DESIGNS, Emoji, Photo, put_on_white, read_emoji, read_photos, show_at

ROWS = [  # key, name, keywords, group, subgroup, split; each has a plain drawing of its own red
    ("a0", "cat", "pet|soft", "animals-nature", "animal-mammal", "train"),
    ("a1", "dog", "pet|dog", "animals-nature", "animal-mammal", "train"),
    ("b0", "eagle", "wing", "animals-nature", "animal-bird", "val"),
    ("c0", "lemon", "sour", "food-drink", "food-fruit", "val"),
]
COLUMNS = ("key", "name", "keywords", "group", "subgroup", "concept_split")
E = 8


class Planted:
    """Encodes a plain image by its red, a step of 20 each, and a text by a table of vectors."""

    card = SimpleNamespace(image_spec=SimpleNamespace(size=64))

    def __init__(self, texts: dict[str, int]) -> None:
        self.texts = texts

    def encode_image(self, images: Any) -> Tensor:
        opened = [Image.open(i) if isinstance(i, Path) else i for i in images]
        reds = torch.tensor([image.convert("RGB").getpixel((1, 1))[0] for image in opened])
        return torch.eye(E)[reds // 20]

    def encode_text(self, texts: Any) -> Tensor:
        return torch.stack([torch.eye(E)[self.texts[text]] for text in texts])


def _add(tar: tarfile.TarFile, name: str, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    about = tarfile.TarInfo(name)
    about.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(about, buffer)


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Emoji:
    root = tmp_path_factory.mktemp("data")
    (root / "emoji").mkdir()
    with (root / "emoji" / "emoji.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    for design in DESIGNS:
        with tarfile.open(root / "emoji" / f"{design}.tar", "w") as tar:
            for n, row in enumerate(ROWS):
                _add(tar, f"{row[0]}.png", Image.new("RGBA", (96, 96), (20 * n, 0, 0, 255)))
    return read_emoji(root)


RIGHT = {"cat": 0, "dog": 1, "eagle": 2, "lemon": 3}


def test_a_model_that_is_always_right_has_shares_of_one(emoji: Emoji) -> None:
    clip = Planted(RIGHT)
    found = naming.measure_design(clip, emoji) | naming.measure_concepts(clip, emoji)
    found |= naming.measure_small(clip, emoji) | naming.measure_groups(clip, emoji)
    assert {share.value for share in found.values()} == {1.0}
    assert {share.low for share in found.values()} == {1.0}
    assert found["design.at_1"].count == 4
    assert found["concepts.at_5"].count == 2 * len(DESIGNS)
    assert found["group.animals-nature.at_1"].count == 3
    assert {"design_at_12px.at_1", "design_at_16px.at_1", "design_at_8px.at_5"} <= found.keys()


def test_ties_and_wrong_names_count_against_the_model(emoji: Emoji) -> None:
    found = naming.measure_design(Planted(RIGHT | {"dog": 0}), emoji)
    assert found["design.at_1"].value == 0.5  # the cat's name is equal to the dog's
    assert found["design.at_5"].value == 1.0
    by_group = naming.measure_groups(Planted(RIGHT | {"lemon": 7}), emoji)
    assert by_group["group.food-drink.at_1"].value == 0.0
    assert by_group["group.animals-nature.at_1"].value == 1.0


def test_unseen_concepts_are_named_among_themselves_and_among_all(emoji: Emoji) -> None:
    found = naming.measure_concepts(Planted({"cat": 2, "dog": 1, "eagle": 2, "lemon": 3}), emoji)
    assert found["concepts.at_1"].value == 1.0
    assert found["concepts_among_all.at_1"].value == 0.5  # the cat's name is equal to the eagle's


def test_phrases_are_right_for_their_subgroups(emoji: Emoji) -> None:
    texts = dict.fromkeys(naming.PHRASES, 7) | {"an animal": 0, "a bird": 2, "a fruit": 1}
    found = naming.measure_phrases(Planted(texts), emoji)
    assert found["phrase.an animal"].value == 0.5  # the dog is called a fruit
    assert found["phrase.a bird"].value == 1.0
    assert found["phrase.a fruit"].value == 0.0
    assert found["phrases"].value == 0.5
    assert found["phrases_mean"].value == 0.5
    assert (found["phrases"].count, found["phrase.an animal"].count) == (4, 2)
    assert "phrase.a tool" not in found


def test_keywords_are_no_words_of_the_names_and_not_too_common(
    emoji: Emoji, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = emoji.drawings()
    chosen = {"pet": [0, 1], "soft": [0], "sour": [3], "wing": [2]}  # not "dog"
    assert naming.choose_keywords(emoji, drawings) == chosen
    monkeypatch.setattr(naming, "MOST", 1)
    assert "pet" not in naming.choose_keywords(emoji, drawings)


def test_a_keyword_is_found_when_one_of_its_drawings_is_among_the_best(
    emoji: Emoji, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "BEST", 1)
    clip = Planted({"pet": 1, "soft": 3, "sour": 3, "wing": 0})
    found = naming.measure_keywords(clip, emoji)
    assert found["keywords"].value == 0.5
    assert found["keywords_seen"].value == 0.5  # pet, not soft
    assert found["keywords_unseen"].value == 0.5  # sour, not wing
    assert [found[key].count for key in found] == [4, 2, 2]


def test_photographs_find_their_own_captions(tmp_path: Path) -> None:
    for n in range(2):
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(tmp_path / f"{n}.png")
    (tmp_path / "captions.csv").write_text("file,caption\n0.png,sea\n1.png,hill\n")
    photos = read_photos(tmp_path)
    assert photos == [Photo(tmp_path / "0.png", "sea"), Photo(tmp_path / "1.png", "hill")]
    assert naming.measure_photos(Planted({"sea": 0, "hill": 5}), photos)["photos.at_1"].value == 0.5


def test_the_interval_draws_whole_concepts(emoji: Emoji) -> None:
    right = torch.tensor([True] * 50 + [False] * 50)
    alone = naming.share_of(right, range(100))
    assert (alone.value, alone.count) == (0.5, 100)
    assert alone.low == pytest.approx(0.40, abs=0.015)  # 1.96 sqrt(0.25 / 100) = 0.098
    assert alone.high == pytest.approx(0.60, abs=0.015)
    together = naming.share_of(right, ["one"] * 50 + ["other"] * 50)
    assert (together.low, together.high) == (0.0, 1.0)
    assert naming.share_of(right, range(100)) == alone


def test_the_mean_of_parts_gives_each_the_same_weight() -> None:
    parts = [torch.tensor([True]), torch.tensor([False] * 9), torch.tensor([True, False] * 50)]
    found = naming.mean_share(parts)
    assert (found.value, found.count) == (0.5, 110)
    assert found.low == pytest.approx(0.5 - 0.098 / 3, abs=0.005)  # only the third one varies


def test_few_pixels_are_means_of_areas_shown_by_nearest() -> None:
    half = Image.new("RGB", (96, 96), "white")
    half.paste("black", (0, 0, 4, 96))  # half of the first of 12 columns
    shown = show_at(half, 12, 64)
    assert shown.size == (64, 64)
    assert shown.getpixel((0, 0)) in ((127, 127, 127), (128, 128, 128))
    assert len(shown.getcolors() or ()) == 2
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert put_on_white(clear).getpixel((0, 0)) == (255, 255, 255)


def test_phrases_mean_subgroups_that_exist_and_each_only_one_phrase(shared: Path) -> None:
    known = {concept.subgroup for concept in read_emoji(shared / "data").concepts}
    meant = [name for names in naming.PHRASES.values() for name in names]
    assert set(meant) <= known
    assert len(set(meant)) == len(meant)
