"""open_clip's tokenizer.py: the tokenizer of its models. N texts, T tokens of context."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from torch import Tensor

from ecliptic.compat.simple_tokenizer import SimpleTokenizer as Vocabulary, tokenize_rows
from ecliptic.errors import warn
from ecliptic.inputs import TokenizerSpec, TruncationWarning

DEFAULT_CONTEXT_LENGTH = 77
SPECIALS = ("<start_of_text>", "<end_of_text>")


class SimpleTokenizer(Vocabulary):
    """The tokenizer that `open_clip.get_tokenizer` returns; call it with texts."""

    specials = SPECIALS

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """(N, T) int64 ids; longer texts are cut, with a warning that quotes the lost words."""
        return _tokenize(texts, replace(self.spec, context=context_length or self.context_length))


def tokenize(texts: str | Sequence[str], context_length: int = DEFAULT_CONTEXT_LENGTH) -> Tensor:
    """(N, T) int64 ids; longer texts are cut, with a warning that quotes the lost words."""
    return _tokenize(texts, TokenizerSpec(context=context_length))


def decode(output_ids: Tensor) -> str:
    """Text of a row of ids, with a space after each word."""
    return _default().decode(output_ids.tolist())


@cache
def _default() -> SimpleTokenizer:
    return SimpleTokenizer()


def __getattr__(name: str) -> SimpleTokenizer:
    if name == "_tokenizer":  # made when it is first used
        return _default()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _tokenize(texts: str | Sequence[str], spec: TokenizerSpec) -> Tensor:
    ids, cut = tokenize_rows(texts, spec, SPECIALS)
    if cut:
        warn(f"{cut}. Shorten them.", TruncationWarning, stacklevel=3)
    return ids
