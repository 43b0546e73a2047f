"""AUTOMATIC1111's dialect: AND, schedules and attention, run one after the other on the text."""

from ecliptic.errors import ConfigError
from ecliptic.prompts.a1111.alternatives import split_at_and
from ecliptic.prompts.a1111.attention import lexemes, line, weigh
from ecliptic.prompts.a1111.schedule import changing, parse_items, texts_by_step
from ecliptic.prompts.a1111.tree import read
from ecliptic.prompts.a1111.writing import write
from ecliptic.prompts.reading import Alternative
from ecliptic.prompts.traced import Traced
from ecliptic.prompts.tree import Tree

__all__ = ["alternatives", "loras", "read", "readings", "schedule", "spans", "write"]


def spans(text: str) -> list[tuple[str, float]]:
    """The attention stage alone; BREAK is ("BREAK", -1.0)."""
    pieces = weigh(lexemes(Traced.whole(text)))
    return [(piece.content.text, piece.weight) for piece in pieces]


def alternatives(text: str) -> list[tuple[str, float]]:
    """The AND stage alone."""
    return [(part.text.text, part.weight) for part in split_at_and(Traced.whole(text))]


def schedule(text: str, steps: int, base_steps: int | None) -> list[tuple[int, str]]:
    """The schedule stage alone: the last step of each text."""
    items = parse_items(Traced.whole(text))
    return [(end, one.text) for end, one in texts_by_step(items, steps, base_steps)]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """All stages in order; a negative prompt is not split at AND.

    Raises:
        ConfigError: the prompt changes over the steps, and their number is not given.
        TextError: a weight, perhaps only at some step, is no finite number.
    """
    prompt = Traced.whole(text)
    if negative:
        return (_alternative(prompt, 1.0, steps),)
    return tuple(_alternative(part.text, part.weight, steps) for part in split_at_and(prompt))


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """None: A1111's `<lora:...>` is taken out by its interface before the prompt is read."""
    del tree
    return ()


def _alternative(text: Traced, weight: float, steps: int | None) -> Alternative:
    items = parse_items(text)
    if steps is None and changing(items):
        raise ConfigError(
            f"the prompt {text.text!r} changes over the sampling steps, so what it asks for depends"
            " on how many there are; pass steps=, or escape its brackets with backslashes."
        )
    lines = texts_by_step(items, steps or 1, None)
    return Alternative(weight, tuple((end, line(one)) for end, one in lines))
