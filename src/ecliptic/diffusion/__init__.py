"""Conditioning tensors for diffusion models, from prompts of any dialect and from images.

Names are lazy: each is imported on first use, so parsing a prompt does not import torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.adapters import (
        Inversion as Inversion,
        Lora as Lora,
        LoraReport as LoraReport,
        LoraStack as LoraStack,
        read_inversion as read_inversion,
        read_lora as read_lora,
    )
    from ecliptic.diffusion.account.page import report_html as report_html
    from ecliptic.diffusion.account.report import (
        ConditioningReport as ConditioningReport,
        Note as Note,
        PromptReport as PromptReport,
    )
    from ecliptic.diffusion.account.table import report_table as report_table
    from ecliptic.diffusion.behaviours import BEHAVIOURS as BEHAVIOURS, Behaviour as Behaviour
    from ecliptic.diffusion.cache.keys import (
        StoredConditioning as StoredConditioning,
        cache_identity as cache_identity,
        condition_key as condition_key,
    )
    from ecliptic.diffusion.cache.kohya import (
        KohyaOutputs as KohyaOutputs,
        read_kohya as read_kohya,
        write_kohya as write_kohya,
    )
    from ecliptic.diffusion.cache.memory import (
        CachedConditioner as CachedConditioner,
        CachedTextEncoder as CachedTextEncoder,
        CacheStatistics as CacheStatistics,
    )
    from ecliptic.diffusion.cache.read import ConditionCache as ConditionCache
    from ecliptic.diffusion.cache.verify import Findings as Findings, verify_cache as verify_cache
    from ecliptic.diffusion.cache.write import (
        CacheReport as CacheReport,
        Caption as Caption,
        Watch as Watch,
        write_cache as write_cache,
    )
    from ecliptic.diffusion.conditioners import Conditioner as Conditioner
    from ecliptic.diffusion.conditioning import (
        Conditioning as Conditioning,
        ConditioningWarning as ConditioningWarning,
        NetworkUse as NetworkUse,
        save_conditioning as save_conditioning,
    )
    from ecliptic.diffusion.emphasis.scaling import RescaleWarning as RescaleWarning
    from ecliptic.diffusion.encode.arithmetic import (
        average as average,
        combine as combine,
        concat as concat,
    )
    from ecliptic.diffusion.encode.request import Hires as Hires
    from ecliptic.diffusion.families import FAMILIES as FAMILIES, Family as Family
    from ecliptic.diffusion.images import augment_image_vectors as augment_image_vectors
    from ecliptic.diffusion.micro_conditioning import (
        Sizes as Sizes,
        size_ids as size_ids,
        vector_y as vector_y,
        video_ids as video_ids,
    )
    from ecliptic.diffusion.opening import conditioner as conditioner
    from ecliptic.diffusion.options import (
        LAYOUTS as LAYOUTS,
        Emphasis as Emphasis,
        Options as Options,
        SkipNames as SkipNames,
        skip_names as skip_names,
    )
    from ecliptic.diffusion.recognition.without_clip import (
        explain_missing_family as explain_missing_family,
    )
    from ecliptic.diffusion.text_encoder import as_text_encoder as as_text_encoder
    from ecliptic.diffusion.tokens.ledger import (
        EncoderReading as EncoderReading,
        Ledger as Ledger,
        LedgerRow as LedgerRow,
    )
    from ecliptic.prompts import (
        Conversion as Conversion,
        Dialect as Dialect,
        Network as Network,
        Prompt as Prompt,
        convert as convert,
        lint_prompt as lint_prompt,
        parse as parse,
    )

__getattr__, __dir__ = lazy_names(__name__)
