"""Turns texts into vectors: equal texts once, similar lengths together. N texts, E vector size."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ecliptic.engine.batches import Batcher, check_rows
from ecliptic.engine.cache import EmbeddingCache, key_of
from ecliptic.inputs import TokenBatch


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
