"""What stands at the end of text of each chunk of a long prompt.

Source: compel 2.5.1 embeddings_provider.py, `SplitLongTextMode.COPY_FIRST_CLS_TOKEN` ("first") and
`MERGE_CLS_TOKENS` ("mean"), which it applies after the weights. C chunks, T tokens, D width.
"""

import torch
from torch import Tensor

from ecliptic.diffusion.emphasis.scaling import widen
from ecliptic.diffusion.options import ChunkEnds
from ecliptic.diffusion.tokens.chunks import Chunks


def share_ends(chunks: Chunks, z: Tensor, rule: ChunkEnds, *, end: int) -> Tensor:
    """Put one vector at the end of text of every chunk.

    Args:
        chunks: of the prompt.
        z: (C, T, D) their weighted vectors.
        rule: "own" changes nothing, "first" takes the first chunk's, "mean" the mean of all.
        end: id of the end of text; its first place in a chunk counts, the others are padding.
    """
    if rule == "own" or len(chunks) == 1:
        return z
    places = (chunks.ids == end).int().argmax(dim=-1).to(z.device)  # (C,)
    rows = torch.arange(len(z), device=z.device)
    found = z[rows, places]  # (C, D)
    shared = found[0] if rule == "first" else widen(found).mean(dim=0).to(z.dtype)
    return z.index_put((rows, places), shared.expand(len(z), -1))
