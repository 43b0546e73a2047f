"""What `ecliptic moderate` reads: none of it is lost, and what is wrong is told early."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecliptic.engine import load, save_vectors
from tests.cli.conftest import Run

TEXTS = """
[[concepts]]
name = "weapons"
positive = ["a drawing of a sword"]
"""
EXAMPLES = """
[[concepts]]
name = "weapons"
examples = ["examples/*.png"]
threshold = -1.0
"""


def draw(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Pictures of noise."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(seed + number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


def test_two_images_of_one_id_show_their_own_pictures(run: Run, model: str, tmp_path: Path) -> None:
    draw(tmp_path / "im", 3)
    table, page = tmp_path / "t.csv", tmp_path / "p.html"
    table.write_text("path,id\nim/00.png,same\nim/01.png,same\nim/02.png,other\n")
    (tmp_path / "r.toml").write_text(TEXTS + "threshold = -1.0\n")
    words = ["--column", "path", "--id", "id", "--rules", tmp_path / "r.toml", "--page", page]
    assert run("moderate", table, *words, "-m", model).exit_code == 0
    pictures = [part.partition('"')[0] for part in page.read_text().split('src="')[1:]]
    assert len(pictures) == len(set(pictures)) == 3


def test_no_image_that_is_read_is_overwritten(run: Run, model: str, tmp_path: Path) -> None:
    for folder in ("examples", "ordinary", "labelled", "listed"):
        draw(tmp_path / folder, 21)
        (tmp_path / folder / "00.html").write_bytes((tmp_path / folder / "00.png").read_bytes())
    rules, labels, listed = tmp_path / "r.toml", tmp_path / "labels.csv", tmp_path / "t.csv"
    rules.write_text(f'reference = ["ordinary"]\n{EXAMPLES.replace("*.png", "00.*")}')
    labels.write_text("image,weapons\nlabelled/00.html,1\nlabelled/01.png,0\n")
    listed.write_text("path\nlisted/00.html\n")
    words = ["--rules", rules, "-m", model, "--audit", labels, "--column", "path", "--force"]
    labels.write_text(labels.read_text().replace("image", "path"))
    for folder in ("examples", "ordinary", "labelled", "listed"):
        page = tmp_path / folder / "00.html"
        found = run("moderate", listed, *words, "--page", page)
        assert found.exit_code == 1
        assert "is read by this command, so it cannot be written" in " ".join(found.stderr.split())
        assert page.read_bytes().startswith(b"\x89PNG")


def test_a_zero_vector_is_rejected_as_every_item_without_a_score(
    run: Run, model: str, tmp_path: Path
) -> None:
    vectors, out = tmp_path / "v.npy", tmp_path / "q.csv"
    rows = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    rows[1] = 0
    save_vectors(vectors, rows, load(model, device="cpu").card)
    (tmp_path / "r.toml").write_text(TEXTS + "threshold = 1.0\n")
    found = run("moderate", vectors, "--rules", tmp_path / "r.toml", "-m", model, "-o", out)
    assert found.exit_code == 3
    assert "its vector is zero, so nothing is known about it" in " ".join(found.stderr.split())
    (line,) = Path(f"{out}.rejects.jsonl").read_text().splitlines()
    assert "its vector is zero" in json.loads(line)["reason"]
    with out.open(newline="") as file:
        assert [row["action"] for row in csv.DictReader(file)] == ["reject"]


def test_a_missing_threshold_is_told_before_any_image_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(TEXTS)
    nowhere = ["-m", "/no/such/model.safetensors"]  # loading it would be another error
    draw(tmp_path / "im", 1)
    words = ["--rules", tmp_path / "r.toml", "--save", tmp_path / "s.safetensors", *nowhere]
    for more in ([tmp_path / "im"], ["--audit", tmp_path / "t.csv"]):
        found = run("moderate", *more, *words)
        assert found.exit_code == 1
        assert "'weapons' has no threshold" in " ".join(found.stderr.split())
    assert not (tmp_path / "s.safetensors").exists()


def test_saved_rules_without_a_threshold_are_told_first_too(
    run: Run, model: str, tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(TEXTS)
    saved = tmp_path / "S.SAFETENSORS"
    assert (
        run("moderate", "--rules", tmp_path / "r.toml", "--save", saved, "-m", model).exit_code == 0
    )
    found = run("moderate", tmp_path, "--rules", saved, "-m", model)
    assert found.exit_code == 1
    assert "'weapons' has no threshold" in " ".join(found.stderr.split())


def test_flags_that_prepare_images_need_one(run: Run, model: str, tmp_path: Path) -> None:
    draw(tmp_path / "examples", 1)
    vectors = tmp_path / "v.npy"
    assert run("embed", tmp_path / "examples", "-m", model, "-o", vectors).exit_code == 0
    (tmp_path / "r.toml").write_text(TEXTS + "threshold = 0.0\n")
    (tmp_path / "e.toml").write_text(EXAMPLES)
    asked = ["moderate", vectors, "-m", model, "--rules", tmp_path / "r.toml"]
    assert run(*asked).exit_code == 0, "the flag is not given"
    for flag in (
        ("--preprocess", "reference"),
        ("--pixels", "fast"),
        ("--image-size", "16"),
    ):
        found = run(*asked, *flag)
        assert found.exit_code == 2
        assert f"{flag[0]} prepares images, but all that are" in " ".join(found.stderr.split())
    words = ["moderate", vectors, "-m", model, "--preprocess", "robust", "--rules"]
    assert run(*words, tmp_path / "e.toml").exit_code == 0, "the example is an image"
    asked = ["moderate", vectors, "--rules", tmp_path / "r.toml", "--column", "x"]
    assert "--column has no effect without a table" in " ".join(run(*asked).stderr.split())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("", "is incomplete: it lacks concepts"),
        (TEXTS.replace("weapons", "image") + "threshold = 0.0", "as the column of the images is"),
        (EXAMPLES.replace("*.png", "none.png"), "an example of 'weapons' cannot be used: "),
        (
            EXAMPLES + "\n[[concepts]]\nname = 'b'\npositive = ['c']\nthreshold = 9",
            "'b' is outside",
        ),
    ],
)
def test_wrong_rules_are_explained(
    rules: str, message: str, run: Run, model: str, tmp_path: Path
) -> None:
    draw(tmp_path / "examples", 2)
    (tmp_path / "r.toml").write_text(rules)
    (tmp_path / "t.csv").write_text("image\nexamples/00.png\n")
    found = run(
        "moderate", "--rules", tmp_path / "r.toml", "--audit", tmp_path / "t.csv", "-m", model
    )
    assert found.exit_code == 1
    assert message in " ".join(found.stderr.split())


def test_nothing_to_moderate_is_an_error(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(TEXTS + "threshold = 0.0\n")
    found = run("moderate", "-", "--rules", tmp_path / "r.toml", "-m", model, input="")
    assert found.exit_code == 1
    assert "there are no images to moderate" in found.stderr
    assert not found.stdout


def test_labels_that_promise_too_much_are_named(run: Run, model: str, tmp_path: Path) -> None:
    draw(tmp_path / "im", 30)
    (tmp_path / "r.toml").write_text(TEXTS)
    table, rows = tmp_path / "t.csv", [f"im/{number:02}.png" for number in range(30)]
    asked = ["moderate", "--rules", tmp_path / "r.toml", "-m", model, "--tune", table]

    def tune(lines: list[str], *more: str) -> str:
        table.write_text("\n".join(["image,weapons", *lines, ""]))
        found = run(*asked, *more)
        return " ".join((found.stderr + found.stdout).split())

    with pytest.warns(UserWarning, match=r"44 of 46 labelled images are .*line 3 \(im/00.png\)"):
        said = tune(["im/00.png,1"] * 45 + ["im/01.png,0"])
    assert "needs at least 45 positive examples, got 1: 44 are missing" in said
    said = tune([f"{row},1" for row in rows] + ["im/03.png,0"])
    assert "(im/03.png) equals " in said
    assert "correct one of the two" in said
    said = tune([f"{row},1" for row in rows], "--wanted-precision", "0.8")
    assert "all 30 labelled images show the concept" in said
    said = tune(
        [f"{row},{int(place > 0)}" for place, row in enumerate(rows)], "--wanted-precision", "0.5"
    )
    assert "weapons: the promise of a precision is approximate, and holds where" in said
    assert "at least 96.67% of the images show the concept" in said
