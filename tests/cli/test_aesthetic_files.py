"""`ecliptic aesthetic` and files: inputs are never replaced, and what is not used is named."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.engine import load
from ecliptic.tasks import AestheticHead, read_ratings
from tests.cli.conftest import Run

COUNT = 24


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """Pictures with ratings by chance, a table of them in a folder of its own."""
    noise = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    rows = ["image,rating"]
    for number in range(COUNT):
        pixels = noise.integers(0, 60, (40, 40, 3)) + 7 * number
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"pictures/p{number:02}.png")
        rows.append(f"pictures/p{number:02}.png,{noise.integers(0, 9)}")
    (tmp_path / "ratings.csv").write_text("\n".join(rows))
    return tmp_path / "ratings.csv"


@pytest.fixture
def flat_head(model: str, tmp_path: Path) -> Path:
    """A head whose scores hardly differ, and that was not better than chance."""
    card = load(model).card
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=card.embed) * 1e-3)
    head = AestheticHead(weight, 2.0, card.name, card.space, "flat", {"useful": False})
    head.save(tmp_path / "flat.safetensors")
    return tmp_path / "flat.safetensors"


def test_rated_images_are_not_replaced(run: Run, model: str, rated: Path) -> None:
    """A hard link has another name than the image of the table, and is still that image."""
    page = rated.parent / "mine.html"
    page.hardlink_to(rated.parent / "pictures/p03.png")
    before = page.read_bytes()
    others = [rated.parent / "pictures/p04.png", "--page", page, "--force"]
    found = run("aesthetic", *others, "--train", rated, "-m", model)
    assert found.exit_code == 1
    assert "is read by this command, so it cannot be written too" in flat(found.stderr)
    assert page.read_bytes() == before


def test_files_are_those_of_both_images(rated: Path) -> None:
    assert len(read_ratings(str(rated)).files()) == COUNT
    rows = [{"better": "a.png", "worse": "b.png"}, {"better": "a.png", "worse": ""}]
    table = rated.with_name("choices.jsonl")
    table.write_text("\n".join(map(json.dumps, rows)))
    assert read_ratings(str(table)).files() == [str(rated.with_name(n)) for n in ("a.png", "b.png")]


def test_a_group_that_the_first_object_lacks_is_read(rated: Path) -> None:
    rows = [{"image": "a.png", "rating": 1}, {"image": "b.png", "rating": 2, "group": "x"}]
    table = rated.with_name("groups.jsonl")
    table.write_text("\n".join(map(json.dumps, rows)))
    found = read_ratings(str(table))
    assert found.groups == ["x"]
    assert [str(reject.error) for reject in found.rejects] == [
        "nothing in column 'group'; name the group of every image."
    ]


def test_a_row_is_named_by_the_line_where_it_begins(rated: Path) -> None:
    """A line break in quotes does not make the numbers wrong."""
    table = rated.with_name("breaks.csv")
    table.write_text('image,rating,note\na.png,1,"two\nlines"\nb.png,x,\n')
    found = read_ratings(str(table))
    assert [reject.source.rpartition(", ")[2] for reject in found.rejects] == ["line 4"]


def test_copies_and_one_image_are_no_choice(run: Run, model: str, rated: Path) -> None:
    folder = rated.parent / "pictures"
    (folder / "copy.png").write_bytes((folder / "p00.png").read_bytes())
    rows = [f"p{n:02}.png,p{(n + 1) % COUNT:02}.png" for n in range(COUNT)]
    (folder / "c.csv").write_text("\n".join(["better,worse", *rows, "p00.png,copy.png"]))
    found = run("aesthetic", "--train", folder / "c.csv", "-m", model)
    assert found.exit_code == 3, found.stderr
    assert "line 26: better and worse are copies of one image" in flat(found.stderr)
    assert "24 of 25 rows used" in found.stderr


def test_the_rejects_are_written_where_no_image_can_be_used(
    run: Run, model: str, rated: Path, flat_head: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    out = tmp_path / "r.csv"
    found = run("aesthetic", tmp_path / "bad.png", "--head", flat_head, "-m", model, "-o", out)
    assert found.exit_code == 1
    assert "none of the items could be used" in found.stderr
    assert json.loads(Path(f"{out}.rejects.jsonl").read_text())["index"] == 0


def test_a_head_that_was_not_better_than_chance_says_so(
    run: Run, model: str, rated: Path, flat_head: Path, tmp_path: Path
) -> None:
    page = tmp_path / "best.html"
    folder = rated.parent / "pictures"
    found = run("aesthetic", folder, "--head", flat_head, "-m", model, "--page", page, "--best", 9)
    assert found.exit_code == 0, found.stderr
    assert "is not surely better than chance" in flat(found.stderr)
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert "the head 'flat' is not surely better than chance" in text
    assert ">2.00<" not in text
    scores = [line.split()[1] for line in found.stdout.splitlines()[1:]]
    assert len(set(scores)) >= 4, "scores are told apart"


def test_flags_of_the_model_that_are_not_used_are_named(
    run: Run, model: str, rated: Path, flat_head: Path, tmp_path: Path
) -> None:
    vectors = tmp_path / "v.npy"
    run("embed", rated.parent / "pictures/p01.png", "-m", model, "-o", vectors)
    flags = ["--device", "cpu", "--image-size", 64, "--cache", tmp_path / "cache"]
    found = run("aesthetic", vectors, "--head", flat_head, *flags)
    assert found.exit_code == 0, found.stderr
    assert "so --device, --image-size, --cache are not used" in flat(found.stderr)


def test_help_shows_save_among_the_outputs(run: Run) -> None:
    text = run("aesthetic", "--help").stdout
    assert "Labelled images" not in text
    assert text.index("\nOutput:") < text.index("\n  --save")
