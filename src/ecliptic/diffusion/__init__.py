"""What a diffusion model needs from CLIP: conditioning tensors from prompts of any dialect.

Everything arrives when first named, so that parsing a prompt imports no torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.diffusion.behaviours import BEHAVIOURS, Behaviour
    from ecliptic.diffusion.cache_findings import Findings, verify_cache
    from ecliptic.diffusion.cache_keys import StoredConditioning, cache_identity, condition_key
    from ecliptic.diffusion.cached_encoder import CachedTextEncoder, CacheStatistics
    from ecliptic.diffusion.caption_cache import CacheReport, Caption, Watch, write_cache
    from ecliptic.diffusion.clip_skip import SkipNames, skip_names
    from ecliptic.diffusion.condition_cache import ConditionCache
    from ecliptic.diffusion.conditioners import Conditioner
    from ecliptic.diffusion.conditioning import Conditioning, ConditioningWarning
    from ecliptic.diffusion.conditioning_file import save_conditioning
    from ecliptic.diffusion.emphasis import Emphasis
    from ecliptic.diffusion.emphasis_mean import RescaleWarning
    from ecliptic.diffusion.families import FAMILIES, Family
    from ecliptic.diffusion.images import augment_image_vectors
    from ecliptic.diffusion.inversion import Inversion, read_inversion
    from ecliptic.diffusion.kohya_cache import KohyaOutputs, read_kohya, write_kohya
    from ecliptic.diffusion.layouts import LAYOUTS
    from ecliptic.diffusion.ledger import Ledger, LedgerRow
    from ecliptic.diffusion.ledger_page import ledger_html
    from ecliptic.diffusion.lora import Lora, read_lora
    from ecliptic.diffusion.lora_stack import LoraReport, LoraStack
    from ecliptic.diffusion.opening import conditioner
    from ecliptic.diffusion.options import Options
    from ecliptic.diffusion.prompt.compiler import Prompt, parse
    from ecliptic.diffusion.prompt.converting import Conversion, convert
    from ecliptic.diffusion.prompt.dialects import Dialect
    from ecliptic.diffusion.prompt.linting import lint_prompt
    from ecliptic.diffusion.sizes import Sizes, size_ids, vector_y, video_ids
    from ecliptic.diffusion.text_encoder import as_text_encoder

_HOMES = {
    "KohyaOutputs": "kohya_cache",
    "StoredConditioning": "cache_keys",
    "condition_key": "cache_keys",
    "CacheStatistics": "cached_encoder",
    "BEHAVIOURS": "behaviours",
    "Behaviour": "behaviours",
    "CacheReport": "caption_cache",
    "CachedTextEncoder": "cached_encoder",
    "Caption": "caption_cache",
    "ConditionCache": "condition_cache",
    "Conditioner": "conditioners",
    "Conditioning": "conditioning",
    "ConditioningWarning": "conditioning",
    "Conversion": "prompt.converting",
    "Dialect": "prompt.dialects",
    "Emphasis": "emphasis",
    "FAMILIES": "families",
    "Family": "families",
    "Findings": "cache_findings",
    "Inversion": "inversion",
    "LAYOUTS": "layouts",
    "Ledger": "ledger",
    "LedgerRow": "ledger",
    "Lora": "lora",
    "LoraReport": "lora_stack",
    "LoraStack": "lora_stack",
    "Options": "options",
    "Prompt": "prompt.compiler",
    "RescaleWarning": "emphasis_mean",
    "Sizes": "sizes",
    "SkipNames": "clip_skip",
    "Watch": "caption_cache",
    "as_text_encoder": "text_encoder",
    "augment_image_vectors": "images",
    "conditioner": "opening",
    "cache_identity": "cache_keys",
    "convert": "prompt.converting",
    "ledger_html": "ledger_page",
    "lint_prompt": "prompt.linting",
    "parse": "prompt.compiler",
    "read_inversion": "inversion",
    "read_kohya": "kohya_cache",
    "read_lora": "lora",
    "save_conditioning": "conditioning_file",
    "size_ids": "sizes",
    "skip_names": "clip_skip",
    "vector_y": "sizes",
    "verify_cache": "cache_findings",
    "video_ids": "sizes",
    "write_cache": "caption_cache",
    "write_kohya": "kohya_cache",
}

__all__ = [
    "BEHAVIOURS",
    "FAMILIES",
    "LAYOUTS",
    "Behaviour",
    "CacheReport",
    "CacheStatistics",
    "CachedTextEncoder",
    "Caption",
    "ConditionCache",
    "Conditioner",
    "Conditioning",
    "ConditioningWarning",
    "Conversion",
    "Dialect",
    "Emphasis",
    "Family",
    "Findings",
    "Inversion",
    "KohyaOutputs",
    "Ledger",
    "LedgerRow",
    "Lora",
    "LoraReport",
    "LoraStack",
    "Options",
    "Prompt",
    "RescaleWarning",
    "Sizes",
    "SkipNames",
    "StoredConditioning",
    "Watch",
    "as_text_encoder",
    "augment_image_vectors",
    "cache_identity",
    "condition_key",
    "conditioner",
    "convert",
    "ledger_html",
    "lint_prompt",
    "parse",
    "read_inversion",
    "read_kohya",
    "read_lora",
    "save_conditioning",
    "size_ids",
    "skip_names",
    "vector_y",
    "verify_cache",
    "video_ids",
    "write_cache",
    "write_kohya",
]


__getattr__ = arriving_later(__name__, _HOMES)
