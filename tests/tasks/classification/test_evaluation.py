"""The report on a classifier: its numbers, intervals, text and JSON."""

import json
import math
import time

import numpy as np
import pytest
import torch
from sklearn import metrics

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.scoring import NONE_OF_THESE, wilson
from ecliptic.tasks import Classifier, Promises, mean_per_class_interval
from tests.tasks.classification.conftest import LABELS, Draw


def test_a_report_agrees_with_scikit_learn(clip: Clip, draw: Draw) -> None:
    classifier = Classifier(clip, LABELS)
    vectors, truth = draw(203, seed=1, noise=4.0)
    found, report = classifier.predict(vectors), classifier.evaluate(vectors, truth)
    answers = list(found.labels)
    assert report.accuracy.value == metrics.accuracy_score(truth, answers)
    assert report.accuracy.low < report.accuracy.value < report.accuracy.high
    assert report.mean_per_class is not None
    balanced = metrics.balanced_accuracy_score(truth, answers)
    assert report.mean_per_class.value == pytest.approx(balanced)
    wanted = metrics.confusion_matrix(truth, answers, labels=LABELS)
    assert [list(row) for row in report.confusion] == wanted.tolist()
    loss = metrics.log_loss(
        [LABELS.index(name) for name in truth], found.probabilities, labels=range(4)
    )
    assert report.log_loss == pytest.approx(loss)
    assert report.top5 is None
    for place, row in enumerate(report.rows):
        hits = [name == row.label for name in truth]
        ap = metrics.average_precision_score(hits, found.probabilities[:, place])
        assert row.average_precision == pytest.approx(ap)
        assert row.recall is not None
        assert row.recall.value == row.found / row.images
    assert (report.answered, report.sets, report.unknown) == (None, None, None)


def test_the_hardest_images_come_first(clip: Clip, draw: Draw) -> None:
    classifier = Classifier(clip, LABELS)
    vectors, truth = draw(100, noise=4.0)
    names = [f"photos/{n}.png" for n in range(100)]
    hardest = classifier.evaluate(vectors, truth, names).hardest
    p = classifier.predict(vectors).probabilities
    own = p[torch.arange(100), torch.tensor([LABELS.index(name) for name in truth])]
    assert [one.place for one in hardest] == own.argsort()[:24].tolist()
    assert [one.name for one in hardest] == [names[one.place] for one in hardest]
    assert hardest[0].chance == pytest.approx(float(own.min()))


def test_a_report_judges_the_promises(clip: Clip, draw: Draw) -> None:
    promises = Promises(accuracy=0.7, sets=0.9, known=0.9)
    classifier = Classifier(clip, LABELS).fit(*draw(200, noise=1.5), promises=promises)
    vectors, truth = draw(200, seed=3, noise=1.5)
    nonsense = torch.nn.functional.normalize(torch.randn(100, vectors.shape[1]), dim=-1)
    asked, right = torch.cat([vectors, nonsense]), [*truth, *[NONE_OF_THESE] * 100]
    report, found = classifier.evaluate(asked, right), classifier.predict(asked)
    assert report.answered is not None
    assert report.answered.answered.value == float((~found.abstained).double().mean())
    assert report.sets is not None
    assert report.sets.coverage.value > 0.8
    assert report.sets.size == np.mean([len(some) for some in found.sets[:200]])
    assert report.unknown is not None
    assert report.unknown.images == 100
    assert report.unknown.auroc is not None
    assert report.unknown.auroc > 0.7
    assert len(report.confusion) == 5
    assert sum(map(sum, report.confusion)) == 300
    assert report.rows[-1].label == NONE_OF_THESE
    text = "\n".join(report.lines())
    for words in ("accuracy of answers", "promised 90 %", "FPR at 95 % TPR", "hardest images"):
        assert words in text
    assert report.facts()["accuracy of answers"].endswith("promised 70 %")
    kept = found.scores[:200].max(dim=1).values >= classifier.decisions.known.threshold
    assert report.kept is not None
    assert report.kept.kept.value == float(kept.double().mean())
    assert report.facts()['kept from "none of these"'].endswith("promised 90 %")
    judged_more = classifier.fit(*draw(200, noise=1.5), promises=Promises(answered=0.8))
    facts = judged_more.evaluate(vectors, truth).facts()
    assert facts["answered"].endswith("promised 80 %")
    assert "promised" not in facts["accuracy of answers"]


