"""Calls whose reports the tests of this folder read."""

from functools import cache
from typing import Any

import torch

from ecliptic.diffusion import FAMILIES, Conditioner, Conditioning, conditioner
from tests.diffusion import pipelines
from tests.engine.models import draw

WITH_TEXT = [name for name, row in FAMILIES.items() if row.encoders]
HOSTILE = "<script>alert('x')</script> & \"quotes\" \x00 \u202e cat \x1b[31m"


@cache
def make(family: str) -> Conditioner:
    """A tiny conditioner; do not change it, it is shared."""
    row = "ip-adapter-alone" if family == "flux-ip-adapter" else family
    chosen = pipelines.encoders(row)
    none = {"t5": False} if FAMILIES[family].language else {}
    return conditioner(
        family, encoders=chosen if family in WITH_TEXT else chosen[-1:], any_size=True, **none
    )


def call(family: str, *prompts: str, **options: Any) -> Conditioning:
    """A call in the dialect of A1111; a family without text gets an image."""
    if family not in WITH_TEXT:
        return make(family)(images=[draw()])
    if FAMILIES[family].language:
        both = FAMILIES[family].negative == "encode" or "negative" in options
        names = ("t5", "negative_t5") if both else ("t5",)
        options = {name: torch.ones(1, 4, 4096) for name in names} | options
    return make(family)(*prompts, **{"dialect": "a1111"} | options)
