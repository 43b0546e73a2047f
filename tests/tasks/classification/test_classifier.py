"""`Classifier` calibrates, abstains, names sets and unknown things, and keeps its promises."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, InputError, SpaceMismatchError
from ecliptic.scoring import NONE_OF_THESE, log_loss
from ecliptic.tasks import Classifier, Promises
from tests.tasks.classification.conftest import LABELS, Draw


def test_before_the_fit_it_is_the_zero_shot_classifier(clip: Clip, draw: Draw) -> None:
    vectors, _ = draw(8)
    found = Classifier(clip, LABELS, "photo").predict(vectors)
    wanted = clip.classify(vectors, LABELS, "photo")
    torch.testing.assert_close(found.probabilities.float(), wanted, atol=1e-5, rtol=1e-4)
    assert found.labels == tuple(LABELS[place] for place in wanted.argmax(1).tolist())
    assert len(found) == 8
    assert not found.abstained.any()
    assert found.sets == found.nodes == ()


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_a_fit_makes_the_probabilities_honest(clip: Clip, draw: Draw, method: str) -> None:
    classifier = Classifier(clip, LABELS)
    asked, truth = draw(400, seed=1, noise=5.0)
    right = torch.tensor([LABELS.index(name) for name in truth])
    before = log_loss(classifier.predict(asked).probabilities, right)
    classifier.fit(*draw(60, noise=5.0), method=method)  # type: ignore[arg-type]
    p = classifier.predict(asked).probabilities
    torch.testing.assert_close(p.sum(dim=1), torch.ones(400).double())
    assert log_loss(p, right) < before
    summary = classifier.summary
    assert summary is not None
    assert (summary.images, summary.counts, summary.unknown) == (60, (15,) * 4, 0)
    assert summary.before is not None
    assert summary.after is not None
    assert summary.after[0] < summary.before[0]
    assert f"calibrated by {method} on 60 labelled images" in classifier.describe()[0]


@pytest.mark.parametrize("few_shot", ["probe", "tip-adapter"])
def test_a_few_images_teach_what_labels_look_like(clip: Clip, draw: Draw, few_shot: str) -> None:
    vectors, truth = draw(40, noise=0.5)
    names = dict(zip(LABELS, LABELS[::-1], strict=True))  # the texts are all wrong
    swapped = [names[name] for name in truth]
    classifier = Classifier(clip, LABELS).fit(vectors, swapped, few_shot=few_shot)  # type: ignore[arg-type]
    asked, right = draw(100, seed=1, noise=0.5)
    hits = [a == names[b] for a, b in zip(classifier.predict(asked).labels, right, strict=True)]
    assert np.mean(hits) > 0.8
    assert "chosen on held-out images" in classifier.describe()[1]


def test_the_promised_accuracy_coverage_and_sets_hold_on_new_images(clip: Clip, draw: Draw) -> None:
    """Means over 25 fits of 120 images; each promise is a bound on what happens later."""
    asked, truth = draw(2000, seed=999, noise=2.5)
    right, answered, held = [], [], []
    for seed in range(25):
        examples = draw(120, seed=seed, noise=2.5)
        promises = Promises(accuracy=0.7, sets=0.9)
        found = Classifier(clip, LABELS).fit(*examples, promises=promises).predict(asked)
        hits = np.array([a == b for a, b in zip(found.labels, truth, strict=True)])
        right.append(hits[~found.abstained.numpy()].mean())
        held.append(np.mean([b in some for some, b in zip(found.sets, truth, strict=True)]))
        found = Classifier(clip, LABELS).fit(*examples, promises=Promises(answered=0.8))
        answered.append(float((~found.predict(asked).abstained).double().mean()))
    assert np.mean(np.array(right) < 0.7) <= 0.12, "5 % promised, of 25 fits"
    assert np.mean(np.array(answered) < 0.8) <= 0.12
    assert 0.88 <= np.mean(held) <= 0.93


def test_what_is_none_of_these_is_told_by_a_promise_or_by_examples(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(200, noise=1.0)
    nonsense = torch.nn.functional.normalize(torch.randn(400, vectors.shape[1]), dim=-1)
    kept = Classifier(clip, LABELS).fit(vectors, truth, promises=Promises(known=0.9))
    asked, _ = draw(1000, seed=5, noise=1.0)
    lost = [label == NONE_OF_THESE for label in kept.predict(asked).labels]
    named = [label == NONE_OF_THESE for label in kept.predict(nonsense).labels]
    assert np.mean(lost) <= 0.1
    assert np.mean(named) > 0.5
    examples = torch.cat([vectors, nonsense[:200]])
    classifier = Classifier(clip, LABELS).fit(examples, truth + [NONE_OF_THESE] * 200)
    found = classifier.predict(nonsense[200:])
    assert np.mean([label == NONE_OF_THESE for label in found.labels]) > 0.7
    assert float(found.probabilities.sum(dim=1).mean()) < 0.4
    with pytest.raises(ConfigError, match='200 images are "none of these", which only method='):
        classifier.fit(examples, truth + [NONE_OF_THESE] * 200, method="platt")


def test_several_labels_have_thresholds_that_keep_a_recall(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(400, noise=1.5)
    mixed = torch.nn.functional.normalize(vectors[:-1] + vectors[1:], dim=-1)
    names = [sorted({a, b}) for a, b in pairwise(truth)]
    names[0] = []
    classifier = Classifier(clip, LABELS, several=True)
    with pytest.raises(ConfigError, match="have no probabilities before fit"):
        classifier.predict(mixed)
    classifier.fit(mixed[:300], names[:300], promises=Promises(recall=0.8))
    found = classifier.predict(mixed[300:])
    for place, label in enumerate(LABELS):
        asked = [label in some for some in names[300:]]
        hits = [label in some for some in found.sets]
        assert np.mean([hit for hit, ask in zip(hits, asked, strict=True) if ask]) > 0.7
        assert classifier.decisions.labels[place].positives > 100
    assert classifier.fit(mixed, names).predict(mixed).sets != found.sets
    assert any(": given at a score of" in line for line in classifier.fit(
        mixed, names, promises=Promises(precision=0.6)).describe())  # fmt: skip


def test_a_tree_answers_as_deep_as_it_is_sure(clip: Clip, draw: Draw) -> None:
    tree = {"animal": ["cat", "dog"], "thing": ["car", "house"]}
    classifier = Classifier(clip, tree).fit(*draw(80, noise=2.0))
    assert classifier.labels == LABELS
    found = classifier.predict(draw(200, seed=1, noise=2.0)[0], sure=0.75)
    assert {"animal", "thing", ""} & set(found.nodes)
    for node, label, gone in zip(found.nodes, found.labels, found.abstained.tolist(), strict=True):
        assert gone == (node == "")
        assert node in ("", label, "animal" if label in tree["animal"] else "thing")
    with pytest.raises(ConfigError, match="a tree is for one label per image"):
        Classifier(clip, tree, several=True)
    with pytest.raises(ConfigError, match="sure is for a tree"):
        Classifier(clip, LABELS).predict(draw(4)[0], sure=0.8)
    with pytest.raises(ConfigError, match=r"sure must be a number above 0\.5"):
        classifier.predict(draw(4)[0], sure=0.5)


def test_backgrounds_take_the_lead_from_labels_that_are_near_to_everything(
    clip: Clip, draw: Draw
) -> None:
    vectors, truth = draw(200, noise=1.5)
    hub = clip.encode_text(LABELS[0])[0]
    pulled = torch.nn.functional.normalize(vectors + 4.0 * hub, dim=-1)
    references = torch.nn.functional.normalize(draw(300, 7, noise=3.0)[0] + 4.0 * hub, dim=-1)

    def accuracy(classifier: Classifier) -> float:
        labels = classifier.predict(pulled).labels
        return float(np.mean([a == b for a, b in zip(labels, truth, strict=True)]))

    plain = accuracy(Classifier(clip, LABELS))
    assert accuracy(Classifier(clip, LABELS, background_images=references)) > plain + 0.1
    with_texts = Classifier(clip, LABELS, background_texts=["a photo", "something"])
    assert with_texts.predict(pulled).labels == Classifier(clip, LABELS).predict(pulled).labels
    shift = with_texts.predict(pulled).scores - Classifier(clip, LABELS).predict(pulled).scores
    assert float(shift.std(dim=1).max()) < 1e-6 < float(shift.abs().min())
    with pytest.raises(ConfigError, match="at least 200 reference images, got 4"):
        Classifier(clip, LABELS, background_images=references[:4])
    with pytest.raises(ConfigError, match="not both"):
        Classifier(clip, LABELS, background_images=references, background_texts=["a"])
    with pytest.raises(InputError, match="at least one text"):
        Classifier(clip, LABELS, background_texts=[])
    with pytest.raises(ConfigError, match="leave one of them out"):
        with_texts.fit(vectors, truth, few_shot="probe")


def test_zero_vectors_are_abstained_from_and_teach_nothing(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(40)
    vectors[3] = 0
    found = Classifier(clip, LABELS).predict(vectors)
    assert found.probabilities.isfinite().all()
    assert found.abstained.nonzero()[:, 0].tolist() == [3]
    with pytest.raises(InputError, match="vector of image 3 is zero"):
        Classifier(clip, LABELS).fit(vectors, truth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "isotonic"}, "needs at least 1000 labelled images, got 40: 960 are missing"),
        ({"promises": Promises(accuracy=0.99)}, "accuracy: no threshold shows a precision"),
        ({"promises": Promises(answered=0.99)}, "answered: .* at least 299 .* got 40"),
        ({"promises": Promises(known=0.95)}, "known: .* at least 59"),
        ({"promises": Promises(sets=0.99)}, "at least 99 examples, got 40"),
        ({"promises": Promises(recall=0.9)}, "recall is a promise for several labels"),
        ({"per_label": True}, "a temperature is shared by all labels"),
        ({"method": "magic"}, "method must be one of temperature, platt, isotonic"),
        ({"few_shot": "magic"}, "few_shot must be one of probe, tip-adapter"),
    ],
)
def test_too_few_images_and_settings_without_sense_are_refused(
    clip: Clip, draw: Draw, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(clip, LABELS).fit(*draw(40, noise=3.0), **settings)  # type: ignore[arg-type]


def test_examples_that_cannot_teach_are_refused(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(40)
    classifier = Classifier(clip, LABELS)
    with pytest.raises(ConfigError, match="all labelled images are of 'dog'"):
        classifier.fit(vectors, ["dog"] * 40)
    with pytest.raises(ConfigError, match='"temperature" needs at least 10 labelled images, got 4'):
        classifier.fit(*draw(4))
    with pytest.raises(
        ConfigError, match=r"image 1: 'dgo' is not among the labels; did you mean 'dog'"
    ):
        classifier.fit(vectors, ["cat", "dgo", *truth[2:]])
    with pytest.raises(ConfigError, match="39 entries for 40 images"):
        classifier.fit(vectors, truth[1:])
    with pytest.raises(ConfigError, match="must be a list"):
        classifier.fit(vectors, "cat")
    with pytest.raises(ConfigError, match="at least 2 images of each label, but 'cat' has fewer"):
        classifier.fit(vectors, ["cat", *("dog", "car", "house") * 13], few_shot="probe")
    one = ["cat", *("dog", "car", "house") * 13]
    with pytest.raises(ConfigError, match="'cat' has 1 and 39"):
        classifier.fit(vectors, one, method="platt", per_label=True)
    several = Classifier(clip, LABELS, several=True)
    with pytest.raises(ConfigError, match="every labelled image shows 'cat'"):
        several.fit(vectors, [["cat"]] * 40)
    with pytest.raises(ConfigError, match="accuracy is a promise for one label"):
        several.fit(vectors, truth, promises=Promises(accuracy=0.9))
    with pytest.raises(ConfigError, match="a temperature is for one label"):
        several.fit(vectors, truth, method="temperature")
    with pytest.raises(ConfigError, match="learns one label per image"):
        several.fit(vectors, truth, few_shot="probe")


def test_labels_that_make_no_sense_are_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="'cat' is the only label"):
        Classifier(clip, ["cat"])
    with pytest.raises(ConfigError, match="is the answer where no label fits"):
        Classifier(clip, ["cat", "None of  These"])
    for wrong in ({"accuracy": 1.0}, {"recall": 0.0}, {"confidence": float("nan")}):
        with pytest.raises(ConfigError, match="must be a number above 0 and below 1"):
            Promises(**wrong)
    with pytest.raises(ConfigError, match="precision and recall both set"):
        Promises(precision=0.9, recall=0.9)


def test_images_are_encoded_and_other_spaces_refused(clip: Clip) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    found = Classifier(clip, LABELS).predict([picture, picture])
    assert found.labels[0] == found.labels[1]
    from ecliptic import Vectors

    foreign = Vectors(np.eye(4, 32, dtype=np.float32), None, "other", "other", "other")
    with pytest.raises(SpaceMismatchError):
        Classifier(clip, LABELS).predict(foreign)
