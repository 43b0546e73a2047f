"""How far images are from prompts, as CLIP sees them: the loss that guides and edits.

Memory does not grow with the number of cutouts: each few of them leave their gradient in the image,
and what made the image (a denoiser, a decoder, strokes) is passed through once.
B batch, P prompts, E vector size, S size of CLIP's images.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecliptic.checks import check_count, check_finite
from ecliptic.engine import Clip, is_out_of_memory
from ecliptic.errors import ConfigError, NumericalError, ShapeError, did_you_mean, warn
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.losses.cutouts import Cut, CutoutPlan, CutoutSchedule
from ecliptic.guidance.losses.distances import DISTANCES, Distance

ImagePrompt = str | Path | Image.Image | Tensor  # words, a picture, or its vector (E,)
Measuring = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> loss (B,) and its gradient
_LEAST_WEIGHT = 1e-3  # sum of the weights, as in the notebooks by K. Crowson


class ClipLoss:
    """Distance of images to prompts, averaged over random cutouts.

    Text is `str`; a picture is a path as `Path`, a PIL image, or its vector. With weights w the
    loss is `sum_i w_i d(image, prompt_i) / |sum_i w_i|`; a negative weight pushes away. Several
    models count equally.

    Each call draws other cutouts, the same for all images of a batch; they are a function of `seed`
    and of the number of the call, so a new loss, or `restart`, repeats a run exactly.

    Args:
        clip: a model, or several; each needs an image side, and a text side for words.
        prompts: what the images should look like: one, or several.
        weights: one of each prompt; None: 1 for all.
        cutouts: how many, or settings, or a schedule of them; 0: the whole image alone.
        distance: "spherical" (half the squared angle) or "cosine" (1 - cosine).
        at_once: cutouts that are encoded together, at most; halved when memory runs out.
        seed: of the cutouts.

    Raises:
        ConfigError: no prompts, weights that nearly cancel out, an unknown distance.
        MissingTowerError: a model has no image side, or no text side for words.

    Source: K. Crowson's CLIP guided diffusion and v-diffusion `clip_sample.py`.
    """

    def __init__(
        self,
        clip: Clip | Sequence[Clip],
        prompts: ImagePrompt | Sequence[ImagePrompt],
        weights: Sequence[float] | None = None,
        cutouts: CutoutPlan = 16,
        distance: Distance = "spherical",
        at_once: int = 16,
        seed: int = 0,
    ) -> None:
        self.clips = (clip,) if isinstance(clip, Clip) else tuple(clip)
        listed = isinstance(prompts, Sequence) and not isinstance(prompts, str)
        self.prompts: list[ImagePrompt] = list(prompts) if listed else [prompts]  # type: ignore[arg-type, list-item]
        if not self.clips or not self.prompts:
            raise ConfigError("a CLIP loss needs at least one model and one prompt.")
        if distance not in DISTANCES:
            fix = did_you_mean(str(distance), DISTANCES) or f"known are {', '.join(DISTANCES)}."
            raise ConfigError(f"unknown distance {distance!r}; {fix}")
        self.distance = DISTANCES[distance]
        self.cutouts = CutoutSchedule.of(cutouts)
        self.at_once = check_count("at_once", at_once)
        self.weights = _normalise(weights, len(self.prompts))
        self.seed = check_count("seed", seed, least=0)
        for each in self.clips:
            _ = each.model.image_tower  # raises without one
        self.vectors = [encode_prompts(each, self.prompts) for each in self.clips]  # (P, E) each
        self.restart()

    def restart(self) -> None:
        """Begin again with the cutouts of the first call, at full noise."""
        self._calls, self._noise = 0, 1.0

    def at(self, noise: float) -> None:
        """Tell how much noise is left, 1 to 0; the schedule of the cutouts follows it."""
        self._noise = noise

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), values 0..1 -> (B,); has a gradient, but no second one.

        Raises:
            ShapeError: not images.
            NumericalError: a model gave NaN or infinity.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ShapeError(
                "images must be (B, 3, H, W) numbers 0..1, got "
                f"{tuple(images.shape)} of {images.dtype}."
            )
        if not len(images):
            raise ShapeError("there are no images: the batch is 0.")
        size = max(each.preprocessor.spec.size for each in self.clips)
        self.cutouts.check(images.shape[2], images.shape[3], size)
        random = generator_of(self.seed, self._calls)
        self._calls += 1
        cuts = self.cutouts.at(self._noise).plan(images.shape[2], images.shape[3], size, random)
        if images.requires_grad and torch.is_grad_enabled():
            loss: Tensor = _Collected.apply(  # type: ignore[no-untyped-call]
                images, lambda x: self._measure(x, cuts, grad=True)
            )
            return loss
        return self._measure(images, cuts, grad=False)[0]

    def similarity(self, images: Tensor) -> Tensor:
        """Cosines of whole images with the prompts: (B, 3, H, W) -> (B, P); models averaged."""
        with torch.no_grad():
            found = [
                F.normalize(
                    encode_pixels(clip, Cut().take(images, clip.preprocessor.spec.size)), dim=-1
                )
                @ vectors.T
                for clip, vectors in zip(self.clips, self.vectors, strict=True)
            ]
        return torch.stack(found).mean(dim=0)

    def _measure(self, images: Tensor, cuts: list[Cut], *, grad: bool) -> tuple[Tensor, Tensor]:
        """The loss (B,) and its gradient for the images (zeros without `grad`)."""
        if len(images) > self.at_once:
            halves = [self._measure(half, cuts, grad=grad) for half in images.tensor_split(2)]
            losses, slopes = zip(*halves, strict=True)
            return torch.cat(losses), torch.cat(slopes)
        total = images.new_zeros(len(images), dtype=torch.float32)
        slope = torch.zeros_like(images) if grad else images
        start = 0
        while start < len(cuts):
            some = cuts[start : start + max(1, self.at_once // len(images))]
            try:
                part, g = self._measure_some(images, some, grad=grad)
            except RuntimeError as error:
                self._use_less(error, len(some) * len(images))
                if self.at_once < len(images):
                    return self._measure(images, cuts, grad=grad)  # from the beginning, by halves
                continue
            total += part * (len(some) / len(cuts))
            if grad:
                slope += g * (len(some) / len(cuts))
            start += len(some)
        if not torch.isfinite(total).all():
            raise NumericalError(
                "the CLIP loss is NaN or infinite; the images may be, or the model overflows: load "
                'it with precision="fp32" or "bf16".'
            )
        return total, slope

    def _measure_some(
        self, images: Tensor, cuts: list[Cut], *, grad: bool
    ) -> tuple[Tensor, Tensor]:
        x = images.detach().requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            loss = torch.stack([self._distance(x, cuts, n) for n in range(len(self.clips))])
            loss = loss.mean(dim=0)  # (B,)
            slope = torch.autograd.grad(loss.sum(), x)[0] if grad else images
        return loss.detach().float(), slope

    def _distance(self, images: Tensor, cuts: list[Cut], number: int) -> Tensor:
        """(B,) weighted distance of one model, averaged over the cutouts."""
        clip, vectors = self.clips[number], self.vectors[number]
        size = clip.preprocessor.spec.size
        pixels = torch.cat([cut.take(images, size) for cut in cuts])  # (cutouts B, 3, S, S)
        found = encode_pixels(clip, pixels)[:, None]  # (cutouts B, 1, E)
        each = self.distance(found, vectors) @ self.weights.to(vectors.device)
        return each.view(len(cuts), -1).mean(dim=0).to(images.device)

    def _use_less(self, error: RuntimeError, used: int) -> None:
        """Take half as many at a time after memory ran out; raise anything else."""
        if not is_out_of_memory(error) or used <= 1 or self.at_once <= 1:
            raise error
        if not getattr(self, "_told", False):
            warn(
                f"memory ran out with {used} cutouts at a time; fewer are taken from now on, which "
                "changes nothing but the time (at_once of the loss sets it)."
            )
            self._told = True
        self.at_once = max(1, min(self.at_once, used) // 2)


class _Collected(torch.autograd.Function):
    """A loss whose gradient was computed with it; row i depends on image i alone."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, measure: Measuring) -> Tensor:
        loss, slope = measure(images)
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0].to(slope.dtype)[:, None, None, None] * slope, None


