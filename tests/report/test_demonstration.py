import dataclasses
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from ecliptic.errors import MissingTowerError
from ecliptic.report import DemoResult, demo
from ecliptic.report.showcase.bundled import bundled_questions
from ecliptic.report.showcase.page import MINI, page
from ecliptic.report.showcase.results import Guess, Hit, Search, TokenReading
from ecliptic.report.showcase.summary import print_summary
from ecliptic.scoring import NONE_OF_THESE
from tests import tiny


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)


@pytest.fixture(scope="module")
def result(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    out = tmp_path_factory.mktemp("out") / "new folder" / "demo.html"
    return demo(out, clip, quiet=True)


def with_guesses(result: DemoResult, right: int) -> DemoResult:
    """The same result with exactly `right` correct guesses."""
    names = bundled_questions().labels
    guesses = []
    for place, picture in enumerate(bundled_questions().pictures):
        first = picture.name if place < right else names[place - 1]
        guesses.append(Guess(picture, ((first, 0.9), ("snail", 0.05), ("key", 0.001))))
    answers = dataclasses.replace(result.answers, guesses=tuple(guesses))
    return dataclasses.replace(result, answers=answers)


class Reader(HTMLParser):
    """Collects the elements, addresses, policies and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.policies: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "srcset", "data", "poster")]
        self.policies += [v or "" for k, v in attrs if tag == "meta" and k == "content"]
        if tag == "img":
            assert dict(attrs)["alt"], "every drawing has a description"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_answers_are_what_the_model_says(result: DemoResult, clip: Clip) -> None:
    questions = bundled_questions()
    paths = [picture.source for picture in questions.pictures]
    chances = dict(zip(questions.pictures, clip.classify(paths, questions.labels), strict=True))
    for guess in result.answers.guesses:
        row, (label, chance) = chances[guess.picture], guess.labels[0]
        assert label == questions.labels[int(row.argmax())]
        assert chance == pytest.approx(float(row.max()), abs=1e-5)
    texts = [query.text for query in questions.queries]
    cosines = dict(zip(texts, clip.similarity(texts, paths), strict=True))
    for search in result.answers.searches:
        assert search.hits[0].cosine == pytest.approx(float(cosines[search.query].max()), abs=1e-5)
        values = [hit.cosine for hit in search.hits]
        assert values == sorted(values, reverse=True)


def test_right_answers_come_first_and_the_surest_of_them_first(result: DemoResult) -> None:
    ranks = [(not guess.right, -guess.labels[0][1]) for guess in result.answers.guesses]
    assert ranks == sorted(ranks)
    assert {guess.picture for guess in result.answers.guesses} == set(
        bundled_questions().pictures
    ), "none is left out"
    found = [(not search.right, -search.hits[0].cosine) for search in result.answers.searches]
    assert found == sorted(found)
    assert len(found) == len(bundled_questions().queries)


def test_mini_leads_with_what_it_gets_right(tmp_path: Path) -> None:
    shown = demo(tmp_path / "demo.html", quiet=True)
    assert all(guess.right for guess in shown.answers.guesses[:18])
    assert all(search.right for search in shown.answers.searches[:8])
    assert all(guess.labels[0][1] > 0.5 for guess in shown.answers.guesses[:10])
    labels = {label for guess in shown.answers.guesses for label, _ in guess.labels}
    assert NONE_OF_THESE in labels


def test_a_drawing_is_not_its_own_neighbour(result: DemoResult) -> None:
    for search in result.answers.neighbours:
        assert search.query not in [hit.picture for hit in search.hits]
        assert all(torch.isfinite(torch.tensor(hit.cosine)) for hit in search.hits)


def test_right_answers_are_counted_as_they_are(result: DemoResult) -> None:
    names = bundled_questions().labels
    assert result.answers.right == sum(
        g.labels[0][0] == g.picture.name for g in result.answers.guesses
    )
    assert with_guesses(result, 7).answers.right == 7
    text = "".join(Reader(page(with_guesses(result, 7))).words)
    assert f"7 of {len(names)}" in text
    assert text.count("wrong, this is") == len(names) - 7


def test_the_page_loads_nothing(result: DemoResult) -> None:
    text = result.path.read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.sources
    assert all(source.startswith("data:") for source in reader.sources)
    assert not {"script", "link", "iframe", "object", "embed"} & set(reader.tags)
    assert not re.search(r"@import|url\(", text)
    assert any("default-src 'none'" in policy for policy in reader.policies)
    assert not list(result.path.parent.glob(".*")), "no draft is left behind"


def test_the_page_suits_light_dark_and_small_screens(result: DemoResult) -> None:
    text = result.path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_only_the_embedded_model_is_called_mini(result: DemoResult) -> None:
    assert not result.embedded
    assert MINI not in "".join(Reader(page(result)).words)
    embedded = "".join(Reader(page(dataclasses.replace(result, embedded=True))).words)
    assert "drawings, not photographs" in embedded


def test_card_fingerprints_and_timings_are_on_the_page(result: DemoResult, clip: Clip) -> None:
    text = "".join(Reader(page(result)).words)
    assert clip.card.space in text
    assert clip.card.exact in text
    for timing in result.timings:
        assert timing.step in text


def test_a_hostile_model_name_stays_text(result: DemoResult) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    card = {**result.card, "name": hostile, "notes": [hostile]}
    reader = Reader(page(dataclasses.replace(result, card=card)))
    assert "x" not in reader.sources
    assert hostile in "".join(reader.words)


def test_dropped_words_are_named(result: DemoResult) -> None:
    cut = [reading for reading in result.readings if reading.dropped]
    assert cut, "the second text is longer than this model's context"
    assert "over the volcano" in "".join(Reader(page(result)).words)
    whole = TokenReading("a", result.readings[0].tokens[:1], 77)
    assert whole.dropped == 0


def test_the_summary_names_mistakes_and_goes_to_stderr(
    result: DemoResult, capsys: pytest.CaptureFixture[str]
) -> None:
    written = StringIO()
    few = with_guesses(result, len(result.answers.guesses) - 2)
    print_summary(few, Console(file=written, width=100))
    count = len(result.answers.guesses)
    assert f"{count - 2} of {count} drawings named correctly" in written.getvalue()
    assert written.getvalue().count("was taken for") == 2
    print_summary(with_guesses(result, 0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "more, all on the page" in captured.err


def test_markup_of_the_terminal_in_a_text_is_shown_as_it_is(result: DemoResult) -> None:
    drawing = bundled_questions().pictures[0]
    strange = Search("[red]a[/red] [/nonsense]", (Hit(drawing, 0.5, fits=True),) * 4)
    written = StringIO()
    answers = dataclasses.replace(result.answers, searches=(strange,))
    odd = dataclasses.replace(result, answers=answers, card={**result.card, "name": "[b]x"})
    print_summary(odd, Console(file=written, width=100))
    assert "[red]a[/red] [/nonsense]" in written.getvalue()


def test_a_model_with_one_tower_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint("image"), tmp_path / "tower", layout="ecliptic")
    with pytest.raises(MissingTowerError):
        demo(tmp_path / "demo.html", load(tmp_path / "tower"), quiet=True)
    assert not (tmp_path / "demo.html").exists()
