"""The reading of each prompt at every step: AND, schedules and alternation over a batch.

P prompts of one side (positive or negative) in each encoder's wording.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.options import Options
from ecliptic.errors import ConfigError, warn
from ecliptic.prompts import Alternative, Reading, parse

Readings = tuple[tuple[Reading, ...], ...]  # per encoder, per prompt


@dataclass(frozen=True)
class Timeline:
    """The alternatives of P prompts for every encoder."""

    plans: tuple[tuple[tuple[Alternative, ...], ...], ...]  # encoder, prompt, alternative

    @property
    def count(self) -> int:
        """The alternatives of the prompt that has most of them."""
        return max(map(len, self.plans[0]))

    def has(self, prompt: int, alternative: int) -> bool:
        """Whether the prompt has this alternative itself; else its first one stands for it."""
        return alternative < len(self.plans[0][prompt])

    def weights(self, alternative: int) -> tuple[float, ...]:
        """The weight of the alternative in each prompt; 0 for prompts that do not have it."""
        return tuple(
            prompt[alternative].weight if alternative < len(prompt) else 0.0
            for prompt in self.plans[0]
        )

    def ends(self, alternative: int) -> tuple[int, ...]:
        """Last steps of the parts in which nothing changes."""
        schedules = [_pick(prompt, alternative).schedule for plan in self.plans for prompt in plan]
        return tuple(sorted({last for schedule in schedules for last, _ in schedule}))

    def at(self, alternative: int, step: int) -> Readings:
        """The reading of every prompt at `step`."""
        return tuple(
            tuple(_find_reading(_pick(prompt, alternative).schedule, step) for prompt in plan)
            for plan in self.plans
        )

    def readings(self) -> Iterator[Reading]:
        """Yield all readings to encode."""
        for plan in self.plans:
            for prompt in plan:
                for alternative in prompt:
                    yield from (reading for _, reading in alternative.schedule)


def read_timeline(
    texts: Sequence[Sequence[str]],
    options: Options,
    *,
    negative: bool = False,
    base_steps: int | None = None,
) -> Timeline:
    """Parse the prompts of one side; `texts` holds one list of P prompts per encoder.

    `base_steps` are those of the first pass, if this is the second.

    Raises:
        TextError: a prompt is not valid in its dialect.
        ConfigError: AND in the wording of only one encoder.

    Warns:
        ConditioningWarning: the end of a prompt without AND is its weight, or a weight is lost.
    """
    read = {
        text: parse(text, options.dialect).readings(
            options.steps, negative=negative, base_steps=base_steps
        )
        for text in dict.fromkeys(text for one in texts for text in one)
    }
    plans = tuple(tuple(read[text] for text in one) for one in texts)
    for wordings in zip(*plans, strict=True):
        if len({len(alternatives) for alternatives in wordings}) > 1:
            raise ConfigError(
                "AND gives a prompt several sets of tensors, which do not fit with a prompt_2 of "
                "another number of sides; write AND as often in both."
            )
    for text in dict.fromkeys(texts[0]):
        _warn_of_weight(text, read[text])
    _warn_of_lost_weights(plans)
    return Timeline(plans)


def _warn_of_weight(text: str, alternatives: Sequence[Alternative]) -> None:
    """Warn if the end of a prompt without AND was read as its weight, as in "ratio 16:9"."""
    span = alternatives[0].weight_span
    if len(alternatives) > 1 or span is None:
        return
    weight, number = alternatives[0].weight, text[span[0] + 1 : span[1]].strip()
    quoted = text[max(0, span[0] - 40) : span[1]]
    warn(
        f"the end of the prompt, {quoted!r}, is read as the weight {weight:g} of all of it, as "
        "A1111 does even without AND: these characters are not encoded, and c.alternatives has "
        f"the weight; if they are words, write ':\\{number}' or a comma after them.",
        ConditioningWarning,
        stacklevel=None,
    )


def _warn_of_lost_weights(plans: Sequence[Sequence[Sequence[Alternative]]]) -> None:
    """Warn if a prompt_2 gives other weights than the prompt, whose weights count."""
    for first, *others in zip(*plans, strict=True):
        weights = [one.weight for one in first]
        for other in others:
            if (lost := [one.weight for one in other]) != weights:
                warn(
                    f"the weights {lost} at the ends of a prompt_2 are not encoded and have no "
                    f"effect, since those of its prompt, {weights}, count for all encoders; write "
                    "the same ones in both, or a comma after a number that is text.",
                    ConditioningWarning,
                    stacklevel=None,
                )


def _pick(alternatives: Sequence[Alternative], number: int) -> Alternative:
    """The alternative of this number; the first one for prompts that have fewer."""
    return alternatives[number] if number < len(alternatives) else alternatives[0]


def _find_reading(schedule: Sequence[tuple[int, Reading]], step: int) -> Reading:
    return next((reading for last, reading in schedule if step <= last), schedule[-1][1])
