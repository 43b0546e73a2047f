from pathlib import Path

import numpy as np
from PIL import Image

from ecliptic.report.bundled import FOLDER, bundled

ROOT = Path(__file__).parents[2]


def test_every_name_has_a_picture_and_every_picture_a_name() -> None:
    questions = bundled()
    assert {picture.path for picture in questions.pictures} == set(FOLDER.glob("*.png"))
    assert len(set(questions.names)) == len(questions.names) >= 24


def test_questions_are_about_bundled_pictures() -> None:
    questions = bundled()
    asked = {*questions.like, *questions.matrix, *(n for q in questions.queries for n in q.fits)}
    assert asked <= set(questions.names)
    assert all(query.fits for query in questions.queries)


def test_no_query_gives_its_answer_away() -> None:
    for query in bundled().queries:
        assert not any(name in query.text for name in query.fits)


def test_pictures_are_small_and_opaque() -> None:
    sizes = []
    for picture in bundled().pictures:
        with Image.open(picture.path) as image:
            assert image.mode == "RGB"
            assert image.size == (96, 96)
        sizes.append(picture.path.stat().st_size)
    assert sum(sizes) < 300_000


def test_pictures_are_those_of_the_design_kept_for_validation(shared: Path) -> None:
    """So the embedded default was never trained on them."""
    import csv
    import io
    import tarfile

    with (shared / "data/emoji/emoji.csv").open(encoding="utf-8") as table:
        keys = {row["name"]: row["key"] for row in csv.DictReader(table)}
    with tarfile.open(shared / "data/emoji/fxemoji.tar") as archive:
        for picture in bundled().pictures:
            member = archive.extractfile(f"{keys[picture.name]}.png")
            assert member
            drawn = Image.open(io.BytesIO(member.read())).convert("RGBA")
            page = Image.new("RGBA", drawn.size, "white")
            page.alpha_composite(drawn)
            assert np.array_equal(page.convert("RGB"), Image.open(picture.path)), picture.name


def test_the_pictures_are_attributed() -> None:
    assert "report/pictures" in (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
