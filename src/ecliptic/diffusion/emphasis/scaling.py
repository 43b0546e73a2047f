"""Multiplies vectors by their weights, and keeps the mean (A1111, lpw) or not (no norm, kohya).

Sources: AUTOMATIC1111 stable-diffusion-webui modules/sd_emphasis.py; diffusers' community pipeline
lpw_stable_diffusion.py; kohya sd-scripts' weighted captions.
B prompts, C chunks, T tokens, D width.

None of these tools limits the ratio of means. Negative weights, or a mean near 0, make it huge or
negative. It then scales or flips every vector, also the unweighted ones. So a ratio outside
[1 / RESCALE_LIMIT, RESCALE_LIMIT] is not applied: the vectors are those of "no-norm", with a
RescaleWarning.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.errors import ShapeError, warn

RESCALE_LIMIT = 10.0  # times; released encoders stay well inside for weights from 0 to 2


class RescaleWarning(UserWarning):
    """The mean could not be kept, so the vectors were weighted without rescaling."""


def no_norm(chunks: Chunks, z: Tensor) -> Tensor:
    """Multiply every vector by its weight."""
    return z * chunks.weights.to(z).unsqueeze(-1)


def original(chunks: Chunks, z: Tensor) -> Tensor:
    """Multiply by the weight, then by `mean(z) / mean(z w)`, one ratio for each chunk.

    A1111 takes both means over its whole batch, so an image depends on the other prompts;
    `original_batch` does the same.
    """
    weighted = no_norm(chunks, z)
    changed = (chunks.weights != 1).any(dim=-1).to(z.device)  # (C,)
    ratio = _ratio(z.mean((1, 2)), weighted.mean((1, 2)), changed)  # (C,)
    return weighted * ratio[:, None, None]


def lpw(chunks: Chunks, z: Tensor) -> Tensor:
    """Like `original`, but with one ratio for all chunks, from the `used` positions."""
    weighted = no_norm(chunks, z)
    changed = (chunks.weights.to(z.device) != 1).any()
    return weighted * _ratio(chunks.keep(z).mean(), chunks.keep(weighted).mean(), changed)


def original_batch(z: Sequence[Tensor], prompts: Sequence[Chunks]) -> list[Tensor]:
    """Apply A1111's emphasis exactly: one ratio for each chunk number, over the whole batch.

    The ratio has no limit; only one that is not finite is not applied, with a RescaleWarning.

    Args:
        z: (C, T, D) vectors of each prompt; pad shorter prompts with encoded empty chunks first,
            as A1111 does, whose means include them.
        prompts: the chunks they were encoded from, one for each prompt.

    Returns:
        (C, T, D) weighted vectors of each prompt.

    Raises:
        ShapeError: the prompts have different numbers of chunks.
    """
    shapes = [tuple(tensor.shape) for tensor in z]
    if len(z) != len(prompts) or len(set(shapes)) > 1:
        raise ShapeError(
            f"{len(prompts)} prompts with vectors of shapes {shapes} cannot share their means; "
            "pad each to the same number of chunks with encoded empty chunks."
        )
    if not z:
        return []
    before = widen(torch.stack(list(z)))  # (B, C, T, D)
    weights = torch.stack([prompt.weights for prompt in prompts]).to(before)  # (B, C, T)
    weighted = before * weights.unsqueeze(-1)
    changed = (weights != 1).any(dim=2).any(dim=0)  # (C,)
    ratio = _ratio(before.mean((0, 2, 3)), weighted.mean((0, 2, 3)), changed, limit=None)
    return list((weighted * ratio[:, None, None]).to(z[0].dtype))


def _ratio(
    before: Tensor, after: Tensor, changed: Tensor, limit: float | None = RESCALE_LIMIT
) -> Tensor:
    """`before / after`, or 1 where the ratio is out of its limits or no weight differs from 1."""
    with torch.no_grad():
        ratio = before / after
        valid = ratio.isfinite()
        if limit is not None:
            valid = valid & (ratio >= 1 / limit) & (ratio <= limit)
    if bool((changed & ~valid).any()):
        worst = [f"{value:.3g}" for value in ratio[changed & ~valid].flatten().tolist()]
        warn(
            f"keeping the mean would scale every vector by {', '.join(worst)}, because the "
            "weighted mean is close to 0 or has the other sign; the vectors were weighted without "
            'rescaling. Use weights closer to 1, or emphasis="no-norm" or "comfyui".',
            RescaleWarning,
            stacklevel=2,
        )
    applied = valid & changed
    safe = torch.where(applied, after, torch.ones_like(after))  # else the gradient would be NaN
    return torch.where(applied, before / safe, torch.ones_like(after))


def widen(z: Tensor) -> Tensor:
    """Convert half precision to float32, so that means and differences stay precise."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
