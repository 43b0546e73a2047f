"""The demo's part about trust: abstention, scores with intervals, a taste that is learnt."""

import dataclasses
from pathlib import Path

import pytest
import torch

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from ecliptic.report import DemoResult, demo
from ecliptic.report.showcase.bundled import bundled_questions
from ecliptic.report.showcase.judging import EACH, LEASTS, judge_answers
from ecliptic.report.showcase.page import page
from ecliptic.report.showcase.results import Guess
from ecliptic.scoring import NONE_OF_THESE
from tests import tiny
from tests.report.test_demonstration import Reader


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)


@pytest.fixture(scope="module")
def result(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return demo(tmp_path_factory.mktemp("out") / "demo.html", clip, quiet=True)


def test_abstaining_leaves_the_answers_that_are_sure_enough(clip: Clip) -> None:
    questions = bundled_questions()
    first, second, third, fourth, *_ = questions.pictures
    guesses = [
        Guess(first, ((first.name, 0.9), (second.name, 0.1))),
        Guess(second, ((first.name, 0.8), (second.name, 0.2))),  # wrong
        Guess(third, ((third.name, 0.4), (first.name, 0.3))),
        Guess(fourth, ((NONE_OF_THESE, 0.95), (fourth.name, 0.05))),  # no answer
    ]
    images = torch.nn.functional.normalize(torch.randn(30, clip.card.embed), dim=1)
    judged = judge_answers(questions, guesses, images, images, clip.card).cautions
    assert [one.least for one in judged] == list(LEASTS)
    assert [(one.answered, one.right) for one in judged] == [(3, 2), (2, 1), (2, 1)]
    accuracy = judged[0].accuracy
    assert accuracy is not None
    assert accuracy.value == pytest.approx(2 / 3)
    assert accuracy.low < accuracy.value < accuracy.high
    assert judge_answers(questions, [], images, images, clip.card).cautions == ()


def test_names_are_scored_as_the_model_says(result: DemoResult, clip: Clip) -> None:
    questions = bundled_questions()
    paths = [picture.source for picture in questions.pictures]
    cosines = clip.similarity(questions.labels, paths).double()
    captions = result.judgements.captions
    assert captions is not None
    assert captions.own.value == pytest.approx(float(cosines.diagonal().mean()), abs=1e-6)
    rest = (cosines.sum() - cosines.diagonal().sum()) / (len(paths) * (len(paths) - 1))
    assert captions.others == pytest.approx(float(rest), abs=1e-6)
    assert captions.own.low < captions.own.value < captions.own.high


def test_a_taste_ranks_only_what_it_was_not_taught(result: DemoResult) -> None:
    pictures, liked = bundled_questions().pictures, bundled_questions().liked
    taste = result.judgements.taste
    assert taste is not None
    assert {picture for picture, _, _ in taste.ranked} == set(pictures[EACH - 1 :: EACH])
    assert taste.rated == len(pictures) - len(taste.ranked) >= 20
    scores = [score for _, score, _ in taste.ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(fits == (picture.name in liked) for picture, _, fits in taste.ranked)
    assert 0 < sum(fits for _, _, fits in taste.ranked) < len(taste.ranked)
    assert set(liked) < set(bundled_questions().labels)


def test_a_taste_is_learnt_from_the_vectors(clip: Clip) -> None:
    """Where the vectors tell food from all else, food comes first."""
    questions = bundled_questions()
    food = torch.tensor([picture.name in questions.liked for picture in questions.pictures])
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, clip.card.embed, generator=random) * 0.1
    vectors[:, 0] += torch.where(food, 1.0, -1.0)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    taste = judge_answers(questions, [], unit, unit, clip.card).taste
    assert taste is not None
    kinds = [fits for _, _, fits in taste.ranked]
    assert kinds == sorted(kinds, reverse=True)
    assert taste.order.low > 0.2  # ties of the ratings keep it below 1


def test_the_page_and_the_summary_show_it(
    result: DemoResult, clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = ("Answer only when sure", "Score captions", "Learn a taste from ratings")
    text = "".join(Reader(page(result)).words)
    assert all(title in text for title in titles)
    drawing = str(bundled_questions().pictures[0].source)
    own = demo(tmp_path / "own.html", clip, images=[drawing], queries=["a cat", "a dog"])
    text = "".join(Reader(page(own)).words)
    assert [title in text for title in titles] == [True, False, False]
    assert own.judgements.captions is own.judgements.taste is None
    assert [one.right for one in own.judgements.cautions] == [None] * len(LEASTS)
    assert "80% or more: " in capsys.readouterr().err
    alone = dataclasses.replace(own.judgements, cautions=())
    text = "".join(Reader(page(dataclasses.replace(own, judgements=alone))).words)
    assert not any(title in text for title in titles)
