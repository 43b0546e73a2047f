"""Batches of a run, prepared ahead in worker processes.

A batch is a function of the settings and the step: neither workers nor processes hold a position or
a random state. B rows of this process, S side, T longest text.
"""

import hashlib
import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ecliptic.errors import EclipticError, StorageError
from ecliptic.inputs import Tokenizer, fold_label
from ecliptic.train.batch import Batch, Negatives, TextPairs
from ecliptic.train.data.augmentations import Augmentation, Decoded
from ecliptic.train.data.examples import Example, Examples, join_fingerprints
from ecliptic.train.data.mixture import Mixture, RowPlace
from ecliptic.train.data.permutation import mix
from ecliptic.train.data.wordnet import WordNetTexts

TEXTS = 0x54455854  # in the seeds of text pairs
ATTEMPTS = 10  # at other examples in the place of one that cannot be read


@dataclass(frozen=True)
class BadExample:
    """An example that could not be read."""

    source: int  # number in data.sources
    index: int
    key: str  # of the example, if it got so far
    kind: str  # class of the error
    reason: str


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch, and the examples that could not be read for it."""

    batch: Batch
    rejects: tuple[BadExample, ...]


@dataclass(frozen=True, eq=False)
class _Read:
    """What a row of a batch is made of."""

    example: Example  # without its image
    picture: Decoded
    seed: int


class TextPairMaker:
    """Makes the text pairs of any step.

    Args:
        sources: of pairs of texts.
        mixture: of these sources.
        tokenizer: of the texts.
        seed: of all that is random.
    """

    def __init__(
        self,
        sources: Sequence[WordNetTexts],
        mixture: Mixture,
        tokenizer: Tokenizer,
        seed: int,
    ) -> None:
        self.sources, self.mixture = sources, mixture
        self.tokenizer, self.seed = tokenizer, seed

    def make(self, step: int, rank: int, size: int) -> TextPairs:
        """The pairs of one of `size` processes."""
        rows = self.mixture.rows(step)
        first, last = (len(rows) * k // size for k in (rank, rank + 1))
        texts = [text for row in rows[first:last] for text in self._draw(row)]
        return TextPairs(*tokenize(self.tokenizer, texts), caption_ids(texts[1::2]))

    def _draw(self, row: RowPlace) -> tuple[str, str]:
        seed = mix(self.seed, TEXTS, row.source, row.epoch, row.index)
        return self.sources[row.source].draw(row.index, Random(seed))


class BatchMaker(Dataset[Prepared]):
    """Makes the rows of one process of the batch of any step; workers hold a copy.

    Args:
        sources: of examples.
        mixture: of these sources.
        augmentation: makes pixels of pictures.
        tokenizer: of the captions.
        seed: of all that is random.
        pairs: makes the text pairs of each step; None: there are none.
        rank, size: of this process and of all of them; a batch is cut into `size` runs of rows.
    """

    def __init__(
        self,
        sources: Sequence[Examples],
        mixture: Mixture,
        augmentation: Augmentation,
        tokenizer: Tokenizer,
        seed: int,
        *,
        pairs: TextPairMaker | None = None,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self.sources, self.mixture, self.augmentation = sources, mixture, augmentation
        self.pairs = pairs
        self.tokenizer, self.seed = tokenizer, seed
        self.rank, self.size = rank, size

    def __getitem__(self, step: int) -> Prepared:
        """The rows of this process of the batch of `step`, from 0.

        Raises:
            StorageError: `ATTEMPTS` examples in the place of one could not be read.
        """
        rows = self.mixture.rows(step)
        first, last = (len(rows) * k // self.size for k in (self.rank, self.rank + 1))
        rejects: list[BadExample] = []
        found = [self._read(row, rejects) for row in rows[first:last]]
        captions = [one.example.caption for one in found]
        seeds = [one.seed for one in found]
        pixels = self.augmentation.finish([one.picture for one in found], seeds)
        batch = Batch(
            pixels,
            *tokenize(self.tokenizer, captions),
            caption_ids([one.example.concept or one.example.caption for one in found]),
            captions,
            [one.example.key for one in found],
            self.augmentation.spec,
            self._gather_negatives(found),
            None if self.pairs is None else self.pairs.make(step, self.rank, self.size),
        )
        return Prepared(batch, tuple(rejects))

    def _gather_negatives(self, found: Sequence["_Read"]) -> Negatives | None:
        """The negatives of all rows; None where there are none."""
        texts = [text for one in found for text in one.example.negatives]
        return Negatives(*tokenize(self.tokenizer, texts), caption_ids(texts)) if texts else None

    def _read(self, row: RowPlace, rejects: list[BadExample]) -> "_Read":
        for attempt in range(ATTEMPTS):
            row = self.mixture.replace(row, attempt) if attempt else row
            seed = mix(self.seed, row.source, row.epoch, row.index)
            key = ""
            try:
                example = self.sources[row.source].draw(row.index, Random(seed))
                key = example.key
                picture = self.augmentation.decode(example.image, seed)
                return _Read(replace(example, image=b""), picture, seed)
            except EclipticError as error:
                kind, reason = type(error).__name__, str(error)
                rejects.append(BadExample(row.source, row.index, key, kind, reason))
        raise StorageError(
            f"{ATTEMPTS} examples in a row of source {row.source} of data.sources could not be "
            f"read, the last one because: {rejects[-1].reason}"
        )


class Batches:
    """The batches of a run for one process.

    Args:
        maker: makes them.
        workers: processes that make them; 0: this one.
        ahead: batches that each worker prepares ahead.
    """

    def __init__(self, maker: BatchMaker, *, workers: int = 0, ahead: int = 2) -> None:
        self.maker, self.workers, self.ahead = maker, workers, ahead

    def iterate(self, start: int, stop: int) -> Generator[Prepared, None, None]:
        """The batches of the steps from `start` to before `stop`, in order.

        Closing the iterator ends the workers.
        """
        more: dict[str, Any] = {}
        if self.workers:
            context = multiprocessing.get_context("forkserver")  # fork may stop in torch's threads
            context.set_forkserver_preload([__name__])
            more = {"prefetch_factor": self.ahead, "multiprocessing_context": context}
        loader = DataLoader(
            _Caught(self.maker),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=self.workers,
            collate_fn=_keep,
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # else it takes a number from the run's own generator
            **more,
        )
        made = iter(loader)
        try:
            for _ in range(start, stop):
                yield self._take(made)
        finally:
            if end := getattr(made, "_shutdown_workers", None):
                end()

    def _take(self, made: Iterator[Prepared | EclipticError]) -> Prepared:
        try:
            found = next(made)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or "Caught" in str(error):
                raise
            raise StorageError(
                f"a process that prepares batches has died ({error}); if memory ran out, lower "
                "data.workers or data.ahead."
            ) from error
        if isinstance(found, EclipticError):
            raise found
        return found

    @property
    def fingerprint(self) -> str:
        """What decides the batches beside the settings, in the form of `hash_files`."""
        pairs = self.maker.pairs
        parts = [source.fingerprint() for source in self.maker.sources]
        parts += [source.fingerprint() for source in pairs.sources] if pairs else []
        return join_fingerprints(parts)


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, cut to the longest text of the batch, and (B,) the lengths of the texts."""
    batch = tokenizer.batch(list(texts), overflow="truncate")
    ids = batch.ids[:, : batch.lengths.max(initial=1)]
    return torch.from_numpy(ids), torch.from_numpy(batch.lengths)


def caption_ids(captions: Sequence[str]) -> Tensor:
    """(B,) int64, equal for captions that differ in case and spaces only."""
    words = map(fold_label, captions)
    hashes = (hashlib.blake2b(w.encode(errors="replace"), digest_size=8).digest() for w in words)
    numbers = [int.from_bytes(value, "little") >> 1 for value in hashes]  # not negative
    return torch.tensor(numbers, dtype=torch.int64)


class _Caught(Dataset["Prepared | EclipticError"]):
    """Batches, or the error instead, so that it arrives from a worker as it was raised."""

    def __init__(self, maker: BatchMaker) -> None:
        self.maker = maker

    def __getitem__(self, step: int) -> Prepared | EclipticError:
        try:
            return self.maker[step]
        except EclipticError as error:
            return error


def _leave_signals(_: int) -> None:
    """Let a worker live when its whole group is asked to end: the run needs it for its last step.

    The run ends its workers itself; a second SIGTERM still ends one that hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _keep(prepared: Any) -> Any:
    return prepared
