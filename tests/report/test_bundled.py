from pathlib import Path

import numpy as np
from PIL import Image

from ecliptic.report.showcase.bundled import FOLDER, bundled_questions

ROOT = Path(__file__).parents[2]


def test_every_name_has_a_drawing_and_every_drawing_a_name() -> None:
    questions = bundled_questions()
    assert {Path(str(p.source)) for p in questions.pictures} == set(FOLDER.glob("*.png"))
    assert len(set(questions.labels)) == len(questions.labels) >= 24
    assert [picture.name for picture in questions.pictures] == list(questions.labels)


def test_questions_are_about_bundled_drawings() -> None:
    questions = bundled_questions()
    asked = {*questions.matrix, *(n for q in questions.queries for n in q.fits or ())}
    assert asked <= set(questions.labels)
    assert all(query.fits for query in questions.queries)


def test_no_query_gives_its_answer_away() -> None:
    for query in bundled_questions().queries:
        assert not any(name in query.text for name in query.fits or ())


def test_drawings_are_small_and_opaque() -> None:
    sizes = []
    for drawing in FOLDER.glob("*.png"):
        with Image.open(drawing) as image:
            assert image.mode == "RGB"
            assert image.size == (96, 96)
        sizes.append(drawing.stat().st_size)
    assert sum(sizes) < 300_000


def test_drawings_are_those_of_the_design_kept_for_validation(shared: Path) -> None:
    """So the built-in model was never trained on them."""
    import csv
    import io
    import tarfile

    with (shared / "data/emoji/emoji.csv").open(encoding="utf-8") as table:
        keys = {row["name"]: row["key"] for row in csv.DictReader(table)}
    with tarfile.open(shared / "data/emoji/fxemoji.tar") as archive:
        for drawing in bundled_questions().pictures:
            member = archive.extractfile(f"{keys[drawing.name]}.png")
            assert member
            drawn = Image.open(io.BytesIO(member.read())).convert("RGBA")
            page = Image.new("RGBA", drawn.size, "white")
            page.alpha_composite(drawn)
            assert np.array_equal(page.convert("RGB"), Image.open(str(drawing.source))), (
                drawing.name
            )


def test_the_drawings_are_attributed() -> None:
    assert "report/drawings" in (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
