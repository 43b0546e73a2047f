"""The conditioning families as data: what each diffusion model reads from each encoder.

A released model is a row of `FAMILIES`. Layers are hidden layers: -1 is the output of the last
block, -2 of the one before. Sources: diffusers 0.42 pipelines named in the rows; the released
configs of generative-models (configs/inference/sd_xl_base.yaml, encoders/modules.py) and sd3-ref.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ecliptic.adapters import WIDTHS, Part
from ecliptic.diffusion.arguments import (
    Arguments,
    flux_ip_adapter,
    image_states,
    ip_adapter,
    kandinsky5,
    kandinsky_prior,
    pooled_alone,
    prompt_embeds,
    refiner,
    stable_cascade,
    stable_diffusion_xl,
    unclip,
    video_diffusion,
    with_pooled,
)

Pad = Literal["end", "zero", "file"]
Pooled = Literal["state", "vector"]


@dataclass(frozen=True)
class EncoderRule:
    """What a family reads from one text encoder."""

    part: Part  # its name in textual inversions, LoRAs and single files
    folder: str  # its name in a diffusers pipeline
    pad: Pad  # id after the end of text: the same id again, 0, or that of the file's tokenizer
    layer: int | None = None  # hidden layer of the sequence; None: only pooled is read
    final_norm: bool = False  # of the sequence
    pooled: Pooled | None = None  # "state" before the projection, "vector" after it
    whole_layer: int | None = None  # instead of `layer`, if the file has all blocks
    masks_padding: bool = False  # hide padding from the encoder's attention
    length: int | None = None  # most tokens of a chunk, where the encoder could take more
    repairs_text: bool = False  # the pipeline repairs encodings and HTML entities before tokens
    also: tuple[Part, ...] = ()  # encoders that other released models have in this place

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the encoders that released models have in this place."""
        return tuple(WIDTHS[part] for part in (self.part, *self.also))


@dataclass(frozen=True)
class LanguageRule:
    """How the tensor of a language model (T5) joins those of CLIP."""

    join: Literal["tokens", "alone"]  # after CLIP's tokens, or instead of them
    width: int  # of the released model
    length: int  # tokens, of the released pipeline
    folder: str  # its name in a diffusers pipeline


@dataclass(frozen=True)
class ImageRule:
    """What a family reads from its image encoder, and its tensor for no image."""

    folder: str = "image_encoder"  # in a diffusers pipeline
    layer: int | None = None  # hidden layer of all patches; None: the projected vector
    token_axis: bool = False  # (B, 1, E) instead of (B, E)
    negative: Literal["zeros", "encoded zeros", "encoded black", "same"] = "zeros"
    patches: bool = False  # released models read either the vector or layer -2
    blurred_resize: bool = False  # antialiased bicubic on [-1, 1], pipeline_stable_video_diffusion
    embeds: tuple[int, ...] = (1024,)  # vector sizes of released models; that of OpenCLIP-H


@dataclass(frozen=True)
class Family:
    """One row: a kind of diffusion model and what it is conditioned on."""

    name: str
    title: str
    encoders: tuple[EncoderRule, ...] = ()
    negative: Literal["encode", "zeros", "if given"] = "encode"  # what a negative of None means
    returns_mask: bool = False  # (B, T) bool of the tokens up to the end of text
    pooled_axis: bool = False  # (B, 1, E) instead of (B, E)
    language: LanguageRule | None = None
    sizes: Literal["sdxl", "refiner"] | None = None  # size ids beside the pooled vector
    image: ImageRule | None = None
    pipelines: tuple[str, ...] = ()  # how the names of its classes in diffusers begin
    takes: str = "pipeline"  # the part of diffusers that takes `arguments`
    arguments: Arguments = prompt_embeds  # makes them from a conditioning
    source: str = ""


_L, _G = "text_encoder", "text_encoder_2"
_SD = (  # both SD 1 and SD 2; the text encoder decides
    *("StableDiffusion", "SemanticStableDiffusion", "LEditsPPPipelineStableDiffusion"),
    *("StableUnCLIP", "AnimateDiff", "LatentConsistencyModel", "PIA"),
    *("TextToVideoSD", "TextToVideoZero", "VideoToVideoSD"),
)
_XL = (
    *("StableDiffusionXL", "LEditsPPPipelineStableDiffusionXL"),
    *("AnimateDiffSDXL", "TextToVideoZeroSDXL"),
)

