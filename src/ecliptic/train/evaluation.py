"""Retrieval and naming on held-out pairs during a run. N images, C captions, E vector size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, EclipticError, did_you_mean
from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime
from ecliptic.scoring import ranks
from ecliptic.train.batch import normalise
from ecliptic.train.data import Examples, Mixture, Named, Plain, open_sources, tokenize
from ecliptic.train.settings import HeldOutSettings, TrainSettings

BATCH = 128
CUTS = (1, 5, 10)  # ranks within which an answer counts
WAYS = ("image_to_text", "text_to_image")
SHARE = "held_out"  # the name of the set that `data.held_out` makes


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One set to measure on, read into memory as pixels are too many for it."""

    name: str
    source: Examples
    indices: Sequence[int]  # of the examples in the source
    names: bool  # the task: name each image, among all names of the source


class Evaluation:
    """Measures a model on the held-out sets of a run.

    Args:
        settings: of the run.
        sources: those that it trains on.
        mixture: of these sources, which keeps some of their examples back.
        image_spec, tokenizer: of the model.

    Raises:
        ConfigError: two sets of one name.
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
                self.sets.append(HeldOut(name, source, indices, names=False))
        names = [one.name for one in self.sets]
        if len(set(names)) < len(names):
            raise ConfigError(f"held-out sets need different names, got {', '.join(names)}.")
        self._check_best(settings.checkpoints.best)

    def _check_best(self, best: str) -> None:
        """Raise ConfigError unless `best` is a number that this measures, and grows with skill."""
        known = []
        for one in self.sets:
            tasks = [one.name] if one.names else [f"{one.name}.{way}" for way in WAYS]
            known += [f"{task}.at_{k}" for task in tasks for k in CUTS]
        if best and self.sets and best not in known:
            fix = did_you_mean(best, known) or f"choose from {', '.join(known)}."
            raise ConfigError(
                f"checkpoints.best = {best!r} is no share of the evaluation that grows as a model "
                f"gets better; {fix}"
            )

    @torch.inference_mode()
    def measure(
        self, model: TwoTowers, proceed: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Numbers of each set by name: "SET.image_to_text.at_1", or "SET.at_1" of the names.

        The model is in eval mode meanwhile. Examples that cannot be read are left out. `proceed` is
        called after each batch.
        """
        self.proceed = proceed
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            runtime = Runtime(model)
            found: dict[str, float] = {}
            for one in self.sets:
                task = self._name if one.names else self._retrieve
                found |= {f"{one.name}.{key}": value for key, value in task(one, runtime).items()}
            return found
        finally:
            for module, mode in modes.items():  # frozen parts were in eval mode before
                module.training = mode

    def _name(self, one: HeldOut, runtime: Runtime) -> dict[str, float]:
        """Recall of the own name of each image among all names."""
        images, captions = self._encode_images(one, runtime)
        own = [texts[0] for texts in captions]
        known = one.source.names if isinstance(one.source, Named) else ()
        names = list(dict.fromkeys([*known, *own]))
        places = {name: place for place, name in enumerate(names)}
        targets = torch.tensor([places[name] for name in own], dtype=torch.int64)
        found = ranks(images, self._encode_texts(names, runtime), targets)
        return _recall(found) | {"images": float(len(images)), "names": float(len(names))}

    def _retrieve(self, one: HeldOut, runtime: Runtime) -> dict[str, float]:
        """Recall in both directions; of an image's captions, the best one counts."""
        images, captions = self._encode_images(one, runtime)
        owners = torch.tensor([n for n, own in enumerate(captions) for _ in own])
        texts = self._encode_texts([text for own in captions for text in own], runtime)
        to_image = ranks(texts, images, owners)
        per_caption = ranks(images[owners], texts, torch.arange(len(texts)))
        best = torch.full((len(images),), len(texts) + 1)
        to_text = best.scatter_reduce(0, owners, per_caption, "amin")
        found = {"images": float(len(images)), "captions": float(len(texts))}
        for name, values in zip(WAYS, (to_text, to_image), strict=True):
            found |= {f"{name}.{key}": value for key, value in _recall(values).items()}
        return found

    def _encode_images(
        self, one: HeldOut, runtime: Runtime
    ) -> tuple[Tensor, list[tuple[str, ...]]]:
        """(N, E) vectors, and the captions, of the examples that could be read."""
        parts: list[Tensor] = []
        kept: list[tuple[str, ...]] = []
        for start in range(0, len(one.indices), BATCH):
            pictures = []
            for index in one.indices[start : start + BATCH]:
                try:
                    captions = one.source.captions(index)
                    pictures.append(self.plain.decode(one.source.picture(index), 0))
                    kept.append(captions)
                except EclipticError:
                    continue
            if pictures:
                pixels = self.plain.finish(pictures, ()).to(runtime.device)
                pixels = normalise(pixels, self.plain.spec)
                parts.append(runtime.image(pixels).float().cpu())
            self.proceed()
        if not parts:
            raise ConfigError(f"no example of the held-out set {one.name!r} can be read.")
        return torch.cat(parts), kept

    def _encode_texts(self, texts: Sequence[str], runtime: Runtime) -> Tensor:
        parts = []
        for start in range(0, len(texts), BATCH):
            tokens, _ = tokenize(self.tokenizer, texts[start : start + BATCH])
            parts.append(runtime.text(tokens.to(runtime.device)).float().cpu())
            self.proceed()
        return torch.cat(parts)


def _open(one: HeldOutSettings, root: Path, most: int) -> HeldOut:
    [source] = open_sources([one.source], root)
    return HeldOut(one.name, source, range(min(len(source), most)), one.task == "names")


def _recall(found: Tensor) -> dict[str, float]:
    """Shares of ranks within 1, 5 and 10, and the median rank."""
    at = {f"at_{k}": float((found <= k).double().mean()) for k in CUTS}
    return at | {"median_rank": float(found.double().median())}
