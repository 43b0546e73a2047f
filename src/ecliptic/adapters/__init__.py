"""Reads LoRA and textual inversion files, which change or extend a text encoder.

Also merges LoRAs into a tower and removes them. `diffusion` finds inversions in prompts. Names are
imported when they are first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.adapters.inversion import (
        Inversion as Inversion,
        read_inversion as read_inversion,
    )
    from ecliptic.adapters.lora import Lora as Lora, read_lora as read_lora
    from ecliptic.adapters.lora_changes import LowRank as LowRank, WeightChange as WeightChange
    from ecliptic.adapters.lora_scales import Strength as Strength
    from ecliptic.adapters.lora_stack import LoraReport as LoraReport, LoraStack as LoraStack
    from ecliptic.adapters.parts import (
        PARTS as PARTS,
        WIDTHS as WIDTHS,
        Part as Part,
        part_of_width as part_of_width,
    )

__getattr__, __dir__ = lazy_names(__name__)