_ROWS = (
    Family(
        "sd1",
        "Stable Diffusion 1.x",
        (EncoderRule("clip_l", _L, "end", layer=-1, final_norm=True),),
        pipelines=_SD,
        source="pipeline_stable_diffusion.py encode_prompt",
    ),
    Family(
        "sd2",
        "Stable Diffusion 2.x",
        (EncoderRule("clip_h", _L, "zero", layer=-1, final_norm=True, whole_layer=-2),),
        pipelines=_SD,
        source="encoders/modules.py FrozenOpenCLIPEmbedder, layer penultimate",
    ),
    Family(
        "sdxl",
        "Stable Diffusion XL base",
        (
            EncoderRule("clip_l", _L, "end", layer=-2),
            EncoderRule("clip_g", _G, "zero", layer=-2, pooled="vector"),
        ),
        negative="zeros",
        sizes="sdxl",
        arguments=stable_diffusion_xl,
        pipelines=_XL,
        source="pipeline_stable_diffusion_xl.py encode_prompt",
    ),
    Family(
        "sdxl-refiner",
        "Stable Diffusion XL refiner",
        (EncoderRule("clip_g", _G, "zero", layer=-2, pooled="vector"),),
        sizes="refiner",
        arguments=refiner,
        pipelines=_XL,
        source="pipeline_stable_diffusion_xl_img2img.py encode_prompt",
    ),
    Family(
        "sd3",
        "Stable Diffusion 3 and 3.5",
        (
            EncoderRule("clip_l", _L, "end", layer=-2, pooled="state"),
            EncoderRule("clip_g", _G, "zero", layer=-2, pooled="vector"),
        ),
        language=LanguageRule("tokens", width=4096, length=256, folder="text_encoder_3"),
        arguments=with_pooled,
        pipelines=("StableDiffusion3",),
        source="pipeline_stable_diffusion_3.py encode_prompt",
    ),
    Family(
        "flux",
        "FLUX.1",
        (EncoderRule("clip_l", _L, "end", pooled="state"),),
        negative="if given",
        language=LanguageRule("alone", width=4096, length=512, folder="text_encoder_2"),
        arguments=with_pooled,
        pipelines=("Flux",),
        source="pipeline_flux.py encode_prompt",
    ),
    Family(
        "cascade",
        "Stable Cascade",
        (EncoderRule("clip_g", _L, "end", layer=-1, pooled="vector", masks_padding=True),),
        pooled_axis=True,
        arguments=stable_cascade,
        pipelines=("StableCascade",),
        source="pipeline_stable_cascade_prior.py encode_prompt",
    ),
    Family(
        "unclip",
        "unCLIP (Karlo)",
        (EncoderRule("clip_l", _L, "end", layer=-1, final_norm=True, pooled="vector"),),
        returns_mask=True,
        arguments=unclip,
        image=ImageRule(embeds=(768,)),
        pipelines=("UnCLIP",),
        source="deprecated/unclip/pipeline_unclip.py _encode_prompt",
    ),
    Family(
        "kandinsky2-prior",
        "Kandinsky 2.1 and 2.2 prior",
        (
            EncoderRule(
                "clip_g", _L, "end", layer=-1, final_norm=True, pooled="vector", also=("clip_l",)
            ),
        ),
        returns_mask=True,
        image=ImageRule(negative="encoded zeros", embeds=(1280, 768)),
        takes="prior",
        arguments=kandinsky_prior,
        pipelines=("KandinskyPrior", "KandinskyV22Prior"),
        source="pipeline_kandinsky2_2_prior.py _encode_prompt, get_zero_embed",
    ),
    Family(
        "kandinsky5",
        "Kandinsky 5",
        (EncoderRule("clip_l", _G, "end", pooled="state", repairs_text=True),),
        negative="if given",  # otherwise the pipeline has a text of its own
        arguments=kandinsky5,
        pipelines=("Kandinsky5",),
        source="kandinsky5/pipeline_kandinsky.py _encode_prompt_clip, prompt_clean",
    ),
    Family(
        "hunyuan-video",
        "HunyuanVideo",
        (EncoderRule("clip_l", _G, "end", pooled="state"),),
        negative="if given",
        arguments=pooled_alone,
        pipelines=("HunyuanVideo", "HunyuanSkyreels"),
        source="pipeline_hunyuan_video.py _get_clip_prompt_embeds",
    ),
    Family(
        "hidream",
        "HiDream-I1",
        (
            EncoderRule("clip_l", _L, "end", pooled="vector", length=128),
            EncoderRule("clip_g", _G, "file", pooled="vector", length=128),
        ),
        arguments=pooled_alone,
        pipelines=("HiDream",),
        source="pipeline_hidream_image.py _get_clip_prompt_embeds, max_sequence_length",
    ),
    Family(
        "svd",
        "Stable Video Diffusion",
        image=ImageRule(token_axis=True, blurred_resize=True),
        takes="unet",
        arguments=video_diffusion,
        pipelines=("StableVideoDiffusion",),
        source="pipeline_stable_video_diffusion.py _encode_image",
    ),
    Family(
        "wan-i2v",
        "Wan image to video",
        image=ImageRule(layer=-2, negative="same"),
        takes="transformer",
        arguments=image_states,
        pipelines=("WanImageToVideo", "WanAnimate", "SkyReelsV2ImageToVideo", "ChronoEdit"),
        source="pipeline_wan_i2v.py encode_image; SkyReels V2 and ChronoEdit too",
    ),
    Family(
        "ip-adapter",
        "IP-Adapter",
        image=ImageRule(
            patches=True, embeds=(1024, 1280, 768)
        ),  # of SD 1.5 and SDXL, of SDXL, of FLUX
        arguments=ip_adapter,
        source="pipeline_stable_diffusion.py encode_image",
    ),
    Family(
        "flux-ip-adapter",
        "IP-Adapter of FLUX.1",
        image=ImageRule(negative="encoded black", embeds=(768,)),
        arguments=flux_ip_adapter,
        source="pipeline_flux.py encode_image, __call__",
    ),
)
FAMILIES: Mapping[str, Family] = MappingProxyType({row.name: row for row in _ROWS})
