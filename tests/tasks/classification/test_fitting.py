"""What a fit does with few, repeated and contrary examples, and what it says about them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.scoring import NONE_OF_THESE, Calibration, add_none, brier_score, log_loss
from ecliptic.settings import to_dict
from ecliptic.tasks import Classifier, Promises
from tests import tiny
from tests.tasks.classification.conftest import LABELS, Draw

CARD = Calibration(0.2, 0.1, 0.3, data="planted")  # not sure enough


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The tiny model with a calibration in its card."""
    folder = tmp_path_factory.mktemp("calibrated")
    write(replace(tiny.checkpoint("vit"), calibration=CARD), folder / "model")
    return ecliptic.load(folder / "model")


def places(truth: list[str]) -> torch.Tensor:
    return torch.tensor([LABELS.index(name) for name in truth])


def nonsense(count: int, size: int = 32, seed: int = 7) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, size, generator=made), dim=-1)


def test_before_is_what_the_classifier_said_before(calibrated: Clip, draw: Draw) -> None:
    vectors, truth = draw(60, noise=1.5)
    classifier = Classifier(calibrated, LABELS)
    p = classifier.predict(vectors).probabilities
    for _ in range(2):  # a second fit starts where the first did
        summary = classifier.fit(vectors, truth).summary
        assert summary is not None
        assert summary.before is not None
        wanted = (log_loss(p, places(truth)), brier_score(p, places(truth)))
        assert summary.before[:2] == pytest.approx(wanted)


