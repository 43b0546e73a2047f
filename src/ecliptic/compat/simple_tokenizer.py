"""`SimpleTokenizer` of both projects, over ecliptic's own tokenizer.

openai/CLIP clip/simple_tokenizer.py, open_clip/tokenizer.py. N texts, T tokens of context.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ecliptic.inputs import SPECIALS, Overflow, Tokenizer, TokenizerSpec, written_vocabulary


@lru_cache(maxsize=8)
def shared_tokenizer(spec: TokenizerSpec) -> Tokenizer:
    """The one tokenizer of a spec, so that all callers share its cache of words."""
    return Tokenizer(spec)


def tokenize_rows(texts: str | Sequence[str], spec: TokenizerSpec, overflow: Overflow) -> Tensor:
    """(N, T) int64 ids of `texts`, start and end of text included."""
    return torch.from_numpy(shared_tokenizer(spec).batch(texts, overflow).ids)


class SimpleTokenizer:
    """Bytes, merges and specials as dictionaries, and text to ids and back.

    `encode` turns special strings in the text into their ids, as the original does.
    """

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
        return shared_tokenizer(self.spec).encode(text, specials=True)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`, a space after each word."""
        text = shared_tokenizer(self.spec).decode(tokens)
        for usual, spelled in zip(SPECIALS, self.specials, strict=True):
            text = text.replace(usual, spelled)
        return text


class OpenClipTokenizer(SimpleTokenizer):
    """The tokenizer that `open_clip.get_tokenizer` returns; call it with texts."""

    specials = ("<start_of_text>", "<end_of_text>")

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """(N, T) int64 ids; longer texts are cut, with a warning that quotes the lost words."""
        context = context_length or self.context_length
        return tokenize_rows(texts, replace(self.spec, context=context), "warn")