def encode_pixels(clip: Clip, pixels: Tensor) -> Tensor:
    """(B, 3, S, S), values 0..1 -> (B, E) float32 raw vectors, with gradients."""
    spec = clip.preprocessor.spec
    mean, std = (pixels.new_tensor(x)[:, None, None] for x in (spec.mean, spec.std))
    weight = next(clip.model.image_tower.parameters())
    normalised = ((pixels - mean) / std).to(weight.device, weight.dtype)
    return clip.model.image_tower(normalised).float()  # type: ignore[no-any-return]


@torch.inference_mode(False)  # its tensors become part of a gradient, wherever they are made
def encode_prompts(clip: Clip, prompts: Sequence[ImagePrompt]) -> Tensor:
    """(P, E) float32 unit vectors of words, pictures and vectors, on the device of the model.

    Raises:
        ConfigError: a prompt is none of these, or words are empty.
        ShapeError: a vector of another length.
    """
    rows = [_encode(clip, prompt) for prompt in prompts]
    return F.normalize(torch.stack(rows).to(clip.device).clone(), dim=-1)


def _encode(clip: Clip, prompt: ImagePrompt) -> Tensor:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ConfigError("a prompt is empty; say what the image should show.")
        return clip.encode_text(prompt)[0]
    if isinstance(prompt, Path | Image.Image):
        return clip.encode_image([prompt])[0]
    if not isinstance(prompt, Tensor):
        raise ConfigError(
            f"a prompt is text, a pathlib.Path, a PIL image or a vector, got {type(prompt)}."
        )
    if prompt.shape != (clip.card.embed,):
        raise ShapeError(
            f"a prompt that is a vector must have the shape ({clip.card.embed},), got "
            f"{tuple(prompt.shape)}."
        )
    check_finite(prompt, "a prompt that is a vector", "check where it comes from.")
    return prompt.float().cpu()


@torch.inference_mode(False)
def _normalise(weights: Sequence[float] | None, count: int) -> Tensor:
    """(P,) weights divided by the absolute value of their sum."""
    numbers = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(numbers) != count:
        raise ConfigError(f"{len(numbers)} weights for {count} prompts; give one for each.")
    check_finite(numbers, "weights of prompts", "pass finite numbers.", ConfigError)
    total = abs(sum(numbers))
    if total < _LEAST_WEIGHT:
        raise ConfigError(
            f"the weights of the prompts add up to {sum(numbers):g}, so they cannot be "
            "normalised; make the sum clearly positive or negative."
        )
    return torch.tensor(numbers) / total
