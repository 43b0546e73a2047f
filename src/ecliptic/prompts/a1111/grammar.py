"""AUTOMATIC1111's dialect: takes out networks, then runs AND, schedules and attention."""

from ecliptic.errors import ConfigError
from ecliptic.prompts.a1111.alternatives import AndPart, split_at_and
from ecliptic.prompts.a1111.attention import read_line, split_lexemes, weigh
from ecliptic.prompts.a1111.networks import take_networks
from ecliptic.prompts.a1111.schedule import changes, parse_items, texts_by_step
from ecliptic.prompts.a1111.tree import read
from ecliptic.prompts.a1111.writing import write
from ecliptic.prompts.reading import Alternative
from ecliptic.prompts.traced import Traced

__all__ = ["alternatives", "read", "readings", "schedule", "second_readings", "spans", "write"]


def spans(text: str) -> list[tuple[str, float]]:
    """The attention stage alone; BREAK is ("BREAK", -1.0)."""
    pieces = weigh(split_lexemes(_take_text(text)))
    return [(piece.content.text, piece.weight) for piece in pieces]


def alternatives(text: str) -> list[tuple[str, float]]:
    """The AND stage alone."""
    return [(part.text.text, part.weight) for part in split_at_and(_take_text(text))]


def schedule(text: str, steps: int, base_steps: int | None) -> list[tuple[int, str]]:
    """The schedule stage alone: (last step, text)."""
    items = parse_items(_take_text(text))
    return [(end, one.text) for end, one in texts_by_step(items, steps, base_steps)]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """Run all stages in order; a negative prompt has neither networks nor AND.

    Raises:
        ConfigError: the prompt changes over the steps, and `steps` is None.
        TextError: at some step, a weight is not a finite number.
    """
    return _read_parts(text, steps, negative, None)


def second_readings(
    text: str, steps: int | None, negative: bool, base_steps: int
) -> tuple[Alternative, ...]:
    """As `readings`, for the second ("hires") pass after a first one of `base_steps`."""
    return _read_parts(text, steps, negative, base_steps)


def _read_parts(
    text: str, steps: int | None, negative: bool, base_steps: int | None
) -> tuple[Alternative, ...]:
    whole = AndPart(Traced.whole(text), 1.0, None)
    parts = [whole] if negative else split_at_and(_take_text(text))
    return tuple(_read_alternative(part, steps, base_steps) for part in parts)


def _take_text(text: str) -> Traced:
    """The text without the tags of networks."""
    return take_networks(Traced.whole(text))[0]


def _read_alternative(part: AndPart, steps: int | None, base_steps: int | None) -> Alternative:
    text, items = part.text, parse_items(part.text)
    if steps is None and changes(items):
        raise ConfigError(
            f"the prompt {text.text[:80]!r} changes over the sampling steps, so its readings "
            "depend on their number; pass steps=, or put backslashes before its brackets."
        )
    lines = texts_by_step(items, steps or 1, base_steps)
    schedule = tuple((end, read_line(one)) for end, one in lines)
    return Alternative(part.weight, schedule, part.weight_span)
