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
    chosen = pipelines.encoders(family)
    return conditioner(
        family, encoders=chosen if family in WITH_TEXT else chosen[-1:], any_size=True
    )


def call(family: str, *prompts: str, **options: Any) -> Conditioning:
    """A call in the dialect of A1111; a family without text gets an image."""
    if family not in WITH_TEXT:
        return make(family)(images=[draw()])
    if FAMILIES[family].language:
        options = {"t5": torch.ones(1, 4, 4096), "negative_t5": torch.ones(1, 4, 4096)} | options
    return make(family)(*prompts, **{"dialect": "a1111"} | options)
