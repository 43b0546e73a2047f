"""Which pipelines of diffusers are known, and how each calls its denoiser: a row for each class.

A class that inherits the `__call__` of a known one counts as that one.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecliptic.errors import ConfigError, MissingExtraError
from ecliptic.guidance.parametrisations import Parametrisation


@dataclass(frozen=True)
class Refused:
    """An argument of a pipeline that asks the denoiser twice, and the values that are harmless."""

    harmless: tuple[object, ...]
    why: str


@dataclass(frozen=True)
class DenoiserRow:
    """How a family of pipelines calls its denoiser."""

    name: str
    denoiser: str  # the attribute of the pipeline
    latents: str  # the argument of the denoiser for x_t
    kinds: tuple[Parametrisation, ...]  # what the denoiser can predict
    doubled: bool = True  # classifier-free guidance is one batch: without and with the prompt
    packed: bool = False  # a row for each 2 x 2 of the latents, as FLUX has them
    refused: Mapping[str, Refused] | None = None


_UNET: tuple[Parametrisation, ...] = ("eps", "v", "x0", "flow")
_SKIP = Refused((None,), "a second call without some layers is mixed into the prediction")
_TRUE = Refused((1, 1.0), "the negative prompt is a second call of the transformer")
_SD = DenoiserRow("Stable Diffusion", "unet", "sample", _UNET)
_XL = DenoiserRow("SDXL", "unet", "sample", _UNET)
_SD3 = DenoiserRow(
    "SD3", "transformer", "hidden_states", ("flow",), refused={"skip_guidance_layers": _SKIP}
)
_FLUX = DenoiserRow(
    "FLUX", "transformer", "hidden_states", ("flow",), False, True, {"true_cfg_scale": _TRUE}
)
PIPELINE_ROWS: dict[str, DenoiserRow] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusion3Pipeline": _SD3,
    "StableDiffusion3Img2ImgPipeline": _SD3,
    "FluxPipeline": _FLUX,
    "FluxImg2ImgPipeline": _FLUX,
}


def check_diffusers() -> None:
    """Say kindly that diffusers is missing.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    try:
        from diffusers import DiffusionPipeline  # noqa: F401 it is lazy: the name imports the rest
    except (ImportError, RuntimeError) as reason:
        raise MissingExtraError(
            f"guided_pipeline guides a pipeline of diffusers, which cannot be imported "
            f"({' '.join(str(reason).split())[:200]}); "
            "`pip install diffusers transformers`. `guided` and `sample` guide any other model."
        ) from reason


def recognise_pipeline(pipe: Any) -> DenoiserRow:
    """The row of a pipeline.

    Raises:
        ConfigError: no known class, no VAE, or weights that move between devices.
    """
    loop = next((c.__name__ for c in type(pipe).__mro__ if "__call__" in vars(c)), "")
    row = PIPELINE_ROWS.get(loop)
    if row is None:
        raise ConfigError(
            f"{type(pipe).__name__} is no pipeline whose steps are known, so it cannot be guided; "
            f"known are {', '.join(PIPELINE_ROWS)}."
        )
    for name in (row.denoiser, "vae"):
        if getattr(pipe, name, None) is None:
            raise ConfigError(f"the pipeline has no {name}; load it with all its parts.")
        _check_stays(getattr(pipe, name), name)
    return row


def _check_stays(module: Any, name: str) -> None:
    """Refuse hooks that move weights away, or replace blocks, between forward and backward."""
    registry = getattr(module, "_diffusers_hook", None)
    names = [*getattr(registry, "hooks", {})]
    if hook := getattr(module, "_hf_hook", None):
        names.append(type(hook).__name__)
    if names:
        raise ConfigError(
            f"the {name} of the pipeline has hooks ({', '.join(names)}) of offloading or caching: "
            "its weights or blocks would change before the gradient has passed; load the pipeline "
            "without them, and move it with pipe.to(device)."
        )


def check_arguments(row: DenoiserRow, pipe: Any, args: tuple[Any, ...], given: Any) -> None:
    """Refuse arguments of a call of the pipeline that guidance cannot follow.

    Raises:
        ConfigError: such an argument; the message names it.
    """
    if not row.refused:
        return
    bound = inspect.signature(type(pipe).__call__).bind_partial(pipe, *args, **given).arguments
    for name, refused in row.refused.items():
        if name in bound and bound[name] not in refused.harmless:
            raise ConfigError(
                f"{name}={bound[name]!r} of {row.name} cannot be guided: {refused.why}, so no one "
                f"call knows the whole prediction; leave {name} out."
            )
