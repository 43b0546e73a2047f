"""The choices where diffusion tools disagree: one row per tool, named after it.

The default is diffusers. Sources: reference pipelines of diffusers 0.42, stable-diffusion-webui
(modules/sd_hijack_clip.py, sd_models_xl.py, models/sd3/sd3_cond.py), ComfyUI (comfy/sd1_clip.py,
sdxl_clip.py, sd3_clip.py), kohya sd-scripts (library/strategy_sd3.py, sdxl_train_util.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Cleaning = Literal["huggingface", "openai"]
Exclamation = Literal["word", "pad"]
Unequal = Literal["layout", "repeat last", "repeat whole", "empty chunk"]


@dataclass(frozen=True)
class Behaviour:
    """The choices of one tool; pass your own as `compat=` to mix them."""

    name: str
    exclamation: Exclamation  # what "!" is for encoders that pad with id 0
    cleaning: Cleaning  # of text; "openai" repairs encodings and entities
    skips_negative: bool  # clip_skip applies to negative prompts too
    cleaning_zero_padded: Cleaning = "huggingface"  # the same, for encoders that pad with 0
    ignores_skip: tuple[str, ...] = ()  # families in which clip_skip has no effect
    zeros: Literal["negative is None", "negative is empty", "never"] = "negative is None"
    projects_folder_l: bool = False  # SD3: apply a folder's CLIP-L projection (released: identity)
    missing_t5: int | None = 256  # SD3 without T5: zero tokens appended; None: as many as CLIP's
    unequal: Unequal = "layout"  # both sides of different length; "layout": as its own tool
    mean_over_batch: bool = False  # emphasis "original" takes its means over the whole batch
    float32: bool = False  # return float32, whatever dtype the encoder computes in


_ROWS = (
    Behaviour("diffusers", "pad", "huggingface", skips_negative=False, projects_folder_l=True),
    Behaviour(
        "a1111",
        "word",
        "huggingface",
        skips_negative=True,
        cleaning_zero_padded="openai",  # open_clip's own tokenizer
        ignores_skip=("sd2", "sdxl", "sdxl-refiner"),
        zeros="negative is empty",
        missing_t5=None,
        unequal="repeat last",
        mean_over_batch=True,
    ),
    Behaviour(
        "comfyui",
        "word",
        "huggingface",
        skips_negative=True,
        zeros="never",
        missing_t5=0,
        unequal="repeat whole",
        float32=True,
    ),
    Behaviour(
        "kohya",
        "word",
        "huggingface",
        skips_negative=True,
        ignores_skip=("sdxl", "sdxl-refiner"),
        zeros="never",
        missing_t5=77,
        unequal="empty chunk",
    ),
)
BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType({row.name: row for row in _ROWS})
