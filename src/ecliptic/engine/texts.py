"""Turns texts into vectors: equal texts once, similar lengths together; checks tokens and labels.

N texts, T tokens of context, E vector size.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.engine.batches import Batcher, check_rows
from ecliptic.engine.cache import EmbeddingCache, key_of
from ecliptic.engine.image_lists import check_ordered
from ecliptic.errors import ConfigError, InputError, ShapeError, TextError
from ecliptic.inputs import TokenBatch, TokenizerSpec, fold_label

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def given_tokens(given: Any, spec: TokenizerSpec, vocabulary: int) -> TokenBatch | None:
    """Check token ids that were given in place of texts; None if texts were.

    Args:
        given: a tensor or array (N, T) of whole numbers, T the context; (T,) is one row.
        spec: of the tokenizer.
        vocabulary: ids that the model has.

    Raises:
        TextError: not whole numbers, an id that the model does not have, or a row without start
            or end of text.
        ShapeError: another number of tokens than the context.
    """
    given = _read_numbers(given)
    if given is None:
        return None
    ids = given[None] if given.ndim == 1 else given
    if ids.ndim != 2 or ids.shape[1] != spec.context:
        raise ShapeError(
            f"tokens must be (N, {spec.context}) with start and end of text, padded, got "
            f"{given.shape}; make them with `clip.tokenize`."
        )
    ends = ids == spec.end_of_text
    for wrong, what in (
        (((ids < 0) | (ids >= vocabulary)).any(axis=1), f"has ids outside 0 to {vocabulary - 1}"),
        (ids[:, 0] != spec.start_of_text, f"does not begin with {spec.start_of_text}, the start"),
        (~ends.any(axis=1), f"has no {spec.end_of_text}, the end"),
    ):
        if wrong.any():
            raise TextError(
                f"row {wrong.argmax()} of the tokens {what}; make them with `clip.tokenize` of "
                "this model."
            )
    return TokenBatch(np.ascontiguousarray(ids, dtype=np.int64), ends.argmax(axis=1) + 1)


def _read_numbers(given: Any) -> NDArray[Any] | None:
    """The whole numbers of a tensor or array; None for anything that may be texts."""
    if isinstance(given, Tensor):
        numbers = given.dtype in _WHOLE
    elif isinstance(given, np.ndarray) and given.dtype.kind in "biufc":
        numbers = given.dtype.kind in "iu"
    else:
        return None
    if not numbers:
        raise TextError(
            f"tokens must be whole numbers, got {given.dtype}; pass texts, or what `clip.tokenize` "
            "gives."
        )
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else given


def check_labels(labels: Any) -> list[str]:
    """A list of the class names.

    Raises:
        InputError: none, no list, or one that is no text.
        ConfigError: two that are the same to the model.
    """
    check_ordered(labels, "labels")
    names = list(labels) if isinstance(labels, Iterable) and not isinstance(labels, str) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"labels must be a list of at least one class name, got {labels!r}.")
    first: dict[str, str] = {}  # as the tokenizer reads it -> as it was given
    for name in names:
        read = fold_label(name)
        if read in first:
            raise ConfigError(
                f"the labels {first[read]!r} and {name!r} are the same to the model, so each would "
                "get a part of one probability; leave one out."
            )
        first[read] = name
    return names


def encode_tokens(
    tokens: TokenBatch,
    encode: Callable[[Tensor], Tensor],
    batcher: Batcher,
    *,
    width: int,
    cache: EmbeddingCache | None = None,
    exact: Callable[[], str] = lambda: "",
    advance: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """(N, E) raw float32 vectors on CPU, in the order of `tokens`.

    Args:
        tokens: N rows of ids and how many of each are in use.
        encode: (B, T) ids -> (B, E).
        batcher: cuts the batches.
        width: E.
        cache: read first, and filled.
        exact: the model's fingerprint, called only with a cache.
        advance: called with the number of newly done texts.
    """
    rows = [ids[:n].tobytes() for ids, n in zip(tokens.ids, tokens.lengths, strict=True)]
    first = {row: i for i, row in reversed(list(enumerate(rows)))}  # text -> its first place
    found: dict[bytes, Tensor] = {}
    keys: dict[bytes, bytes] = {}
    if cache is not None:
        fingerprint = exact()
        keys = {row: key_of(fingerprint, "text", row) for row in first}
        stored = cache.get(list(keys.values()), width)
        found = {row: torch.from_numpy(stored[key]) for row, key in keys.items() if key in stored}
        advance(sum(row in found for row in rows))
    todo = sorted((row for row in first if row not in found), key=len)
    counts = Counter(rows)
    for start in range(0, len(todo), size := batcher.size):
        some = todo[start : start + size]
        longest = int(tokens.lengths[first[some[-1]]])
        ids = torch.from_numpy(tokens.ids[[first[row] for row in some], :longest])
        vectors = batcher.run(encode, ids).float().cpu()
        check_rows(vectors, lambda i, some=some: f"text {first[some[i]]}")  # type: ignore[misc]
        found |= dict(zip(some, vectors, strict=True))
        if cache is not None:
            cache.put({keys[row]: np.asarray(found[row]) for row in some})
        advance(sum(counts[row] for row in some))
    return torch.stack([found[row] for row in rows])
