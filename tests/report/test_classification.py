"""The page of a classifier is one file that loads nothing, and shows what was measured."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.report import classification_page
from ecliptic.scoring import Reliability
from ecliptic.tasks import ClassificationReport, Classifier, HardImage, Promises
from tests import tiny
from tests.tasks.classification.conftest import draw_images

LABELS = ("red", "green", "<b>blue</b>")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassificationReport, list[str]]:
    folder = tmp_path_factory.mktemp("page")
    write(tiny.checkpoint("vit"), folder / "model")
    paths, truth = draw_images(folder, LABELS, 30)
    classifier = Classifier(ecliptic.load(folder / "model"), LABELS)
    classifier.fit(paths, truth, few_shot="probe", promises=Promises(answered=0.5, sets=0.8))
    return classifier.evaluate(paths, truth, paths), paths


def test_the_page_shows_numbers_diagram_confusions_and_pictures(
    judged: tuple[ClassificationReport, list[str]],
) -> None:
    report, paths = judged
    start = time.process_time()
    html = classification_page(report, paths, ["calibrated by hand"])
    assert time.process_time() - start < 2
    for words in (
        *("Reliability", "Confusions", "Hardest", "calibrated by hand", "<svg", "Brier score"),
        *("right label in the set", 'class="matrix"'),
    ):
        assert words in html
    assert html.count("<img") == min(24, len(paths))
    assert "&lt;b&gt;blue&lt;/b&gt;" in html
    assert "<b>blue" not in html
    figures = html[html.index('class="figures"') : html.index("</header>")]
    assert "accuracy of answers" in figures
    assert "abstained (" in html
    assert "promised 50 %" in html


def test_bars_have_their_images_and_gaps_a_colour_of_their_own(
    judged: tuple[ClassificationReport, list[str]],
) -> None:
    bins = Reliability((1, 20, 12_345), (0.1, 0.5, 0.9), (0.4, 0.3, 0.9))
    html = classification_page(replace(judged[0], reliability=bins))
    chart = html[html.index("<svg") : html.index("</svg>")]
    assert re.findall(
        r'class="(few)?"><rect[^>]*class="bar"></rect><rect[^>]*class="(\w+)"', chart
    ) == [
        ("few", "under"),
        ("", "over"),
        ("", "under"),
    ]
    assert re.findall(r'class="count">([^<]+)<', chart) == ["1", "20", "12k"]
    top = float(chart.split('viewBox="')[1].split()[1])
    tops = [float(y) for y in re.findall(r'<text[^>]*? y="(-?[\d.]+)"', chart)]
    assert min(tops) - 11 > top, "no word is cut at the edge"


def test_a_card_of_several_labels_names_the_one_that_was_judged_worst(
    judged: tuple[ClassificationReport, list[str]],
) -> None:
    one = HardImage(0, "a.png", "animal", "animal, food", 0.062, 0.97, worst="food", in_truth=False)
    html = classification_page(replace(judged[0], hardest=(one,)))
    assert "food 93.8%, not in the truth" in html
    card = html[html.index("<article") :]
    assert "6.2%" not in card


def test_the_page_loads_nothing(judged: tuple[ClassificationReport, list[str]]) -> None:
    report, paths = judged
    html = classification_page(report, paths)
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert "<script" not in html
    assert str(Path(paths[0]).parent) not in html, "no folder of whoever shares the page"


def test_pictures_that_are_gone_or_not_given_leave_a_note(
    judged: tuple[ClassificationReport, list[str]], tmp_path: Path
) -> None:
    report, paths = judged
    gone = tmp_path / "gone.png"
    Image.new("RGB", (8, 8)).save(gone)
    gone.unlink()
    assert "cannot be read any more" in classification_page(report, [str(gone)] * len(paths))
    assert classification_page(report).count("no picture") == len(report.hardest)


def test_more_labels_than_a_matrix_holds_are_a_list(
    judged: tuple[ClassificationReport, list[str]],
) -> None:
    report, _ = judged
    names = tuple(f"label {n}" for n in range(40))
    counts = tuple(tuple(int(a != b and a < 2) * (b + 1) for b in range(40)) for a in range(40))
    html = classification_page(replace(report, labels=names, confusion=counts))
    assert 'class="matrix"' not in html
    assert "most frequent wrong answers" in html
