"""Fits the int8 form of one linear layer to a sample of its inputs.

Ranges are cut where that lowers the squared error (Choukroun et al. 2019, arXiv:1902.06822).
Columns whose inputs are large are made smaller, and their weights larger, if that helps (Xiao et
al. 2022, SmoothQuant, arXiv:2211.10438, equation 4). The mean error goes into the bias (Nagel et
al. 2019, arXiv:1906.04721, section 4.2). N rows, K inputs, M outputs.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.model import LARGEST_BYTE, LARGEST_CODE, LARGEST_PAIR, QuantisedLinear
from ecliptic.runtime.quantising.recording import LayerInputs

STRENGTHS = (0.0, 0.5)  # of smoothing; 0 is none
_CUTS = (1.0, 0.9, 0.8)  # shares of a range of inputs
_WEIGHT_CUTS = (2.0, 1.8, 1.65, 1.5, 1.38, 1.26, 1.14, 1.02)  # steps of a row
_TINY = 1e-12


@torch.no_grad()
def fit(weight: Tensor, bias: Tensor, inputs: LayerInputs, *, smooth: bool) -> QuantisedLinear:
    """The int8 layer with the smallest error on the rows of `inputs`.

    Args:
        weight: (M, K) float32.
        bias: (M,) float32.
        inputs: what passed through the layer.
        smooth: whether the inputs may be divided by column.
    """
    wanted = F.linear(inputs.rows, weight, bias)  # (N, M)
    strength = STRENGTHS[0]
    if smooth:
        tried = [_fit(weight, bias, inputs, one, quick=True) for one in STRENGTHS]
        errors = [float((outputs_of(q, inputs.rows) - wanted).var(dim=0).sum()) for q in tried]
        strength = STRENGTHS[errors.index(min(errors))]
    found = _fit(weight, bias, inputs, strength)
    return replace(found, bias=bias + (wanted - outputs_of(found, inputs.rows)).mean(dim=0))


def outputs_of(layer: QuantisedLinear, inputs: Tensor) -> Tensor:
    """(N, M) of the int8 layer, computed in float32."""
    steps = layer.bytes_of(inputs).float().sub_(layer.zero)
    return F.linear(steps, layer.weight.float() * (layer.scales * layer.scale)[:, None], layer.bias)


def smoothing_of(weight: Tensor, inputs: LayerInputs, strength: float) -> Tensor:
    """(K,) divisors of the inputs."""
    if not strength:
        return torch.ones(weight.shape[1])
    large = torch.maximum(inputs.low.abs(), inputs.high.abs()).clamp_(min=1e-5)
    weights = weight.abs().amax(dim=0).clamp_(min=1e-5)
    smoothing = large**strength / weights ** (1 - strength)
    return (smoothing / smoothing.log().mean().exp()).clamp_(1e-3, 1e3)


def _fit(
    weight: Tensor, bias: Tensor, inputs: LayerInputs, strength: float, *, quick: bool = False
) -> QuantisedLinear:
    """The layer with a smoothing of this strength; `quick` tries one range."""
    smoothing = smoothing_of(weight, inputs, strength)
    weight, inputs = weight * smoothing, inputs.divide(smoothing)
    scale, zero = fit_inputs(inputs, weight.square().sum(dim=0), _CUTS[:1] if quick else _CUTS)
    cuts = _WEIGHT_CUTS[4:5] if quick else _WEIGHT_CUTS
    codes, scales = fit_weight(weight, inputs.rows.square().mean(dim=0), cuts)
    return QuantisedLinear(codes, scales, bias, smoothing, scale, zero)


def fit_inputs(inputs: LayerInputs, importance: Tensor, cuts: Sequence[float]) -> tuple[float, int]:
    """Step and zero of the inputs, whose squared errors count by `importance` (K,).

    Few cuts are tried: a vector whose tokens lie outside the range suffers more than others gain.
    """
    low, high = float(inputs.low.min().clamp(max=0)), float(inputs.high.max().clamp(min=0))
    best = 1.0, 1.0
    for place in (0, 1):  # first the lower end, then the upper one
        tried = [(cut, best[1]) if place == 0 else (best[0], cut) for cut in cuts]
        errors = [_error(inputs.rows, importance, *_steps(low * a, high * b)) for a, b in tried]
        best = tried[errors.index(min(errors))]
    return _steps(low * best[0], high * best[1])


def _steps(low: float, high: float) -> tuple[float, int]:
    scale = max(high - low, _TINY) / LARGEST_BYTE
    return scale, min(LARGEST_BYTE, max(0, round(-low / scale)))


def _error(inputs: Tensor, importance: Tensor, scale: float, zero: int) -> float:
    rounded = (inputs / scale).round_().clamp_(-zero, LARGEST_BYTE - zero).mul_(scale)
    return float(rounded.sub_(inputs).square_().mean(dim=0) @ importance)


def fit_weight(weight: Tensor, importance: Tensor, cuts: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(M, K) int8 codes and the (M,) steps of their rows; errors count by `importance` (K,)."""
    full = weight.abs().amax(dim=1).clamp_(min=_TINY) / LARGEST_CODE  # (M,)
    least = torch.full_like(full, float("inf"))
    scales = full
    for cut in cuts:
        tried = full * cut
        error = (_codes(weight, tried) * tried[:, None] - weight).square_() @ importance
        better = error < least
        scales, least = torch.where(better, tried, scales), torch.where(better, error, least)
    return _codes(weight, scales).to(torch.int8), scales


def _codes(weight: Tensor, scales: Tensor) -> Tensor:
    """(M, K) whole numbers that keep the limits of codes and of pairs of codes."""
    codes = (weight / scales[:, None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
    even = weight.shape[1] // 2 * 2
    pairs = codes[:, :even].view(len(codes), -1, 2)
    total = pairs.sum(dim=-1)  # (M, K/2)
    excess = total - total.clamp(-LARGEST_PAIR, LARGEST_PAIR)
    half = (excess / 2).trunc()
    pairs[..., 0] -= half
    pairs[..., 1] -= excess - half
    return codes
