"""The reading of each prompt at every step: AND, schedules and alternation over a batch.

P prompts of one side (positive or negative) in each encoder's wording.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecliptic.diffusion.options import Options
from ecliptic.errors import ConfigError
from ecliptic.prompts import Alternative, Reading, parse

Readings = tuple[tuple[Reading, ...], ...]  # per encoder, per prompt


@dataclass(frozen=True)
class Timeline:
    """The alternatives of P prompts for every encoder."""

    plans: tuple[tuple[tuple[Alternative, ...], ...], ...]  # encoder, prompt, alternative

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the alternatives of AND; one weight without AND."""
        return tuple(alternative.weight for alternative in self.plans[0][0])

    def ends(self, alternative: int) -> tuple[int, ...]:
        """Last steps of the parts in which nothing changes."""
        schedules = [prompt[alternative].schedule for plan in self.plans for prompt in plan]
        return tuple(sorted({last for schedule in schedules for last, _ in schedule}))

    def at(self, alternative: int, step: int) -> Readings:
        """The reading of every prompt at `step`."""
        return tuple(
            tuple(_find_reading(prompt[alternative].schedule, step) for prompt in plan)
            for plan in self.plans
        )

    def readings(self) -> Iterator[Reading]:
        """Yield all readings to encode."""
        for plan in self.plans:
            for prompt in plan:
                for alternative in prompt:
                    yield from (reading for _, reading in alternative.schedule)


def read_timeline(
    texts: Sequence[Sequence[str]], options: Options, *, negative: bool = False
) -> Timeline:
    """Parse the prompts of one side; `texts` holds one list of P prompts per encoder.

    Raises:
        TextError: a prompt is not valid in its dialect.
        ConfigError: AND in a batch, or AND in the wording of only one encoder.
    """
    read = {
        text: parse(text, options.dialect).readings(options.steps, negative=negative)
        for text in dict.fromkeys(text for one in texts for text in one)
    }
    plans = tuple(tuple(read[text] for text in one) for one in texts)
    counts = {len(alternatives) for plan in plans for alternatives in plan}
    several = max(counts, default=1) > 1
    if several and (len(counts) > 1 or len(texts[0]) > 1):
        raise ConfigError(
            "AND gives a prompt several sets of tensors, which fit neither into a batch nor with a "
            "prompt_2 without AND; call the conditioner once per prompt, with AND in both."
        )
    return Timeline(plans)


def _find_reading(schedule: Sequence[tuple[int, Reading]], step: int) -> Reading:
    return next((reading for last, reading in schedule if step <= last), schedule[-1][1])
