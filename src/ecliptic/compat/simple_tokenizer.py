"""`SimpleTokenizer` of both projects, over ecliptic's own tokenizer.

openai/CLIP clip/simple_tokenizer.py, open_clip/tokenizer.py. Special strings in a text become
their ids, as in the originals. N texts, T tokens of context.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import regex
import torch
from torch import Tensor

from ecliptic.inputs import (
    SPECIALS,
    WORD,
    TokenBatch,
    Tokenizer,
    TokenizerSpec,
    written_vocabulary,
)


class ReadingSpecials(Tokenizer):
    """A tokenizer that reads one project's `specials`, its start and end of text, in a text."""

    reads_specials = True

    def __init__(self, spec: TokenizerSpec, specials: tuple[str, str]) -> None:
        super().__init__(spec)
        self._ids = dict(zip(specials, (spec.start_of_text, spec.end_of_text), strict=True))
        either = "|".join(map(regex.escape, specials))
        self._pattern = regex.compile(f"{either}|{WORD.pattern}", regex.IGNORECASE)

    def encode(self, text: str, *, specials: bool = True) -> list[int]:
        """Ids of `text` without start and end."""
        return super().encode(text, specials=specials)

    def words(
        self, cleaned: str, *, specials: bool = True
    ) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """Yield (span in `cleaned`, ids) of every word and special of a clean text."""
        if not specials:
            yield from super().words(cleaned)
            return
        for word in self._pattern.finditer(cleaned):
            special = self._ids.get(word.group())
            ids = self.pairs.encode_word(word.group().encode()) if special is None else [special]
            yield word.span(), ids


@lru_cache(maxsize=8)
def shared_tokenizer(spec: TokenizerSpec, specials: tuple[str, str]) -> ReadingSpecials:
    """The one tokenizer of a spec, so that all callers share its cache of words."""
    return ReadingSpecials(spec, specials)


class SimpleTokenizer:
    """Bytes, merges and specials as dictionaries, and text to ids and back."""

    specials = SPECIALS  # as written in the vocabulary

    def __init__(self, spec: TokenizerSpec | None = None) -> None:
        self.spec = spec or TokenizerSpec()
        written = [*written_vocabulary(self.spec.merges)[:-2], *self.specials]
        self.encoder = {piece: id_ for id_, piece in enumerate(written)}
        self.decoder = dict(enumerate(written))
        self.vocab_size = len(written)
        self.context_length = self.spec.context
        self.all_special_ids = [self.spec.start_of_text, self.spec.end_of_text]
        self.sot_token_id, self.eot_token_id = self.all_special_ids

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without start and end."""
        return shared_tokenizer(self.spec, self.specials).encode(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`, a space after each word."""
        text = shared_tokenizer(self.spec, self.specials).decode(tokens)
        for usual, spelled in zip(SPECIALS, self.specials, strict=True):
            text = text.replace(usual, spelled)
        return text


def tokenize_rows(
    texts: str | Sequence[str], spec: TokenizerSpec, specials: tuple[str, str]
) -> tuple[Tensor, str]:
    """(N, T) int64 ids with start and end of text, and what was cut in words ("" for nothing)."""
    batch = shared_tokenizer(spec, specials).batch(texts, "truncate")
    return torch.from_numpy(batch.ids), _describe_cuts(batch, spec.context)


def _describe_cuts(batch: TokenBatch, context: int, shown: int = 5, length: int = 80) -> str:
    some = itertools.islice(batch.cut.items(), shown)
    lost = [f"text {row} loses {find_dropped()[:length]!r}" for row, find_dropped in some]
    more = len(batch.cut) - len(lost)
    if not lost:
        return ""
    rest = f"; and {more} more" if more else ""
    return f"{len(batch.cut)} text(s) need more than {context} tokens: {'; '.join(lost)}{rest}"
