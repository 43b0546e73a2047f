"""Pages of the documentation run as they are written."""

from pathlib import Path

import pytest

from ecliptic.report.showcase.bundled import FOLDER
from tests.cli.conftest import Run
from tests.cli.page_blocks import blocks_of, run_page


def test_finding(run: Run) -> None:
    _, first = blocks_of("finding.md")[0]
    assert len(first.splitlines()) == 4  # from a folder to a contact sheet
    names = run_page("finding.md", run).names
    sheet = Path("found.html").read_text(encoding="utf-8")
    assert sheet.count("data:image/jpeg;base64,") == 10
    assert Path("duplicates.html").stat().st_size > 5_000
    assert len(names["library"]) == len(list(FOLDER.glob("*.png")))
    assert names["hits"].paths[0].is_file()


def test_aesthetics(run: Run) -> None:
    done = run_page("aesthetics.md", run)
    assert len(done.printed) >= 6
    assert Path("best.html").stat().st_size > 10_000
    assert Path("best.csv").read_text().startswith('"image","rank","score"')
    assert done.names["fit"].report.seen is False


def test_classification(run: Run) -> None:
    first = next(code for kind, code in blocks_of("classification.md") if kind == "python")
    done = run_page("classification.md", run, lambda code: code == first)  # it makes the files
    assert len(done.printed) == 5
    assert Path("report.html").read_text(encoding="utf-8").count("<img") == 24
    assert Path("answers.csv").read_text(encoding="utf-8").count("\n") == 49


def test_scores(run: Run) -> None:
    shown = run_page("scores.md", run, lambda code: "open(" in code).printed
    assert len(shown) == 8
    assert "95% bootstrap interval" in shown[0]
    assert Path("scores.csv").read_text(encoding="utf-8").count("\n") == 11
    [means, stored] = [next(row for row in shown[i].splitlines() if "mean" in row) for i in (0, 4)]
    assert means == stored
    assert "new scores higher than old by 0." in shown[6]
    assert "chance of so large a value if both sets were of one distribution" in shown[7]
    assert "images of one name are exchanged" in shown[7]


@pytest.mark.slow
def test_guidance(run: Run) -> None:
    done = run_page("guidance.md", run)
    assert done.names["shift"]["guided"] == pytest.approx(1.0, abs=0.02)
    assert done.names["shift"]["without the factor"] > 1.8
    for name in ("apples.png", "cats.png", "apple.svg", "tiger.png", "dog.svg", "banana.png"):
        assert Path(name).stat().st_size > 2_000, name
    assert "<svg" in Path("apple.html").read_text(encoding="utf-8")
