"""`Clip` turns images and texts into vectors, similarities and class probabilities.

It does tokenizing, decoding, batches, devices, precision and caching. Vectors are float32 on CPU,
and unit length by default. The cache holds vectors of the model as loaded, so it is not used after
the weights change; torch counts no writes to `tensor.data`, so those are not seen. The other items
of a batch change a vector only by rounding: cosine above 1 - 1e-6 in fp32, 1 - 1e-3 in half
precision and int8.
N items, T texts, I images, L labels, E vector size, S image side.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Layout, write
from ecliptic.checks import check_count
from ecliptic.engine.batches import Batcher
from ecliptic.engine.cache import EmbeddingCache
from ecliptic.engine.card import Card
from ecliptic.engine.image_lists import Images, check_ordered, image_items
from ecliptic.engine.images import IMAGE_BATCH, Encoded, ImageEncoder
from ecliptic.engine.progress import progress_bar
from ecliptic.engine.texts import check_labels, encode_tokens, given_tokens
from ecliptic.engine.vectors import Comparable, given_vectors
from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.inputs import (
    ImageSource,
    Overflow,
    Preprocess,
    Template,
    TokenBatch,
    Tokenizer,
    check_templates,
    fill,
    templates as template_set,
)
from ecliptic.model import Quantisation, TwoTowers, WeightState
from ecliptic.runtime import Reduced, Runtime
from ecliptic.scoring import cosine, ensemble, probabilities

TEXT_BATCH = 64
_UNSTORED = 'no layout stores which layers are fp8; load it with precision="fp8" again'
Texts: TypeAlias = str | Sequence[str] | Tensor | NDArray[Any]  # texts, or their token ids


class Clip:
    """A loaded model with its tokenizer and preprocessing; made by `load`."""

    def __init__(
        self,
        runtime: Runtime,
        card: Card,
        checkpoint: Checkpoint,
        preprocess: Preprocess | None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.runtime = runtime
        self.model = model = runtime.model
        self._card = card
        self._checkpoint = checkpoint
        self._preprocess = preprocess
        self._tokenizer: Tokenizer | None = None
        self._cache = cache
        self._loaded = self._carded = WeightState.of(_weights(model))

    def __repr__(self) -> str:
        card = self.card
        return f"Clip({card.name!r}, embed={card.embed}, {card.precision} on {card.device})"

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: whether the weights changed, in place of references to them."""
        weights = list(_weights(self.model))
        states = {"_loaded": self._loaded.holds(weights), "_carded": self._carded.holds(weights)}
        return vars(self) | states

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        now = WeightState.of(_weights(self.model))
        self._loaded = now if state["_loaded"] else WeightState.changed()
        self._carded = now if state["_carded"] else WeightState.changed()

    @property
    def card(self) -> Card:
        """The description of the model; a new one after its weights are trained, replaced or moved.

        torch counts the writes of optimisers, so a change is seen; it does not count writes to
        `tensor.data`, so after those save the model and load it again.
        """
        if not self._carded.holds(_weights(self.model)):
            how = (self.runtime.precision, str(self.device), self.runtime.widened)
            self._card = self._card.renew(self._collect_weights(), *how)
            self._carded = WeightState.of(_weights(self.model))
        return self._card

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.logit_scale.device

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; MissingTowerError if there is no text side."""
        if self._card.tokenizer_spec is None:
            _ = self.model.text_tower  # raises
            raise MissingTowerError(f"{self._card.name} has no tokenizer.")
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self._card.tokenizer_spec)
        return self._tokenizer

    @property
    def preprocessor(self) -> Preprocess:
        """Turns images into pixels; MissingTowerError if there is no image side."""
        if self._preprocess is None:
            _ = self.model.image_tower  # raises
            raise MissingTowerError(f"{self._card.name} has no preprocessing.")
        return self._preprocess

    def encode_text(
        self,
        texts: Texts,
        *,
        normalize: bool = True,
        overflow: Overflow = "warn",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """(N, E) float32 vectors of N texts, in order; a single string is one row.

        Args:
            texts: one text or many, or their (N, context) token ids; equal ones are computed once.
            normalize: make each vector unit length.
            overflow: what to do with a text above the context: "warn" and cut, "error", or
                "truncate" silently. The end-of-text token is always kept.
            batch_size: texts at a time; halved when memory runs out.
            progress: show a bar on stderr.

        Raises:
            TextError, TextTooLongError: a text that cannot be tokenized, or is too long; ids that
                are not the model's.
            ShapeError: token ids of another context.
            NumericalError: the vector of a text would hold NaN or infinity.
            MissingTowerError: the checkpoint has no text side.
        """
        _ = self.model.text_tower  # raises without one
        check_ordered(texts, "texts")
        batcher = Batcher(TEXT_BATCH if batch_size is None else batch_size)
        tokens = self._tokens(texts, overflow)
        if not len(tokens.ids):
            return torch.empty(0, self._card.embed)
        with progress_bar("texts", len(tokens.ids), show=progress) as advance:
            vectors = encode_tokens(
                tokens,
                self.runtime.text,
                batcher,
                width=self._card.embed,
                cache=self._usable_cache(),
                exact=lambda: self.card.exact,
                advance=advance,
            )
        return F.normalize(vectors, dim=-1) if normalize else vectors

    @overload
    def encode_image(
        self,
        images: Images,
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["raise"] = "raise",
    ) -> Tensor: ...

    @overload
    def encode_image(
        self,
        images: Images,
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["reject"],
    ) -> Encoded: ...

    def encode_image(
        self,
        images: Images,
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["raise", "reject"] = "raise",
    ) -> Tensor | Encoded:
        """(N, E) float32 vectors of N images, in order; a single image is one row.

        Args:
            images: paths, PIL images, (H, W, C) uint8 arrays, encoded bytes, (3, S, S) pixels from
                `preprocess`, or a list that mixes them.
            normalize: make each vector unit length.
            batch_size: images at a time; halved when memory runs out.
            progress: show a bar on stderr.
            on_error: "raise" at the first image that cannot be used, or "reject" it: the result
                then has `.vectors`, `.kept` (which image each row is) and `.rejected`.

        Raises:
            ImageError: with `on_error="raise"`, an image cannot be used.
            NumericalError: with `on_error="raise"`, a vector would hold NaN or infinity.
            ConfigError: a ResNet in train mode.
            MissingTowerError: the checkpoint has no image side.
        """
        items = list(image_items(images))
        parts: list[Encoded] = []
        with progress_bar("images", len(items), show=progress) as advance:
            for part in self.stream_image(
                items, normalize=normalize, batch_size=batch_size, on_error=on_error
            ):
                parts.append(part)
                advance(len(part.kept) + len(part.rejected))
        vectors = torch.cat([torch.empty(0, self._card.embed), *(p.vectors for p in parts)])
        if on_error == "raise":
            return vectors
        kept = tuple(i for part in parts for i in part.kept)
        return Encoded(vectors, kept, tuple(r for part in parts for r in part.rejected))

    def stream_image(
        self,
        images: Iterable[ImageSource],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        on_error: Literal["raise", "reject"] = "raise",
    ) -> Iterator[Encoded]:
        """Vectors of any number of images, a batch at a time and in order; memory is bounded.

        `kept` and `rejected` count from the start of `images`, which is read lazily. Arguments and
        errors are those of `encode_image`; wrong arguments raise at once.
        """
        if on_error not in ("raise", "reject"):
            raise ConfigError(f'on_error must be "raise" or "reject", got {on_error!r}.')
        size = check_count("batch_size", IMAGE_BATCH if batch_size is None else batch_size)
        return self.image_encoder().stream(
            image_items(images), size, normalize=normalize, reject=on_error == "reject"
        )

    def image_encoder(self, layer: int | None = None) -> ImageEncoder:
        """The encoder of `stream_image`; with `layer`, it gives hidden states (T, D) of each image.

        Raises:
            ConfigError: there is no such layer, or the tower is a ResNet, which has no tokens.
            MissingTowerError: the checkpoint has no image side.
        """
        if layer is not None:
            encode = partial(self.runtime.image_sequence, layer=layer)
            return ImageEncoder(self.preprocessor, encode, self.runtime.image_sequence_shape(layer))
        _ = self.model.image_tower  # raises without one
        return ImageEncoder(
            self.preprocessor,
            self.runtime.image,
            (self._card.embed,),
            self._usable_cache(),
            lambda: self.card.exact,
        )

    def similarity(self, texts: "Texts | Comparable", images: "Images | Comparable") -> Tensor:
        """(T, I) cosines of every text with every image.

        Either may be vectors of this model: a tensor or array of floats (N, E), or `Vectors`.

        Raises:
            SpaceMismatchError: stored vectors of another model.
            ShapeError: vectors of another size.
        """
        return cosine(self._text_vectors(texts), self._image_vectors(images))

    def classify(
        self,
        images: "Images | Comparable",
        labels: Sequence[str] | Comparable,
        templates: str | Sequence[Template] | None = None,
        *,
        calibrated: bool | None = None,
    ) -> Tensor:
        """(I, L) probabilities of each label: softmax(exp(logit_scale) * cosine).

        With the calibration of a card, such as that of "mini", they are those of
        `Calibration.probabilities`. A row then adds up to less than 1: the rest is the probability
        that none of the labels fits.

        Args:
            images: as in `encode_image`, or their vectors.
            labels: L class names, or their vectors, such as those of `text_classifier`.
            templates: prompts with a `{}` or functions of the label, the name of a shipped set
                ("imagenet", ...), or None for the bare labels. Several are averaged per label.
            calibrated: with the calibration of the card; None: if it has one.

        Raises:
            InputError, ConfigError: no labels, equal labels, no `{}`, or no calibration.
            NumericalError: the checkpoint's logit_scale is NaN or too large.
            SpaceMismatchError, ShapeError: vectors of another model.
        """
        classifier = given_vectors(labels, self.card)
        if classifier is None:
            classifier = self.text_classifier(cast("Sequence[str]", labels), templates)
        elif templates is not None:
            raise ConfigError("templates need class names, but labels are vectors; leave one out.")
        cosines = cosine(self._image_vectors(images), classifier)
        return self.probabilities(cosines, calibrated=calibrated)

    def probabilities(self, cosines: Tensor, *, calibrated: bool | None = None) -> Tensor:
        """(I, L) cosines -> (I, L) probabilities, and errors, as of `classify`."""
        if calibration := self.card.choose_calibration(calibrated):
            return calibration.probabilities(cosines)
        return probabilities(cosines, float(self.model.logit_scale.detach().exp()))

    def text_classifier(
        self, labels: Sequence[str], templates: str | Sequence[Template] | None = None
    ) -> Tensor:
        """(L, E) unit vectors of L labels, each the mean of its prompts' unit vectors."""
        labels = check_labels(labels)
        if templates is None:
            return self.encode_text(labels)
        prompts: Any = template_set(templates) if isinstance(templates, str) else templates
        prompts = tuple(prompts) if isinstance(prompts, Iterable) else prompts
        check_templates(prompts)
        texts = [prompt for label in labels for prompt in fill(prompts, label)]
        vectors = self.encode_text(texts)
        return ensemble(vectors.view(len(labels), len(prompts), -1))

    def tokenize(self, texts: str | Sequence[str], overflow: Overflow = "warn") -> Tensor:
        """(N, context) int64 ids, start and end of text included, padded."""
        return torch.from_numpy(self.tokenizer(texts, overflow))

    def preprocess(self, image: ImageSource) -> Tensor:
        """(3, S, S) float32 normalised pixels of one image."""
        return torch.from_numpy(self.preprocessor(image))

    def save(
        self, path: Path | str, layout: Layout = "ecliptic", *, overwrite: bool = False
    ) -> tuple[str, ...]:
        """Write the model as it is now; weights unchanged since loading keep their stored dtype.

        Returns notes on what it does not store; UnsupportedLayoutError if it cannot hold the model.
        """
        reduced = self.runtime.quantisation
        checkpoint = replace(
            self._checkpoint,
            weights=self._collect_weights(),
            image_spec=self._card.image_spec,  # the one in use
            notes=(),
            calibration=self.card.calibration,
            quantisation=reduced if isinstance(reduced, Quantisation) else None,
        )
        notes = write(checkpoint, path, layout, overwrite=overwrite)
        return (*notes, _UNSTORED) if reduced and not checkpoint.quantisation else notes

    def quantised(self, layers: Reduced) -> "Clip":
        """The same model with these int8 or fp8 layers; ConfigError: of other weights."""
        card = self.card.reduce(layers, self.runtime.kernels)
        runtime = Runtime(self.model, kernels=self.runtime.kernels, quantisation=layers)
        return Clip(runtime, card, self._checkpoint, self._preprocess, self._cache)

    def _tokens(self, texts: Texts, overflow: Overflow) -> TokenBatch:
        rows = self.model.text_tower.config.vocabulary
        tokens = given_tokens(texts, self.tokenizer.spec, rows)
        return self.tokenizer.batch(cast("Any", texts), overflow) if tokens is None else tokens

    def _text_vectors(self, texts: "Texts | Comparable") -> Tensor:
        vectors = given_vectors(texts, self.card)
        return self.encode_text(cast("Texts", texts)) if vectors is None else vectors

    def _image_vectors(self, images: "Images | Comparable") -> Tensor:
        vectors = given_vectors(images, self.card)
        return self.encode_image(cast("Images", images)) if vectors is None else vectors

    def _collect_weights(self) -> dict[str, Tensor]:
        """The current weights; an unchanged one keeps its stored dtype."""
        now = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        stored = self._checkpoint.weights
        return {n: stored[n] if _same(stored[n], t) else t for n, t in now.items() if n in stored}

    def _usable_cache(self) -> EmbeddingCache | None:
        """The cache; None once the weights changed, because its keys are of the loaded ones."""
        unchanged = self._cache is not None and self._loaded.holds(_weights(self.model))
        return self._cache if unchanged else None


def _weights(model: TwoTowers) -> Iterator[Tensor]:
    """All parameters and buffers of the model."""
    return itertools.chain(model.parameters(), model.buffers())


def _same(stored: Tensor, now: Tensor) -> bool:
    return stored.shape == now.shape and bool(torch.equal(stored.to(now.dtype), now))
