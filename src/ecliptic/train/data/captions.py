"""The caption of an example: one of its own, in a template if there are any."""

from collections.abc import Sequence
from random import Random

from ecliptic.inputs import PLACE, check_templates


class Captioner:
    """Draws captions; the same for all sources.

    Args:
        templates: texts with a `{}` for the caption; none: captions stand alone.

    Raises:
        ConfigError: a template without `{}`.
    """

    def __init__(self, templates: Sequence[str]) -> None:
        if templates:
            check_templates(templates)
        self.templates = tuple(templates)

    def draw(self, captions: Sequence[str], random: Random) -> str:
        """One of the captions, in a template."""
        return self.wrap(random.choice(captions), random)

    def wrap(self, caption: str, random: Random) -> str:
        """The caption in a template, if there are any."""
        if not self.templates:
            return caption
        return random.choice(self.templates).replace(PLACE, caption)


def clean(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts without what is empty, and without spaces around them."""
    return tuple(stripped for text in texts if (stripped := text.strip()))