def test_what_is_abstained_from_is_no_answer(clip: Clip, draw: Draw) -> None:
    examples = draw(200, noise=3.0)
    classifier = Classifier(clip, LABELS).fit(*examples, promises=Promises(answered=0.5))
    vectors, truth = draw(300, seed=2, noise=3.0)
    found, report = classifier.predict(vectors), classifier.evaluate(vectors, truth)
    gone = found.abstained.tolist()
    assert 0.2 < np.mean(gone) < 0.8
    for row in report.rows:
        given = [n for n in range(300) if found.labels[n] == row.label and not gone[n]]
        assert row.answers == len(given)
        assert row.precision is not None
        assert row.precision.value == np.mean([truth[n] == row.label for n in given])
        assert row.given == found.labels.count(row.label), "counts all, as the recall does"
    lines = list(report.lines())
    for one in report.hardest:
        assert one.abstained == gone[one.place]
        assert one.confidence is not None
        said = f"{found.labels[one.place]} {one.confidence:.1%}"
        assert one.said == (f"abstained ({said})" if gone[one.place] else said)
    assert any("abstained (" in line for line in lines)
    tables = [line for line in lines if line.split()[:1] in (["label"], *([n] for n in LABELS))]
    assert tables[0].split() == ["label", "images", "found", "answers", "precision"]
    assert {line.index(f"{row.answers}  {row.precision.value:.1%}") + len(str(row.answers))  # type: ignore[union-attr]
            for line, row in zip(tables[1:], report.rows, strict=False)} == {
        tables[0].index("answers") + len("answers")
    }  # fmt: skip


def test_the_hardest_answers_are_nodes_of_a_tree(clip: Clip, draw: Draw) -> None:
    tree = {"animal": ["cat", "dog"], "thing": ["car", "house"]}
    classifier = Classifier(clip, tree, sure=0.7).fit(*draw(80, noise=3.0))
    vectors, truth = draw(100, seed=1, noise=3.0)
    found, report = classifier.predict(vectors), classifier.evaluate(vectors, truth)
    p = found.probabilities
    sums = {"animal": p[:, 0] + p[:, 1], "thing": p[:, 2] + p[:, 3]}
    sums |= dict(zip(LABELS, p.T, strict=True))
    groups = 0
    for one in report.hardest:
        name = found.nodes[one.place] or found.labels[one.place]
        assert (one.answer, one.abstained) == (name, not found.nodes[one.place])
        assert one.confidence == pytest.approx(float(sums[name][one.place]))
        groups += name in tree
    assert groups > 0
    for row in report.rows:
        assert row.answered == found.nodes.count(row.label)


