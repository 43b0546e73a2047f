"""Retrieval and naming on held-out pairs during a run. N images, C texts, E vector size."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, EclipticError, StorageError, did_you_mean
from ecliptic.inputs import ImageSpec, Tokenizer, check_templates, fill, fold_label
from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime
from ecliptic.scoring import CalibrationFit, ensemble, fit_calibration, ranks
from ecliptic.train.batch import normalise
from ecliptic.train.data import Examples, Mixture, Named, Plain, open_sources, permute, tokenize
from ecliptic.train.evaluation.questions import ask
from ecliptic.train.settings import HeldOutSettings, TrainSettings

BATCH = 128
SHARE = "held_out"  # the name of the set that `data.held_out` makes
PLACES = (1, 5, 10)  # at which recall is measured
DIRECTIONS = ("image_to_text", "text_to_image")
_SAMPLE = 0x4556414C  # key of the order whose first part is measured of a large set


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One set to measure on; its images are read anew for each evaluation."""

    name: str
    source: Examples
    indices: Sequence[int]  # of the examples in the source
    names: bool = False  # the task: name each image, among all names of the source
    templates: tuple[str, ...] = ()  # of the names

    @property
    def recalls(self) -> list[str]:
        """Names of the numbers that are better the higher they are."""
        tasks = [self.name] if self.names else [f"{self.name}.{d}" for d in DIRECTIONS]
        return [f"{task}.at_{place}" for task in tasks for place in PLACES]


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of a set that could be read."""

    vectors: Tensor  # (N, E)
    captions: Sequence[tuple[str, ...]]
    unreadable: int


class Evaluation:
    """Measures a model on the held-out sets of a run.

    Args:
        settings: of the run.
        sources: those that it trains on.
        mixture: of these sources, which keeps some of their examples back.
        image_spec, tokenizer: of the model.

    Raises:
        ConfigError: two sets of one name, templates that are not used, `checkpoints.best` is
            none of the numbers, or `evaluate.calibrate` none of the sets with names.
        StorageError: a set cannot be read.
    """

    def __init__(
        self,
        settings: TrainSettings,
        sources: Sequence[Examples],
        mixture: Mixture,
        image_spec: ImageSpec,
        tokenizer: Tokenizer,
    ) -> None:
        self.plain, self.tokenizer = Plain(image_spec), tokenizer
        most = settings.evaluate.most
        root = settings.data.root
        self.sets = [_open(one, root, most) for one in settings.evaluate.sets]
        for number, source in enumerate(sources):
            if mixture.held[number]:
                name = SHARE if len(sources) == 1 else f"{SHARE}_{number}"
                indices = mixture.held_out(number)[:most].tolist()
                self.sets.append(HeldOut(name, source, indices))
        names = [one.name for one in self.sets]
        if len(set(names)) < len(names):
            raise ConfigError(f"held-out sets need different names, got {', '.join(names)}.")
        _check_best(settings.checkpoints.best, self.sets)
        self.calibrating = _find_calibrating(settings.evaluate.calibrate, self.sets)

    @torch.inference_mode()
    def measure(
        self, model: TwoTowers, proceed: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Numbers of each set by name: "SET.image_to_text.at_1", or "SET.at_1" of the names.

        The model is in eval mode meanwhile. Images that cannot be read are left out, and counted.
        `proceed` is called after each batch.
        """
        self.proceed = proceed
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            runtime = Runtime(model)
            found: dict[str, float] = {}
            for one in self.sets:
                images = self._encode_images(one, runtime)
                task = self._name if one.names else self._retrieve
                counts = {"images": len(images.captions), "unreadable": images.unreadable}
                numbers = counts | task(one, images, runtime)
                found |= {f"{one.name}.{key}": float(value) for key, value in numbers.items()}
            return found
        finally:
            for module, mode in modes.items():  # frozen parts were in eval mode before
                module.training = mode

    @torch.inference_mode()
    def calibrate(
        self, model: TwoTowers, proceed: Callable[[], None] = lambda: None
    ) -> CalibrationFit:
        """Fit the calibration of a model in eval mode on the sets that the settings name for it.

        Raises:
            ConfigError: it cannot tell right names from wrong ones, or a set has too few names.
        """
        self.proceed = proceed
        runtime, questions = Runtime(model), []
        for one in self.calibrating:
            images = self._encode_images(one, runtime)
            names, own = self._encode_names(one, images, runtime)
            questions.append(ask(images.vectors, names, own))
        cosines, answers = (torch.cat(part) for part in zip(*questions, strict=True))
        data = " and ".join(one.name for one in self.calibrating)
        with torch.inference_mode(mode=False):
            return fit_calibration(
                cosines.clone(), answers.clone(), float(model.logit_scale.detach().exp()), data
            )

    def _name(self, one: HeldOut, images: _Images, runtime: Runtime) -> dict[str, float]:
        """Recall of the own name of each image among all names."""
        names, own = self._encode_names(one, images, runtime)
        return {"names": len(names)} | _recall(ranks(images.vectors, names, own))

    def _encode_names(
        self, one: HeldOut, images: _Images, runtime: Runtime
    ) -> tuple[Tensor, Tensor]:
        """(C, E) vectors of all names of a set, and (I,) the name of each image."""
        own = [captions[0] for captions in images.captions]
        known = one.source.names if isinstance(one.source, Named) else ()
        names, places = _number([*known, *own])
        texts = [text for name in names for text in fill(one.templates or ("{}",), name)]
        vectors = self._encode_texts(texts, runtime)
        vectors = ensemble(vectors.view(len(names), -1, vectors.shape[1]))
        return vectors, torch.tensor(places[len(known) :])

    def _retrieve(self, one: HeldOut, images: _Images, runtime: Runtime) -> dict[str, float]:
        """Recall in both directions; of all captions of an image the best one counts.

        Equal captions are one text, and all images that have it are right.
        """
        del one
        texts, places = _number(text for captions in images.captions for text in captions)
        owners = [n for n, captions in enumerate(images.captions) for _ in captions]
        vectors = self._encode_texts(texts, runtime)
        pairs = torch.tensor(sorted(set(zip(owners, places, strict=True))))
        found: dict[str, float] = {"captions": len(texts)}
        to_text = ranks(images.vectors, vectors, pairs)
        to_image = ranks(vectors, images.vectors, pairs.flip(1))
        for name, values in zip(DIRECTIONS, (to_text, to_image), strict=True):
            found |= {f"{name}.{key}": value for key, value in _recall(values).items()}
        return found

    def _encode_images(self, one: HeldOut, runtime: Runtime) -> _Images:
        parts: list[Tensor] = []
        captions: list[tuple[str, ...]] = []
        for start in range(0, len(one.indices), BATCH):
            pictures = []
            for index in one.indices[start : start + BATCH]:
                try:
                    texts = one.source.captions(index)
                    pictures.append(self.plain.decode(one.source.picture(index), 0))
                    captions.append(texts)
                except EclipticError:
                    continue
            if pictures:
                pixels = self.plain.finish(pictures, ()).to(runtime.device)
                pixels = normalise(pixels, self.plain.spec)
                parts.append(runtime.image(pixels).float().cpu())
            self.proceed()
        if not parts:
            raise StorageError(f"no image of the held-out set {one.name!r} can be read.")
        return _Images(torch.cat(parts), captions, len(one.indices) - len(captions))

    def _encode_texts(self, texts: Sequence[str], runtime: Runtime) -> Tensor:
        parts = []
        for start in range(0, len(texts), BATCH):
            tokens, _ = tokenize(self.tokenizer, texts[start : start + BATCH])
            parts.append(runtime.text(tokens.to(runtime.device)).float().cpu())
            self.proceed()
        return torch.cat(parts)


