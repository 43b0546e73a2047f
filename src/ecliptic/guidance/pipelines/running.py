"""`guided_pipeline`: a block in which CLIP guides the user's own pipeline of diffusers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ecliptic.checks import check_count, check_number
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, warn
from ecliptic.guidance.guiding import Through, guided
from ecliptic.guidance.losses.clip_loss import ClipLoss, ImagePrompt
from ecliptic.guidance.losses.cutouts import CutoutPlan
from ecliptic.guidance.losses.weighted import ImageLoss, restart
from ecliptic.guidance.parametrisations import Level
from ecliptic.guidance.pipelines.decoding import Decode, Decoder, check_decode
from ecliptic.guidance.pipelines.families import (
    check_arguments,
    check_diffusers,
    recognise_pipeline,
)
from ecliptic.guidance.pipelines.hooking import answering
from ecliptic.guidance.pipelines.noise import check_scheduler
from ecliptic.guidance.pipelines.steps import GuidedRun, Steering, StepWatch


class GuidedPipeline:
    """A pipeline whose calls are guided; `guided_pipeline` makes it.

    Attributes:
        pipe: the pipeline, which is not guided when it is called itself.
        loss: what guides it.
        decode_error: of the linear map, 0 (exact) to about 1 (nothing); None with a VAE.
    """

    def __init__(self, pipe: Any, loss: ImageLoss, decoder: Decoder, steering: Steering) -> None:
        self.pipe, self.loss = pipe, loss
        self.decode_error = decoder.error
        self._vae, self._decoder, self._steering = pipe.vae, decoder, steering
        self._open, self._calls = True, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pipeline with the same arguments; gives what it gives.

        Raises:
            ConfigError: the block has ended, or the pipeline, its scheduler or an argument is one
                that cannot be guided.
            SamplingStoppedError: a step gave NaN or infinity; it carries the last x0.
        """
        if not self._open:
            raise ConfigError(
                "the block of guided_pipeline has ended; call `guided` inside of `with`."
            )
        row = recognise_pipeline(self.pipe)
        kind = check_scheduler(self.pipe.scheduler, row.kinds)
        check_arguments(row, self.pipe, args, kwargs)
        if self.pipe.vae is not self._vae:
            raise ConfigError(
                "the pipeline has another VAE than at the beginning of the block; begin a new one."
            )
        self._calls += 1
        restart(self.loss)
        denoiser = getattr(self.pipe, row.denoiser)
        run = GuidedRun(self.pipe, row, kind, self.loss, self._decoder, self._steering)
        with answering(denoiser, run.answer):
            return self.pipe(*args, **kwargs)

    def close(self) -> int:
        """End the block; gives the number of calls that there were."""
        self._open = False
        return self._calls