def test_a_report_on_several_labels_judges_each(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(300, noise=2.0)
    names = [[name] if n % 3 else [] for n, name in enumerate(truth)]
    classifier = Classifier(clip, LABELS, several=True)
    classifier.fit(vectors, names, promises=Promises(recall=0.8))
    report, found = classifier.evaluate(vectors, names), classifier.predict(vectors)
    exact = [set(some) == set(right) for some, right in zip(found.sets, names, strict=True)]
    assert report.accuracy.value == np.mean(exact)
    wanted = np.array([[label in right for label in LABELS] for right in names])
    peer = metrics.average_precision_score(wanted, found.probabilities, average="macro")
    assert report.mean_average_precision == pytest.approx(peer)
    pairs = metrics.log_loss(wanted.reshape(-1), found.probabilities.reshape(-1))
    assert report.log_loss == pytest.approx(pairs)
    brier = metrics.brier_score_loss(wanted.reshape(-1), found.probabilities.reshape(-1))
    assert report.brier == pytest.approx(brier)
    for place, row in enumerate(report.rows):
        hits = [label in some for some, label in zip(found.sets, [row.label] * 300, strict=True)]
        assert row.found == sum(wanted[:, place] & np.array(hits))
        assert row.given == sum(hits)
    assert "all labels right" in report.facts()
    assert report.facts()["lowest recall of a label"].endswith("promised 80 %")
    for one in report.hardest:
        p = found.probabilities[one.place]
        right = [label in names[one.place] for label in LABELS]
        chances = [float(q if hit else 1 - q) for q, hit in zip(p, right, strict=True)]
        place = chances.index(min(chances))
        assert (one.worst, one.in_truth) == (LABELS[place], right[place])
        where = "in" if right[place] else "not in"
        assert one.mistake == f"{LABELS[place]} {float(p[place]):.1%}, {where} the truth"


@pytest.mark.parametrize(
    ("counts", "truth"),
    [
        ([60, 30, 45], [0.9, 0.5, 0.7]),
        ([4] * 3, [0.9] * 3),
        ([8] * 5, [0.95] * 5),
        ([20] * 10, [0.98] * 10),
        ([5] * 20, [0.9] * 20),
        ([100, 100, 4], [0.99, 0.99, 0.5]),
    ],
)
def test_the_interval_of_the_mean_per_class_covers_the_truth(
    counts: list[int], truth: list[float]
) -> None:
    """2,000 simulations; the bootstrap covers 76 %, 87 % and 91 % of the second to the fourth."""
    made, covered = np.random.default_rng(0), 0
    for hits in made.binomial(counts, truth, (2000, len(counts))).tolist():
        found = mean_per_class_interval(hits, counts)
        covered += found.low - 1e-9 <= np.mean(truth) <= found.high + 1e-9
    assert 0.92 <= covered / 2000 <= 0.985


def test_the_mean_per_class_of_few_images_is_not_certain() -> None:
    assert mean_per_class_interval([3, 0, 0], [4, 0, 2]).value == pytest.approx(0.375)
    one = mean_per_class_interval([1], [1])
    assert one.value == one.high == 1
    assert one.low < 0.3
    alone, wanted = mean_per_class_interval([45], [60]), wilson(45, 60)
    assert (alone.low, alone.high) == pytest.approx((wanted.low, wanted.high), abs=0.003)


def test_what_a_threshold_calls_none_of_these_has_no_probability(clip: Clip, draw: Draw) -> None:
    classifier = Classifier(clip, LABELS).fit(*draw(200), promises=Promises(known=0.9))
    vectors, truth = draw(50, seed=3)
    nonsense = torch.nn.functional.normalize(torch.randn(50, vectors.shape[1]), dim=-1)
    asked, right = torch.cat([vectors, nonsense]), [*truth, *[NONE_OF_THESE] * 50]
    found, report = classifier.predict(asked), classifier.evaluate(asked, right)
    none = [label == NONE_OF_THESE for label in found.labels]
    assert found.confidences.isnan().tolist() == none
    assert sum(report.reliability.counts) == 100 - sum(none)
    easy = [n for n in range(50, 100) if none[n]]
    assert len(easy) > 25
    assert not {one.place for one in report.hardest} & set(easy)
    assert report.to_json()["log_loss"] is None
    assert report.facts()["log loss"] == 'infinite: "none of these" has no probability'
    hits = [a == b for a, b in zip(found.labels, right, strict=True)]
    assert report.accuracy.value == np.mean(hits)


def test_the_likeliest_of_several_labels_is_a_given_one(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(300, noise=2.0)
    classifier = Classifier(clip, LABELS, several=True)
    classifier.fit(vectors, [[name] for name in truth], promises=Promises(recall=0.95))
    found = classifier.predict(draw(200, seed=5, noise=3.0)[0])
    for label, given, sure, p in zip(
        found.labels, found.sets, found.confidences.tolist(), found.probabilities, strict=True
    ):
        own = [float(p[LABELS.index(name)]) for name in given]
        assert (label in given and sure == max(own)) or (label == NONE_OF_THESE and not own)
        assert math.isnan(sure) == (not own)


def test_nodes_of_a_tree_are_judged(clip: Clip, draw: Draw) -> None:
    tree = {"animal": ["cat", "dog"], "thing": ["car", "house"]}
    classifier = Classifier(clip, tree, sure=0.9).fit(*draw(80, noise=3.0))
    vectors, truth = draw(200, seed=1, noise=3.0)
    found, report = classifier.predict(vectors), classifier.evaluate(vectors, truth)
    above = {name: group for group, names in tree.items() for name in names}
    given = [(node, name) for node, name in zip(found.nodes, truth, strict=True) if node]
    assert report.answered is not None
    assert report.answered.accuracy is not None
    assert report.answered.answered.value == len(given) / 200
    assert report.answered.accuracy.value == np.mean([n in (t, above[t]) for n, t in given])
    assert report.answered.leaves is not None
    assert report.answered.leaves.value == np.mean([n in LABELS for n, _ in given])
    assert "answers that are a label" in report.facts()


def test_reports_are_json_and_fast(clip: Clip, draw: Draw) -> None:
    labels = tuple(f"thing {n}" for n in range(100))
    classifier = Classifier(clip, labels).fit(*draw(1000, noise=2.0, labels=labels))
    examples = draw(5000, seed=1, noise=2.0, labels=labels)
    start = time.process_time()
    report = classifier.evaluate(*examples)
    assert time.process_time() - start < 2
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["accuracy"]["value"] == report.accuracy.value
    assert data["expected_calibration_error"] == report.reliability.expected_error
    assert data["rows"][0]["recall"]["low"] < data["rows"][0]["recall"]["high"]
    assert report.top5 is not None
    assert "truth in rows" not in "\n".join(report.lines()), "too many labels for a text"


def test_the_largest_error_is_that_of_a_bin_with_ten_images(clip: Clip, draw: Draw) -> None:
    report = Classifier(clip, LABELS).evaluate(*draw(9))
    assert report.reliability.largest_error > 0
    assert "largest of a bin (MCE)" not in report.facts()
    assert report.to_json()["largest_calibration_error"] is None
    report = Classifier(clip, LABELS).evaluate(*draw(203, seed=1, noise=4.0))
    bins = report.reliability
    gaps = [
        abs(sure - right)
        for sure, right, n in zip(bins.confidences, bins.accuracies, bins.counts, strict=True)
        if n >= 10
    ]
    assert report.to_json()["largest_calibration_error"] == max(gaps)
    assert report.facts()["largest of a bin (MCE)"] == f"{max(gaps):.1%}"


def test_ties_and_zero_vectors_count_as_wrong(clip: Clip, draw: Draw) -> None:
    vectors, truth = draw(20, noise=0.1)
    vectors[0] = 0
    report = Classifier(clip, LABELS).evaluate(vectors, truth)
    assert report.accuracy.value == 0.95
    assert report.answered is not None
    assert report.answered.answered.value == 0.95
    assert math.isfinite(report.log_loss)


def test_an_evaluation_without_images_or_with_other_names_is_refused(
    clip: Clip, draw: Draw
) -> None:
    classifier = Classifier(clip, LABELS)
    with pytest.raises(ConfigError, match="needs labelled images, got none"):
        classifier.evaluate(torch.ones(0, 32), [])
    with pytest.raises(ConfigError, match="1 names for 8 images"):
        classifier.evaluate(*draw(8), names=["a"])
