"""Parses, prints, converts and lints prompts of every dialect, without torch or an encoder.

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.prompts.conversion.convert import Conversion as Conversion, convert as convert
    from ecliptic.prompts.dialects import Dialect as Dialect
    from ecliptic.prompts.linting.lint import lint_prompt as lint_prompt
    from ecliptic.prompts.prompt import Prompt as Prompt, parse as parse
    from ecliptic.prompts.reading import (
        Alternative as Alternative,
        Break as Break,
        Line as Line,
        Mix as Mix,
        Reading as Reading,
        Segment as Segment,
        Span as Span,
    )
    from ecliptic.prompts.tree import Network as Network

__getattr__, __dir__ = lazy_names(__name__)