@contextmanager
def guided_pipeline(
    pipe: Any,
    clip: Clip | Sequence[Clip] | None = None,
    prompts: ImagePrompt | Sequence[ImagePrompt] | None = None,
    *,
    scale: Level,
    weights: Sequence[float] | None = None,
    cutouts: CutoutPlan | None = None,
    loss: ImageLoss | None = None,
    decode: Decode = "vae",
    during: tuple[float, float] = (0.0, 1.0),
    guide_every: int = 1,
    through: Through = "denoiser",
    clamp: float | None = None,
    save_memory: bool = False,
    watch: StepWatch | None = None,
    seed: int | None = None,
) -> Iterator[GuidedPipeline]:
    """A block in which CLIP guides a pipeline of diffusers.

        with guided_pipeline(pipe, clip, "a red fox", scale=100) as guided:
            image = guided("a fox", num_inference_steps=50).images[0]

    `guided` takes what `pipe` takes. The pipeline is left as it was, also after an error; `pipe`
    itself is not guided when it is called in the block.

    Args:
        pipe: a pipeline of SD 1, SD 2, SDXL, SD3 or FLUX, from text or from text and image.
        clip: a model, or several.
        prompts: what CLIP should see; need not be what the pipeline is given.
        scale: strength, one number or one of each image; 0 gives the images of `pipe` to the last
            bit, a negative one leads away.
        weights: one of each prompt.
        cutouts: of `ClipLoss`; None: 16.
        loss: any loss of images (B, 3, H, W) -> (B,) in the place of clip, prompts, weights,
            cutouts and seed; such as a `WeightedLoss` of a `ClipLoss` and others.
        decode: "vae" decodes with the pipeline's own VAE; "tiled" the same in tiles of 64 latents,
            so that memory does not grow with the image; "linear" by a map to colours that is fitted
            to the VAE, at the size of the latents: quick and coarse.
        during: shares of the steps where guidance begins and ends; (0, 0.8) leaves the last fifth.
        guide_every: 2 guides every second step, and so on; the pull is weaker by as much.
        through: "denoiser", or "x0", which is cheaper and biased, see `guided`.
        clamp: most root mean square of the gradient of an image.
        save_memory: compute the denoiser a second time in place of keeping its activations.
        watch: is called after each guided step with a `GuidedStep`.
        seed: of the cutouts; None: 0. Each call of `guided` begins with the same ones.

    Yields:
        A `GuidedPipeline`.

    Raises:
        MissingExtraError: diffusers is not installed.
        ConfigError: an unknown pipeline, scheduler or prediction type, or options without effect.
    """
    check_diffusers()
    row = recognise_pipeline(pipe)
    check_scheduler(pipe.scheduler, row.kinds)
    check_decode(decode)
    steering = Steering(
        scale, _check_during(during), check_count("guide_every", guide_every), through, clamp,
        save_memory, watch,
    )  # fmt: skip
    guided(_nothing, _nothing, scale, "flow", through=through, clamp=clamp, save_memory=save_memory)  # type: ignore[arg-type]
    only_clip = {"clip": clip, "prompts": prompts, "weights": weights, "cutouts": cutouts}
    chosen = _choose_loss(loss, only_clip | {"seed": seed})
    made = GuidedPipeline(pipe, chosen, Decoder(pipe.vae, decode), steering)
    try:
        yield made
    finally:
        calls = made.close()
    if not calls:
        warn(
            "the block of guided_pipeline ended and `guided` was never called; calls of the "
            "pipeline itself are not guided."
        )


def _nothing(*_: Any) -> None:
    """Stands for the denoiser while the other settings are checked."""


def _check_during(during: tuple[float, float]) -> tuple[float, float]:
    fix = "pass two shares of the steps such as (0.0, 0.8)."
    if not isinstance(during, tuple | list) or len(during) != 2:
        raise ConfigError(f"during must be where guidance begins and ends, got {during!r}; {fix}")
    first, last = (check_number("during", each, fix) for each in during)
    if not 0 <= first < last <= 1:
        raise ConfigError(f"during must be 0 <= begin < end <= 1, got {during!r}; {fix}")
    return first, last


def _choose_loss(loss: ImageLoss | None, given: dict[str, Any]) -> ImageLoss:
    """The user's loss, or that of CLIP."""
    if loss is not None:
        if extra := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"{', '.join(extra)} of guided_pipeline would have no effect beside loss; give "
                "them to the ClipLoss that is part of the loss, or leave loss out."
            )
        if not callable(loss):
            raise ConfigError(f"loss must be a function of images, got {loss!r}.")
        return loss
    if given["clip"] is None or given["prompts"] is None:
        raise ConfigError(
            'guided_pipeline needs clip and prompts: guided_pipeline(pipe, clip, "a red fox", '
            "scale=100); or a loss of your own, loss=..."
        )
    return ClipLoss(
        given["clip"],
        given["prompts"],
        given["weights"],
        16 if given["cutouts"] is None else given["cutouts"],
        seed=given["seed"] or 0,
    )
