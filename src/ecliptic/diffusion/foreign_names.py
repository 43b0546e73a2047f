"""Answers unknown names of arguments: those of diffusers with ours, others with the nearest one.

Each thing has one name here, so a name of diffusers is answered, not accepted. Imports no torch.
A test reads all arguments of diffusers' pipelines, so none is left without an answer.
Sources: the `__call__` and `encode_prompt` of diffusers' pipelines, and its `from_pretrained`.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from ecliptic.diffusion.recognition.pipeline_arguments import OF_PIPELINES
from ecliptic.errors import ConfigError, did_you_mean

_TENSORS = "is what a call makes; pass a prompt, and to_diffusers() of the result to the pipeline"
_SIZES = "is sizes=Sizes(...) here"
_ENCODER = 'is encoders= here, as in conditioner("sdxl", [first, second])'
_DOWNLOAD = "is a choice of the download: make it with `hf download`, and pass the folder here"
_TOKENIZER = "is read with its encoder"
ANSWERS: Mapping[str, str] = MappingProxyType(
    {
        # of a call
        "negative_prompt": "is negative= here",
        "negative_prompt_2": "is negative_2= here",
        "negative_prompt_3": "is negative_3= here",
        "neg_prompt": "is negative= here",
        "prompts": "is prompt= here",
        "num_images_per_prompt": "is images_per_prompt= here",
        "num_videos_per_prompt": "is images_per_prompt= here",
        "num_waveforms_per_prompt": "is images_per_prompt= here",
        "num_inference_steps": "is steps= here",
        "ip_adapter_image": "is images= here, with the family ip-adapter",
        "image": "is images= here, if an image encoder reads it; else it belongs to the pipeline",
        "original_size": _SIZES,
        "target_size": _SIZES,
        "crops_coords_top_left": _SIZES,
        "aesthetic_score": _SIZES,
        "negative_aesthetic_score": _SIZES,
        "micro_conditioning_aesthetic_score": _SIZES,
        "micro_conditioning_crop_coord": _SIZES,
        "lora_scale": "is the scale of add_lora(path, scale) here",
        "skipped_layers": "is clip_skip= here",
        "ip_adapter_image_embeds": _TENSORS,
        "tokenizer_max_length": "is max_sequence_length= here, for T5",
        "device": "is chosen when the conditioner is made, with device= there",
        "do_classifier_free_guidance": "is not needed: both sides are always made",
        # of the constructor
        "torch_dtype": "is precision= here",
        "dtype": "is precision= here",
        "local_files_only": "is offline= here",
        "pretrained_model_name_or_path": "is encoders= here",
        "text_encoder": _ENCODER,
        "text_encoder_2": _ENCODER,
        "text_encoder_3": "is t5= here",
        "image_encoder": "is the last of encoders= here",
        "tokenizer": _TOKENIZER,
        "tokenizer_2": _TOKENIZER,
        "tokenizer_3": _TOKENIZER,
        "cache_dir": "is the environment variable HF_HOME here",
        "token": "is the environment variable HF_TOKEN here",
        "proxies": "is the environment variable HTTPS_PROXY here",
        "revision": _DOWNLOAD,
        "force_download": _DOWNLOAD,
        "use_safetensors": "is not needed: the files tell, and safetensors is preferred",
        "force_zeros": "is force_zeros_for_empty_prompt= here",
    }
)
# What pipelines call the tensors of prompts, of any encoder: negative_prompt_embeds_2, ...
_OF_PROMPTS = re.compile(r"\w*prompt_(embeds|embeddings|attention_mask)(?!\w*scale)\w*")


@cache
def names_of(call: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the keyword arguments of `call`."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(call).parameters.values()
    return tuple(one.name for one in parameters if one.kind in kinds and one.name != "self")


def refuse_unknown(given: Iterable[str], known: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raise ConfigError for the first of the `given` names that is not `known`.

    Args:
        given: names of keyword arguments.
        known: names that can be given.
        also: names of arguments beside them, which may be meant.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise ConfigError(answer(name, [*known, *also]))


def answer(name: str, known: Iterable[str]) -> str:
    """What to write instead of the unknown argument `name`."""
    if name in ANSWERS:
        return f"{name} {ANSWERS[name]}."
    if _OF_PROMPTS.fullmatch(name):
        return f"{name} {_TENSORS}."
    if name in OF_PIPELINES:
        return f"{name} belongs to the pipeline, not to the conditioner; pass it there."
    known = list(known)
    hint = did_you_mean(name, known) or f"use one of {', '.join(known)}."
    return f"unknown option {name!r}; {hint}"
