"""Compares two models stage by stage and names the first difference.

The stages are the stored data (bytes, settings, weights), the inputs (tokens, pixels), every layer
and the vectors. Both towers of a kind get A's inputs if they fit, so that a difference shows only
in the stages that cause it; for "end to end" each side uses its own inputs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.engine.implementations import Implementation, Stored, Tower
from ecliptic.inputs import ImageSource
from ecliptic.model import end_positions

Verdict = Literal["same", "differs", "skipped"]

# Largest allowed differences, before `slack`
WEIGHTS = 1e-6  # relative to the tensor's largest value
PIXELS = 1e-6  # rounding of the normalisation; another filter or crop gives far more
LAYERS = 1e-4  # relative to the layer's largest value
VECTORS = 1e-5  # on unit vectors

PROBE_TEXTS = (  # case, digits, entities, accents, another script, longer than any context
    "a photo of a cat",
    "Two dogs &amp; 3 birds!! it's 2019 \N{EM DASH} caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{SMILING FACE WITH SUNGLASSES} \u732b",
    "a long caption about many things " * 20,
)


@dataclass(frozen=True)
class Stage:
    """One comparison. `difference` is inf where shapes differ, None where nothing was measured."""

    name: str
    verdict: Verdict
    difference: float | None = None
    tolerance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All stages in order."""

    a: str
    b: str
    stages: tuple[Stage, ...]

    @property
    def first(self) -> Stage | None:
        """The first stage that differs; None when none does.

        Different bytes count only if the tensors in them differ: layouts and dtypes store equal
        numbers in many ways.
        """
        differing = [stage for stage in self.stages if stage.verdict == "differs"]
        if all(stage.name != "weights" for stage in differing):
            differing = [stage for stage in differing if stage.name != "bytes"]
        return differing[0] if differing else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; an infinite difference, which JSON cannot hold, is null."""
        stages = [asdict(stage) for stage in self.stages]
        for stage in stages:
            if stage["difference"] is not None and not math.isfinite(stage["difference"]):
                stage["difference"] = None
        first = self.first.name if self.first else None
        return {"a": self.a, "b": self.b, "first_difference": first, "stages": stages}


def make_probe_images() -> tuple[Image.Image, ...]:
    """Make two images whose odd sizes show how resize and crop round."""
    images = []
    for seed, (height, width) in enumerate(((231, 340), (413, 290))):
        y, x = np.mgrid[0:height, 0:width] / 40.0
        waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(x * y / 4)], axis=-1)
        grain = np.random.default_rng(seed).normal(0, 12, waves.shape)
        images.append(Image.fromarray(np.clip(127 + 100 * waves + grain, 0, 255).astype("u1")))
    return tuple(images)


@torch.inference_mode()
def diagnose(
    a: Implementation,
    b: Implementation,
    images: Sequence[ImageSource] = (),
    texts: Sequence[str] = (),
    slack: float = 1.0,
) -> Diagnosis:
    """Compare `a` with `b`.

    Args:
        a: the first model; its inputs are used for both where they fit.
        b: the second model.
        images: images for both; two generated ones by default.
        texts: texts for both; `PROBE_TEXTS` by default. Long ones are cut.
        slack: factor on every tolerance; 1000 suits half precision.

    Raises:
        InputError: one of `images` or `texts` cannot be used.
    """
    stages = [_compare_bytes(a.stored, b.stored), _compare_settings(a.identity, b.identity)]
    stages.append(_compare_weights(a.weights, b.weights, slack))
    stages += _compare_towers("text", a.text, b.text, texts or PROBE_TEXTS, slack)
    stages += _compare_towers("image", a.image, b.image, images or make_probe_images(), slack)
    return Diagnosis(a.name, b.name, tuple(stages))


def _compare_bytes(a: Stored | None, b: Stored | None) -> Stage:
    """Whether the files of weights are equal; the note gives digests, and dtypes that differ."""
    if a is None or b is None:
        return Stage("bytes", "skipped", note="one side does not show its files")
    if a.digests == b.digests:
        return Stage("bytes", "same", note=f"SHA-256 {_shorten(a)}")
    note = f"SHA-256 {_shorten(a)} / {_shorten(b)}"
    if a.dtypes and b.dtypes and a.dtypes != b.dtypes:
        note += f"; stored in {', '.join(a.dtypes)} / {', '.join(b.dtypes)}"
    return Stage("bytes", "differs", note=note)


def _shorten(stored: Stored) -> str:
    """The start of the first digest, and the number of other files."""
    more = len(stored.digests) - 1
    return stored.digests[0][:12] + f" and {more} more" * (more > 0)


def _compare_settings(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> Stage:
    if a is None or b is None:
        return Stage("settings", "skipped", note="one side does not state them")
    left, right = dict(_flatten(a)), dict(_flatten(b))
    keys = [key for key in left | right if left.get(key) != right.get(key)]
    note = "; ".join(f"{key} {left.get(key)} / {right.get(key)}" for key in keys)
    return Stage("settings", "differs" if keys else "same", note=note)


def _flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) of nested tables."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _compare_weights(
    a: Mapping[str, Tensor] | None, b: Mapping[str, Tensor] | None, slack: float
) -> Stage:
    """The largest difference of all tensors; the note counts and names the first ones."""
    if a is None or b is None:
        return Stage("weights", "skipped", note="one side does not show them under our names")
    found = {name: _relative_difference(a[name], b[name]) for name in a if name in b}
    found |= dict.fromkeys(set(a) ^ set(b), math.inf)
    other = [name for name in {**a, **b} if not found[name] <= WEIGHTS * slack]  # NaN too
    named = ", ".join(other[:3]) + ", ..." * (len(other) > 3)
    note = f"{len(other)} of {len(found)} tensors differ: {named}" if other else ""
    worst = max((found[name] for name in other or found), default=0.0)
    return Stage("weights", "differs" if other else "same", worst, WEIGHTS * slack, note)


def _compare_towers(
    kind: str, a: Tower | None, b: Tower | None, sources: Sequence[Any], slack: float
) -> Iterator[Stage]:
    """Inputs, layers, pooled state and vectors of one tower."""
    if a is None or b is None:
        side = "neither side" if a is b else "A" if a is None else "B"
        verdict: Verdict = "skipped" if a is b else "differs"
        yield Stage(f"{kind} tower", verdict, note=f"{side} has none")
        return
    given, own = a.inputs(sources), b.inputs(sources)
    yield _compare_inputs(kind, given, own, slack, a.end_of_text)
    shared = given.shape == own.shape
    yield from _compare_layers(kind, a.stages(given), b.stages(given if shared else own), slack)
    left, right = (F.normalize(t.vectors(sources).float().cpu(), dim=-1) for t in (a, b))
    yield _judge(f"{kind} end to end", _difference(left, right), VECTORS * slack)


def _compare_inputs(
    kind: str, a: Tensor, b: Tensor, slack: float, end_of_text: int | None
) -> Stage:
    if kind == "image":
        return _judge("pixels", _difference(a, b), PIXELS * slack, _shapes(a, b))
    if a.shape != b.shape:
        return _judge("tokens", math.inf, 0.0, _shapes(a, b))
    return _judge("tokens", float((a != b).sum()), 0.0, _find_first_token(a, b, end_of_text))


def _find_first_token(a: Tensor, b: Tensor, end_of_text: int | None) -> str:
    """Say where two (B, T) ids first differ; `end_of_text` is A's."""
    places = (a != b).nonzero().tolist()
    if not places:
        return ""
    last = torch.full((len(a),), a.shape[1] - 1)  # if no end is known, all places count
    ends = (last if end_of_text is None else end_positions(a, end_of_text)).tolist()
    if all(place > ends[row] for row, place in places):
        return "only in the padding, which no vector depends on"
    row, place = next((row, place) for row, place in places if place <= ends[row])
    return f"text {row}, place {place}: id {int(a[row, place])} / {int(b[row, place])}"