def _open(one: HeldOutSettings, root: Path, most: int) -> HeldOut:
    """A set, or a part of a large one: from all over it, the same in every run."""
    names = one.task == "names"
    if one.templates:
        check_templates(one.templates)
        if not names:
            raise ConfigError(
                f"the held-out set {one.name!r} has templates, which the task {one.task!r} does "
                'not use; leave them out, or set task = "names".'
            )
    [source] = open_sources([one.source], root)
    indices: Sequence[int] = range(len(source))
    if len(source) > most:
        indices = sorted(permute(np.arange(most), len(source), _SAMPLE).tolist())
    return HeldOut(one.name, source, indices, names, one.templates)


def _check_best(best: str, sets: Sequence[HeldOut]) -> None:
    """Raise ConfigError unless `best` is a number that is better the higher it is."""
    known = [number for one in sets for number in one.recalls]
    if best and best not in known:
        fix = did_you_mean(best, known) or f"choose from {', '.join(known) or 'none'}."
        raise ConfigError(f"checkpoints.best = {best!r} is no recall of a held-out set; {fix}")


def _find_calibrating(wanted: Sequence[str], sets: Sequence[HeldOut]) -> list[HeldOut]:
    """The sets that fit the calibration.

    Raises:
        ConfigError: there is none of that name whose task is "names", or one name is given where a
            list of them is wanted.
    """
    if isinstance(wanted, str):
        raise ConfigError(f"evaluate.calibrate is a list of sets; write [{wanted!r}].")
    known = {one.name: one for one in sets if one.names}
    for name in wanted:
        if name not in known:
            fix = did_you_mean(name, known) or f"choose from {', '.join(known) or 'none'}."
            raise ConfigError(
                f'evaluate.calibrate = "{name}" is no held-out set of the task "names"; {fix}'
            )
    return [known[name] for name in dict.fromkeys(wanted)]


def _number(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Different texts, and which of them each text is; case and spaces make no difference."""
    found: dict[str, int] = {}
    first: list[str] = []
    places = []
    for text in texts:
        key = fold_label(text)
        if key not in found:
            found[key] = len(first)
            first.append(text)
        places.append(found[key])
    return first, places


def _recall(found: Tensor) -> dict[str, float]:
    """Shares of ranks within 1, 5 and 10, and the median rank."""
    at = {f"at_{k}": float((found <= k).double().mean()) for k in PLACES}
    return at | {"median_rank": float(found.double().median())}
