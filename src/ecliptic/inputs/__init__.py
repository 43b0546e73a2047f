"""Pictures become pixels, texts become tokens; knows no weights.

Names other than the two specs are imported when first used, so that reading a spec stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.inputs.specs import SPECIALS, ImageSpec, Interpolation, Resize, TokenizerSpec
from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.inputs.decode import ImageLimits, ImageSource, describe, open_image, read_bytes
    from ecliptic.inputs.findings import Finding, Severity
    from ecliptic.inputs.flatten import orientation
    from ecliptic.inputs.image import Preprocess, PreprocessMode
    from ecliptic.inputs.lint_rules import lint
    from ecliptic.inputs.pool import Reject, decode_many
    from ecliptic.inputs.prompts import check_templates, fill, template_sets, templates
    from ecliptic.inputs.token_spans import TokenSpan, ledger
    from ecliptic.inputs.tokenizer import Overflow, TokenBatch, Tokenizer, TruncationWarning
    from ecliptic.inputs.vocabulary import written_merges, written_vocabulary

__all__ = [
    "SPECIALS",
    "Finding",
    "ImageLimits",
    "ImageSource",
    "ImageSpec",
    "Interpolation",
    "Overflow",
    "Preprocess",
    "PreprocessMode",
    "Reject",
    "Resize",
    "Severity",
    "TokenBatch",
    "TokenSpan",
    "Tokenizer",
    "TokenizerSpec",
    "TruncationWarning",
    "check_templates",
    "decode_many",
    "describe",
    "fill",
    "ledger",
    "lint",
    "open_image",
    "orientation",
    "read_bytes",
    "template_sets",
    "templates",
    "written_merges",
    "written_vocabulary",
]

_HOMES = {
    "Finding": "findings",
    "Severity": "findings",
    "TokenSpan": "token_spans",
    "check_templates": "prompts",
    "fill": "prompts",
    "ledger": "token_spans",
    "lint": "lint_rules",
    "template_sets": "prompts",
    "templates": "prompts",
    "written_merges": "vocabulary",
    "written_vocabulary": "vocabulary",
    "ImageLimits": "decode",
    "ImageSource": "decode",
    "Preprocess": "image",
    "PreprocessMode": "image",
    "Reject": "pool",
    "decode_many": "pool",
    "describe": "decode",
    "open_image": "decode",
    "orientation": "flatten",
    "read_bytes": "decode",
    "Overflow": "tokenizer",
    "TokenBatch": "tokenizer",
    "Tokenizer": "tokenizer",
    "TruncationWarning": "tokenizer",
}


__getattr__ = arriving_later(__name__, _HOMES)
