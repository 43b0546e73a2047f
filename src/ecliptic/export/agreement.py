"""Does an exported file give our numbers? Inputs, measures and bounds.

The inputs are pictures and texts as the model's own preparation makes them, in batches of 1, 3 and
more, and texts of several lengths. N rows, T tokens, S image side, E vector size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_finite, is_finite
from ecliptic.errors import ExportError
from ecliptic.inputs import Preprocess, Tokenizer

_TEXTS = ("", "a photo of a cat", "two red bicycles in front of a house by the sea")
_LONG = "a very long sentence about everything on a table, " * 20


@dataclass(frozen=True)
class Agreement:
    """How near the vectors of a file are to ours."""

    error: float  # largest difference of a value, as a share of the largest value
    cosine: float  # the smallest, of a vector with ours
    rows: int  # vectors that were compared

    @property
    def finite(self) -> bool:
        """Whether the file gave neither NaN nor infinity."""
        return is_finite([self.error, self.cosine])


@dataclass(frozen=True)
class Bound:
    """What a file must keep to be left on disk."""

    error: float  # at most
    cosine: float  # at least


BOUNDS = MappingProxyType(
    {
        "fp32": Bound(error=1e-4, cosine=1 - 1e-6),
        "fp16": Bound(error=float("inf"), cosine=0.9999),
    }
)


def compare(
    run: Callable[[Tensor], Tensor], ours: Callable[[Tensor], Tensor], batches: Iterable[Tensor]
) -> Agreement:
    """Compare the vectors of `run` with ours on every batch.

    Raises:
        NumericalError: ours hold NaN or infinity.
    """
    error, largest, cosine, rows = 0.0, 0.0, 1.0, 0
    for batch in batches:
        found, wanted = run(batch).double(), ours(batch).double()  # (N, E)
        check_finite(wanted, "the vectors of the model", "repair its weights before an export.")
        if not is_finite(found):
            return Agreement(float("nan"), float("nan"), rows + len(batch))
        error = max(error, float((found - wanted).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
        cosine = min(cosine, float(F.cosine_similarity(found, wanted).min()))
        rows += len(batch)
    return Agreement(error / largest if largest else error, cosine, rows)


def check_agreement(agreement: Agreement, name: str, precision: str, checker: str) -> None:
    """Raise ExportError if the file `name` does not keep the bound of its precision."""
    bound = BOUNDS[precision]
    if agreement.finite and agreement.error <= bound.error and agreement.cosine >= bound.cosine:
        return
    if not agreement.finite:
        found, fix = "gives NaN or infinity", "some models overflow in fp16: export fp32"
    else:
        found = (
            f"differs from ours by {agreement.error:.1e} of the largest value, with a cosine of "
            f"{agreement.cosine:.6f}; allowed are {bound.error:.0e} and {bound.cosine:.6f}"
        )
        fix = "export fp32" if precision != "fp32" else "report it with the versions of both"
    raise ExportError(f"{name} {found}, in {checker}, so nothing was written; {fix}.")


def image_batches(preprocess: Preprocess) -> Iterator[Tensor]:
    """Yield pixels (N, 3, S, S) of noise, slopes, white and black: 1, 3 and 6 rows."""
    size, random = preprocess.spec.size, np.random.default_rng(0)
    slope = np.linspace(0, 255, size)
    slopes = [np.broadcast_to(slope[:, None], (size, size)), slope[:, None] * slope / 255]
    planes = [np.stack([plane, plane.T, 255 - plane], axis=-1) for plane in slopes]
    noise = [random.integers(0, 256, (size, size, 3)) for _ in range(2)]
    flat = [np.full((size, size, 3), value) for value in (0, 255)]
    rgb = np.stack([*noise, *planes, *flat]).astype(np.uint8)
    pixels = torch.from_numpy(preprocess.normalize(rgb))  # (6, 3, S, S)
    yield from (pixels[:1], pixels[1:4], pixels)


def token_batches(tokenizer: Tokenizer) -> Iterator[Tensor]:
    """Yield ids (N, T): each text alone and as long as it is, then all of them, padded."""
    batch = tokenizer.batch([*_TEXTS, _LONG], "truncate")
    ids = torch.from_numpy(batch.ids)  # (4, context)
    for row, length in enumerate(batch.lengths):
        yield ids[row : row + 1, : int(length)]
    yield ids[:3, : int(batch.lengths[:3].max())]
    yield ids
