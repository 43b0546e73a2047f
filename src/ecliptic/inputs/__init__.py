"""Turns images into pixels and texts into tokens, without any model.

Names are imported when they are first used, so that reading a spec stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.inputs.bpe import (
        written_bytes as written_bytes,
        written_merges as written_merges,
        written_vocabulary as written_vocabulary,
    )
    from ecliptic.inputs.decode import (
        DEFAULT_LIMITS as DEFAULT_LIMITS,
        ImageLimits as ImageLimits,
        ImageSource as ImageSource,
        describe as describe,
        open_image as open_image,
        read_bytes as read_bytes,
    )
    from ecliptic.inputs.findings import Finding as Finding, Severity as Severity
    from ecliptic.inputs.flattening import flatten as flatten, orientation as orientation
    from ecliptic.inputs.image import (
        WHITE as WHITE,
        Exactness as Exactness,
        Preprocess as Preprocess,
        PreprocessMode as PreprocessMode,
    )
    from ecliptic.inputs.lint_rules import lint as lint, unreadable as unreadable
    from ecliptic.inputs.pool import (
        Reject as Reject,
        available_cores as available_cores,
        decode_many as decode_many,
    )
    from ecliptic.inputs.prompt_templates import (
        PLACE as PLACE,
        Template as Template,
        check_templates as check_templates,
        fill as fill,
        fold_label as fold_label,
        template_sets as template_sets,
        templates as templates,
    )
    from ecliptic.inputs.resizing import (
        resize_image as resize_image,
        scale_shorter_side as scale_shorter_side,
    )
    from ecliptic.inputs.specs import (
        SPECIALS as SPECIALS,
        ImageSpec as ImageSpec,
        Interpolation as Interpolation,
        Resize as Resize,
        TokenizerSpec as TokenizerSpec,
    )
    from ecliptic.inputs.token_spans import TokenSpan as TokenSpan, ledger as ledger
    from ecliptic.inputs.tokenizer import (
        WORD as WORD,
        Overflow as Overflow,
        TokenBatch as TokenBatch,
        Tokenizer as Tokenizer,
        TruncationWarning as TruncationWarning,
        check_text as check_text,
    )

__getattr__, __dir__ = lazy_names(__name__)
