"""compel's weights: away from the empty prompt, and towards the prompt without what is light.

compel 2.5.1 embeddings_provider.py `get_embeddings_for_weighted_prompt_fragments`, with its
default DownweightMode.MASK. C chunks, T tokens, D width.

One thing is not as there: where truncation cuts a light fragment in two, compel also hides the
end-of-text in the last place, which moves the vector of that place.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ecliptic.diffusion.emphasis_source import Source, away_from_empty
from ecliptic.diffusion.rows import NO_WORD, Rows

LIGHTEST = 1e-5  # compel's; at 0 the tangent below is infinite


def compel(rows: Rows, z: Tensor, source: Source) -> Tensor:
    """`(E + sum t E') / (1 + sum t)`, over the fragments lighter than 1.

    E has every token at `(z - e) w + e`; E' is the same of an encoding whose attention cannot see
    the fragment; t grows from 0 at weight 1 over 1 at weight 0.5 to 63662 at 0 and below.
    """
    empty = source.empty(rows)
    total, share = away_from_empty(z, empty, rows.weights), 1.0
    for segment, weight in _light_fragments(rows):
        without = source.vectors(rows.masked(_all_but(rows, segment)))
        t = math.tan((1 - max(weight, LIGHTEST)) * math.pi / 2)
        total = total + t * away_from_empty(without, empty, rows.weights)
        share += t
    return total / share


def _light_fragments(rows: Rows) -> Iterator[tuple[int, float]]:
    """(number, weight) of every segment under a weight below 1."""
    light = (rows.weights < 1) & (rows.segments != NO_WORD)
    for segment in sorted(set(rows.segments[light].tolist())):
        yield segment, float(rows.weights[rows.segments == segment][0])


def _all_but(rows: Rows, segment: int) -> Tensor:
    """(C, T) bool: everything but the segment, with the end and padding that split it in two."""
    found = (rows.segments == segment).flatten().nonzero()[:, 0]  # one behind the other
    hidden = torch.zeros_like(rows.ids, dtype=torch.bool)
    hidden.view(-1)[int(found[0]) : int(found[-1]) + 1] = True
    hidden[:, 0] = hidden[:, -1] = False  # each chunk keeps its outer marks
    return ~hidden
