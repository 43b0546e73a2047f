"""`Classifier` names what is in images, says how sure it is, and can be fitted, saved and judged.

N images, L labels, E vector size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import torch
from torch import Tensor

from ecliptic.checks import check_range
from ecliptic.engine import Clip, Comparable, Images, given_vectors
from ecliptic.errors import ConfigError, InputError
from ecliptic.inputs import Template, fold_label
from ecliptic.scoring import (
    NONE_OF_THESE,
    IsotonicScaling,
    LabelTree,
    PlattScaling,
    cosine,
    fit_background,
    read_tree,
)
from ecliptic.tasks.classification.decisions import Decisions
from ecliptic.tasks.classification.evaluation import judge
from ecliptic.tasks.classification.examples import (
    different_images,
    find_first,
    shown_before,
)
from ecliptic.tasks.classification.files import SavedClassifier, read_classifier, write_classifier
from ecliptic.tasks.classification.fitting import (
    Calibrator,
    FitSummary,
    Softmax,
    fit_one_label,
    fit_several_labels,
    to_softmax,
)
from ecliptic.tasks.classification.predictions import Predictions, answer_one, answer_several
from ecliptic.tasks.classification.report import ClassificationReport
from ecliptic.tasks.classification.scorer import Scorer
from ecliptic.tasks.classification.settings import FitSettings, Learner, Method, Promises
from ecliptic.tasks.classification.truths import find_label_sets, find_labels

Labels: TypeAlias = Sequence[str] | Mapping[str, object] | LabelTree
Classifiable: TypeAlias = "Images | Comparable"  # images, or their vectors


class Classifier:
    """Labels for images, by their texts and, once fitted, by labelled images.

    Before `fit` the probabilities are those of `Clip.classify`.
    """

    def __init__(
        self,
        clip: Clip,
        labels: Labels,
        templates: str | Sequence[Template] | None = None,
        *,
        several: bool = False,
        sure: float | None = None,
        background_images: "Classifiable | None" = None,
        background_texts: Sequence[str] | None = None,
    ) -> None:
        """Encode the texts of the labels.

        Args:
            clip: the model.
            labels: their names; or a tree of them, such as
                `{"animal": ["cat", "dog"], "vehicle": ["car"]}`.
            templates: as in `Clip.classify`.
            several: whether an image may have any number of labels.
            sure: for a tree, the probability that an answered node must have, above 0.5; without
                it, answers are leaves.
            background_images: 200 or more pictures of anything, or their vectors; each label's
                score is then how far it is above its usual one, which takes the lead from labels
                that are near to everything.
            background_texts: texts about nothing in particular, such as "a photo"; their mean
                cosine is taken from the scores of each image.

        Raises:
            ConfigError: equal labels, one label alone, a tree that makes no sense or has several
                labels per image, `sure` without a tree, both kinds of background, or too few
                images for one.
            InputError: no labels, or a background without texts.
        """
        self.clip = clip
        tree = read_tree(labels) if isinstance(labels, Mapping) else labels
        self.tree = tree if isinstance(tree, LabelTree) else None
        names = self.tree.leaves if self.tree else cast("Sequence[str]", labels)
        texts = clip.text_classifier(names, templates)
        self.labels = tuple(names)
        self.several = several
        if several and self.tree is not None:
            raise ConfigError(
                "a tree is for one label per image; leave several=True out, or give the labels "
                "as a list."
            )
        self.sure = self._check_sure(sure)
        _check_names(self.labels, several=several)
        scale = float(clip.model.logit_scale.detach().exp())
        self._scorer = Scorer(texts, scale)
        if background_images is not None or background_texts is not None:
            self._scorer = self._with_background(background_images, background_texts)
        self._calibrator: Calibrator | None = None if several else self._unfitted()
        self.decisions = Decisions()
        self.summary: FitSummary | None = None
        self._learned_from: Tensor | None = None  # (N, E), until it is saved and loaded

    def __repr__(self) -> str:
        how = self.summary.settings.method if self.summary else "not fitted"
        return f"Classifier({len(self.labels)} labels of {self.clip.card.name}, {how})"

    def fit(
        self,
        images: Classifiable,
        truth: Sequence[Any],
        *,
        method: Method | None = None,
        few_shot: Learner | None = None,
        per_label: bool = False,
        promises: Promises | None = None,
    ) -> Self:
        """Learn from labelled images how sure to be, and keep promises about the answers.

        Args:
            images: as in `Clip.encode_image`, or their vectors.
            truth: the right label of each, or "none of these"; with `several`, a list of labels.
            method: of the calibration: "temperature" from 10 images on, the default for one label
                per image; "platt" from 20 on, the default for several; "isotonic" from 1,000 on.
            few_shot: also learn what the labels look like, from 2 images of each on: "probe",
                a linear probe that starts at the texts, or "tip-adapter".
            per_label: a curve, or a level of the sets, for each label; all share one otherwise.
            promises: the accuracy, the coverage, and so on, to set thresholds for.

        Returns:
            The classifier itself; `summary` says what it learned.

        Raises:
            ConfigError: too few images, with the number that is needed; all of one label; a label
                that is not known; or settings that contradict each other.
            SpaceMismatchError, ShapeError, ImageError: images that cannot be used.
        """
        method = method or ("platt" if self.several else "temperature")
        settings = FitSettings(method, few_shot, per_label, promises or Promises())
        background = self._scorer.background or self._scorer.background_texts
        settings.check(several=self.several, has_background=background is not None)
        vectors = self._vectors(images)
        _refuse_zero(vectors)
        scorer = replace(self._scorer, learned=None)
        read = find_label_sets if self.several else find_labels
        right = read(truth, self.labels, len(vectors))
        examples = different_images(vectors, right, self.labels)
        if self.several:
            fitted = fit_several_labels(scorer, examples, self.labels, settings)
        else:
            former = self._unfitted()
            fitted = fit_one_label(scorer, examples, self.labels, settings, former)
        self._scorer, self._calibrator = fitted.scorer, fitted.calibrator
        self.decisions, self.summary = fitted.decisions, fitted.summary
        self._learned_from = vectors
        return self

    def predict(self, images: Classifiable, *, sure: float | None = None) -> Predictions:
        """The labels of images, with probabilities, and where it abstains.

        Args:
            images: as in `Clip.encode_image`, or their vectors.
            sure: in place of the classifier's own.

        Raises:
            ConfigError: several labels before `fit`, or `sure` without a tree.
            SpaceMismatchError, ShapeError, ImageError: images that cannot be used.
        """
        return self._predict(self._vectors(images), self._check_sure(sure) or self.sure)

    def evaluate(
        self, images: Classifiable, truth: Sequence[Any], names: Sequence[str] | None = None
    ) -> ClassificationReport:
        """Judge the answers for labelled images, which must not be those of `fit`.

        Args:
            images: as in `predict`.
            truth: as in `fit`.
            names: of the images, for the hardest examples.

        Raises:
            ConfigError: no images, or as `fit`.
        """
        vectors = self._vectors(images)
        found = self._predict(vectors, self.sure)
        if not len(found):
            raise ConfigError("an evaluation needs labelled images, got none.")
        if names is not None and len(names) != len(found):
            raise ConfigError(f"{len(names)} names for {len(found)} images; give one for each.")
        shown = list(names) if names is not None else [f"image {n}" for n in range(len(found))]
        read = find_label_sets if self.several else find_labels
        right = read(truth, self.labels, len(found))
        report = judge(found, right, shown, self.decisions, self.tree, several=self.several)
        return replace(report, notes=tuple(self._doubts(vectors, right)))

    def describe(self) -> list[str]:
        """What it was fitted on and what it promises, in lines for people."""
        if self.summary is None:
            return [
                f"{len(self.labels)} labels, not fitted: probabilities of {self.clip.card.name}"
            ]
        return [*self.summary.lines(), *self.decisions.lines(self.labels)]

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write everything but the model to a .safetensors file.

        Raises:
            StorageError: another suffix, the file exists and `overwrite` is False, or it cannot be
                written.
        """
        saved = SavedClassifier(
            labels=self.labels,
            space=self.clip.card.space,
            model=self.clip.card.name,
            scorer=self._scorer,
            several=self.several,
            tree=self.tree,
            sure=self.sure,
            calibrator=self._calibrator,
            decisions=self.decisions,
            summary=self.summary,
        )
        write_classifier(Path(path), saved, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str, clip: Clip) -> Self:
        """Read what `save` wrote; no text is encoded again.

        Raises:
            SpaceMismatchError: it is for vectors of another model than `clip`.
            StorageError: there is no such file.
            CorruptFileError: another kind of file, or damaged.
        """
        saved = read_classifier(Path(path), clip.card)
        self = cls.__new__(cls)
        self.clip, self.labels, self.tree = clip, saved.labels, saved.tree
        self.several, self._scorer = saved.several, saved.scorer
        self._calibrator, self.decisions = saved.calibrator, saved.decisions
        self.summary, self.sure, self._learned_from = saved.summary, saved.sure, None
        return self

    def _predict(self, vectors: Tensor, sure: float | None) -> Predictions:
        scores = self._scorer.scores(vectors)
        found = self._answer(scores, sure)
        nothing = (vectors == 0).all(dim=1)
        return replace(found, abstained=found.abstained | nothing)

    def _answer(self, scores: Tensor, sure: float | None) -> Predictions:
        logits, calibrator = self._scorer.scale * scores, self._calibrator
        if not self.several:
            assert calibrator is not None
            found = calibrator.probabilities(logits)
            return answer_one(found, scores, self.labels, self.decisions, self.tree, sure)
        if not isinstance(calibrator, PlattScaling | IsotonicScaling):
            raise ConfigError(
                "several labels per image have no probabilities before fit(images, truth), because "
                "nothing tells how near a label must be."
            )
        return answer_several(calibrator.shares(logits), scores, self.labels, self.decisions)

    def _unfitted(self) -> Softmax:
        """What makes the probabilities before a fit."""
        plain = replace(self._scorer, learned=None).plain
        card = self.clip.card.choose_calibration(None) if plain else None
        return to_softmax(card, self._scorer.scale, len(self.labels))

    def _check_sure(self, sure: float | None) -> float | None:
        if sure is not None:
            if self.tree is None:
                raise ConfigError("sure is for a tree of labels; give the labels as a mapping.")
            check_range("sure", sure, 0.5, 1.0, above=True)
        return sure

    def _doubts(self, vectors: Tensor, truth: Tensor) -> Iterator[str]:
        """What makes an evaluation on these images look better or surer than it is."""
        if self._learned_from is not None:
            seen = int(shown_before(vectors, self._learned_from).sum())
            if seen:
                yield (
                    f"{seen} of {len(vectors)} images were learned from, so the numbers look "
                    "better than they are; judge on other images"
                )
        first = find_first(vectors)
        again = first != torch.arange(len(first))
        if again.any():
            yield (
                f"{int(again.sum())} of {len(first)} images repeat others, so the intervals are "
                "too narrow"
            )
        apart = truth != truth[first]
        if wrong := int((apart.any(dim=1) if apart.ndim == 2 else apart).sum()):
            yield f"{wrong} of the repeated images have another label than before"

    def _with_background(
        self, images: "Classifiable | None", texts: Sequence[str] | None
    ) -> Scorer:
        if images is not None and texts is not None:
            raise ConfigError("give either background_images or background_texts, not both.")
        if images is not None:
            cosines = cosine(self._vectors(images), self._scorer.texts)
            return replace(self._scorer, background=fit_background(cosines))
        if isinstance(texts, str) or not texts:
            raise InputError(
                f"background_texts must be a list of at least one text, got {texts!r}."
            )
        return replace(self._scorer, background_texts=self.clip.encode_text(list(texts)))

    def _vectors(self, images: Classifiable) -> Tensor:
        found = given_vectors(images, self.clip.card)
        return self.clip.encode_image(cast("Images", images)) if found is None else found


def _check_names(labels: Sequence[str], *, several: bool) -> None:
    if fold_label(NONE_OF_THESE) in map(fold_label, labels):
        raise ConfigError(
            f'"{NONE_OF_THESE}" is the answer where no label fits; leave that label out.'
        )
    if len(labels) == 1 and not several:
        raise ConfigError(
            f"{labels[0]!r} is the only label, so it would always be the answer; add labels, or "
            "pass several=True to ask whether it fits."
        )


def _refuse_zero(vectors: Tensor) -> None:
    if bad := (vectors == 0).all(dim=1).nonzero()[:, 0].tolist():
        raise InputError(
            f"the vector of image {bad[0]} is zero, which teaches nothing; leave out such images "
            f"({len(bad)} of {len(vectors)})."
        )
