"""AUTOMATIC1111's dialect: AND, schedules and attention, run one after the other on the text."""

from ecliptic.diffusion.prompt import a1111_alternatives, a1111_schedule
from ecliptic.diffusion.prompt.a1111_attention import line, tokens, weigh
from ecliptic.diffusion.prompt.a1111_print import write
from ecliptic.diffusion.prompt.a1111_tree import read
from ecliptic.diffusion.prompt.reading import Alternative
from ecliptic.diffusion.prompt.traced import Traced
from ecliptic.diffusion.prompt.tree import Tree
from ecliptic.errors import ConfigError

__all__ = ["alternatives", "loras", "read", "readings", "schedule", "spans", "write"]


def spans(text: str) -> list[tuple[str, float]]:
    """The attention stage alone; BREAK is ("BREAK", -1.0)."""
    pieces = weigh(tokens(Traced.whole(text)))
    return [(piece.content.text, piece.weight) for piece in pieces]


def alternatives(text: str) -> list[tuple[str, float]]:
    """The AND stage alone."""
    return [(side.text.text, side.weight) for side in a1111_alternatives.sides(Traced.whole(text))]


def schedule(text: str, steps: int, base_steps: int | None) -> list[tuple[int, str]]:
    """The schedule stage alone: the last step of each text."""
    items = a1111_schedule.read_items(Traced.whole(text))
    return [(end, one.text) for end, one in a1111_schedule.schedule(items, steps, base_steps)]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """All stages in order; a negative prompt is not split at AND.

    Raises:
        ConfigError: the prompt changes over the steps, and their number is not given.
        TextError: a weight, perhaps only at some step, is no finite number.
    """
    prompt = Traced.whole(text)
    if negative:
        return (_alternative(prompt, 1.0, steps),)
    sides = a1111_alternatives.sides(prompt)
    return tuple(_alternative(side.text, side.weight, steps) for side in sides)


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """None: A1111's `<lora:...>` is taken out by its interface before the prompt is read."""
    del tree
    return ()


def _alternative(text: Traced, weight: float, steps: int | None) -> Alternative:
    items = a1111_schedule.read_items(text)
    if steps is None and a1111_schedule.changing(items):
        raise ConfigError(
            f"the prompt {text.text!r} changes over the sampling steps, so what it asks for depends"
            " on how many there are; pass steps=, or escape its brackets with backslashes."
        )
    lines = a1111_schedule.schedule(items, steps or 1, None)
    return Alternative(weight, tuple((end, line(one)) for end, one in lines))