def test_the_level_of_the_card_stays_beside_a_fitted_temperature(
    calibrated: Clip, draw: Draw
) -> None:
    before = Classifier(calibrated, LABELS)
    after = Classifier(calibrated, LABELS).fit(*draw(60, noise=1.0))
    asked = torch.cat([draw(50, seed=2, noise=1.0)[0], nonsense(50)])
    one, other = before.predict(asked), after.predict(asked)
    assert one.labels == other.labels, "surer or less sure of the same answers"
    assert NONE_OF_THESE in other.labels
    assert (one.probabilities - other.probabilities).abs().max() > 0.01
    ratios = [add_none(found.probabilities).log() for found in (one, other)]
    slopes = [(logs[:, :-1] - logs[:, -1:]) for logs in ratios]
    factor = slopes[1] / slopes[0]
    torch.testing.assert_close(factor, factor.mean().expand_as(factor), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("words", [{"method": "platt"}, {"few_shot": "probe"}])
def test_it_says_when_it_no_longer_says_none_of_these(
    calibrated: Clip, draw: Draw, words: dict[str, str]
) -> None:
    swapped = dict(zip(LABELS, LABELS[::-1], strict=True)) if "few_shot" in words else {}
    vectors, truth = draw(80, noise=1.0)
    wanted = [swapped.get(name, name) for name in truth]
    classifier = Classifier(calibrated, LABELS).fit(vectors, wanted, **words)  # type: ignore[arg-type]
    assert any("no longer says" in line for line in classifier.describe())


def test_a_calibration_that_is_no_better_on_held_out_images_says_so(clip: Clip, draw: Draw) -> None:
    """Labels that are drawn with the probabilities themselves need no calibration."""
    made, worse = torch.Generator().manual_seed(0), 0
    vectors = draw(400, noise=3.0)[0]
    p = Classifier(clip, LABELS).predict(vectors).probabilities
    truth = [LABELS[n] for n in torch.multinomial(p, 1, generator=made)[:, 0].tolist()]
    for start in range(0, 400, 20):
        few = slice(start, start + 20)
        classifier = Classifier(clip, LABELS).fit(vectors[few], truth[few])
        assert classifier.summary is not None
        before, after = classifier.summary.before, classifier.summary.after
        assert before is not None and after is not None  # noqa: PT018
        assert before[0] is not None and after[0] is not None  # noqa: PT018
        first, *others = classifier.describe()
        no_better = after[0] >= before[0]
        assert ("no better than before on held-out images" in first) == no_better
        assert any("more images would tell" in line for line in others) == no_better
        found = classifier.predict(vectors[few]).probabilities
        assert not torch.equal(found, p[few]), "the fit is used all the same"
        worse += no_better
        assert any("20 images are few" in line for line in others)
    assert 3 < worse < 20


def test_one_image_of_none_of_these_is_too_few_and_two_are_held_out(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(20)
    others = -draw(2, seed=3)[0]
    classifier = Classifier(clip, LABELS)
    with pytest.raises(ConfigError, match=r'"none of these" needs at least 2 images.* got 1'):
        classifier.fit(torch.cat([vectors, others[:1]]), [*truth, NONE_OF_THESE])
    classifier.fit(torch.cat([vectors, others]), [*truth, *[NONE_OF_THESE] * 2])
    assert classifier.summary is not None
    assert classifier.summary.after is not None
    assert json.dumps(to_dict(classifier.summary), allow_nan=False)
    lines = classifier.describe()
    assert any(line.startswith("log loss: ") and "before" not in line for line in lines)
    with pytest.raises(ConfigError, match="so no level tells them apart"):
        classifier.fit(torch.cat([-vectors, 2 * vectors[:4]]), [*truth, *[NONE_OF_THESE] * 4])


@pytest.mark.parametrize("few_shot", ["probe", "tip-adapter"])
def test_few_shot_learns_with_many_images_and_none_of_these(
    clip: Clip, draw: Draw, few_shot: str
) -> None:
    """The scores of a Tip-Adapter grow with its images, far above those of cosines."""
    names = dict(zip(LABELS, LABELS[::-1], strict=True))  # the texts are all wrong
    vectors, truth = draw(400, noise=0.5)
    wanted = [names[name] for name in truth]
    examples = torch.cat([vectors, nonsense(120)])
    classifier = Classifier(clip, LABELS)
    classifier.fit(examples, [*wanted, *[NONE_OF_THESE] * 120], few_shot=few_shot)  # type: ignore[arg-type]
    found = classifier.predict(torch.cat([draw(100, seed=1, noise=0.5)[0], nonsense(100, seed=8)]))
    none = torch.tensor([label == NONE_OF_THESE for label in found.labels]).double()
    assert float(none[:100].mean()) < 0.1 < float(none[100:].mean())


def test_contrary_labels_are_refused_by_every_curve(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(60, noise=0.5)
    turned = [LABELS[(LABELS.index(name) + 1) % 4] for name in truth]
    for words in ({}, {"method": "platt"}, {"method": "platt", "per_label": True}):
        with pytest.raises(ConfigError, match="scores of right labels are not higher"):
            Classifier(clip, LABELS).fit(vectors, turned, **words)  # type: ignore[arg-type]


def test_a_picture_counts_once(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(12, noise=1.0)
    classifier = Classifier(clip, LABELS)
    with pytest.raises(ConfigError, match=r"at least 10 .* got 3 \(12 repeats do not count\)"):
        classifier.fit(vectors[:3].repeat(5, 1), truth[:3] * 5)
    once = classifier.fit(vectors, truth).predict(vectors).probabilities
    thrice = classifier.fit(vectors.repeat(3, 1), truth * 3)
    assert torch.equal(thrice.predict(vectors).probabilities, once)
    assert any("24 rows show a picture that stands in" in line for line in thrice.describe())
    with pytest.raises(ConfigError, match=r"images 0 and 12 are the same picture, .*'cat'.*'dog'"):
        classifier.fit(torch.cat([vectors, vectors[:1]]), [*truth, "dog"])
    several = Classifier(clip, LABELS, several=True)
    with pytest.raises(ConfigError, match="'cat, dog'"):
        several.fit(torch.cat([vectors, vectors[:1]]), [[n] for n in truth] + [["cat", "dog"]])


def test_an_evaluation_on_learned_or_repeated_images_is_doubted(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(20, noise=1.0)
    classifier = Classifier(clip, LABELS).fit(vectors, truth)
    asked, right = draw(20, seed=1, noise=1.0)
    assert classifier.evaluate(asked, right).notes == ()
    both = classifier.evaluate(
        torch.cat([asked, vectors[:5], asked[:2]]), right + truth[:5] + ["dog"] * 2
    )
    assert [note.split(",")[0] for note in both.notes] == [
        "5 of 27 images were learned from",
        "2 of 27 images repeat others",
        "1 of the repeated images have another label than before",
    ]
    assert next(iter(both.lines())).startswith("warning: 5 of 27")


def test_labels_without_an_image_are_named(clip: Clip, draw: Draw) -> None:
    classifier = Classifier(clip, (*LABELS, "fish", "key")).fit(*draw(20))
    assert any("no image of 'fish', 'key' is among" in line for line in classifier.describe())


def test_several_labels_are_judged_on_held_out_images(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(80, noise=2.0)
    classifier = Classifier(clip, LABELS, several=True).fit(vectors, [[name] for name in truth])
    assert classifier.summary is not None
    assert classifier.summary.after is not None
    report = classifier.evaluate(draw(400, seed=1, noise=2.0)[0], [[n] for n in LABELS * 100])
    assert classifier.summary.after[0] == pytest.approx(report.log_loss, abs=0.1)
    assert any(line.startswith("log loss: ") for line in classifier.describe())


def test_promises_are_shown_with_all_their_digits(clip: Clip, draw: Draw) -> None:
    promises = Promises(answered=0.8, sets=0.955, confidence=0.9951)
    text = "\n".join(Classifier(clip, LABELS).fit(*draw(60), promises=promises).describe())
    assert "at a confidence of 99.51 %" in text
    assert "for 95.5 % of images" in text
    with pytest.raises(ConfigError, match="examples of each label; 'cat' has 15"):
        Classifier(clip, LABELS).fit(*draw(60), promises=promises, per_label=True)


def test_a_shared_temperature_is_not_said_to_be_of_each_label(clip: Clip, draw: Draw) -> None:
    told: Callable[[Classifier], str] = lambda one: "\n".join(one.describe())  # noqa: E731
    promises = Promises(sets=0.8)
    text = told(Classifier(clip, LABELS).fit(*draw(60), per_label=True, promises=promises))
    assert "temperature for each label" not in text
    assert "of images of each label" in text


def test_a_tree_keeps_its_probability_when_saved(clip: Clip, draw: Draw, tmp_path: Path) -> None:
    tree = {"animal": ["cat", "dog"], "thing": ["car", "house"]}
    classifier = Classifier(clip, tree, sure=0.9).fit(*draw(80, noise=3.0))
    classifier.save(tmp_path / "tree.safetensors")
    asked = draw(100, seed=1, noise=3.0)[0]
    again = Classifier.load(tmp_path / "tree.safetensors", clip)
    assert again.predict(asked).nodes == classifier.predict(asked).nodes
    assert "" in again.predict(asked).nodes