def _compare_layers(
    kind: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor], slack: float
) -> Iterator[Stage]:
    for stage in {**a, **b}:
        name = f"{kind} {stage}"
        if stage not in a or stage not in b:
            missing = "A" if stage not in a else "B"
            layer = stage.startswith("layer")  # "pooled" may be unavailable
            yield Stage(name, "differs" if layer else "skipped", note=f"not in {missing}")
            continue
        left, right = a[stage].float().cpu(), b[stage].float().cpu()
        measure, tolerance = _relative_difference, LAYERS
        if stage == "vectors":
            left, right = F.normalize(left, dim=-1), F.normalize(right, dim=-1)
            measure, tolerance = _difference, VECTORS
        yield _judge(name, measure(left, right), tolerance * slack, _shapes(left, right))


def _judge(name: str, difference: float, tolerance: float, note: str = "") -> Stage:
    same = difference <= tolerance  # False for NaN too
    return Stage(name, "same" if same else "differs", difference, tolerance, note)


def _shapes(a: Tensor, b: Tensor) -> str:
    return f"shapes {tuple(a.shape)} and {tuple(b.shape)}" if a.shape != b.shape else ""


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference; inf if the shapes differ."""
    if a.shape != b.shape:
        return math.inf
    return float((a.float() - b.float()).abs().max()) if a.numel() else 0.0


def _relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, divided by the largest value of `a`."""
    largest = float(a.float().abs().max()) if a.numel() else 0.0
    return _difference(a, b) / max(largest, 1e-12)
