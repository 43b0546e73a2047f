"""What labelled images a fit needs, and what is odd about those that can be used.

N images, L labels.
"""

from collections.abc import Sequence

from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.scoring import NONE, auroc
from ecliptic.tasks.classification.examples import LabelledVectors
from ecliptic.tasks.classification.settings import FitSettings, Method

FEWEST: dict[Method, int] = {"temperature": 10, "platt": 20, "isotonic": 1000}  # images
FEWEST_OF_EACH: dict[Method, int] = {"platt": 5, "isotonic": 50}  # with a curve for each label
FEWEST_UNKNOWN = 2  # images of none of these, so that a fold leaves one to learn from
_NAMED = 5  # labels in a note


def example_notes(
    examples: LabelledVectors, counts: Sequence[int], names: Sequence[str]
) -> list[str]:
    """What is odd about examples that can be used."""
    notes: list[str] = []
    if examples.repeats:
        notes.append(
            f"{examples.repeats} rows show a picture that stands in an earlier row too; it counts "
            f"once, so there are {len(examples.vectors)} images"
        )
    if empty := [name for name, count in zip(names, counts, strict=True) if not count]:
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        shown = ", ".join(map(repr, empty[:_NAMED]))
        notes.append(
            f"no image of {shown}{more} is among the examples, so how sure to be of these labels "
            "is a guess from the others; add images of them, or leave the labels out"
        )
    return notes


def check_counts(
    counts: Sequence[int],
    unknown: int,
    examples: LabelledVectors,
    names: Sequence[str],
    settings: FitSettings,
) -> None:
    """Raise for examples of one label per image that are too few, or all of one label."""
    check_number(examples, settings)
    present = sum(count > 0 for count in counts)
    if present < 2:
        only = f"of {names[max(range(len(counts)), key=counts.__getitem__)]!r}" if present else ""
        raise ConfigError(
            f"all labelled images are {only or 'none of these'}, so nothing tells right from wrong "
            "answers; add images of at least one more label."
        )
    if unknown and settings.method != "temperature":
        raise ConfigError(
            f'{unknown} images are "none of these", which only method="temperature" can learn; '
            "use it, or leave these images out."
        )
    if 0 < unknown < FEWEST_UNKNOWN:
        raise ConfigError(
            f'"none of these" needs at least {FEWEST_UNKNOWN} images, so that one can be held out, '
            f"got {unknown}; add such images, or leave it out."
        )
    if settings.method != "temperature":
        check_each(counts, len(examples.truth), names, settings)


def check_unknown(logits: Tensor, truth: Tensor) -> None:
    """Raise if images of none of the labels look more like them than their own images."""
    best, known = logits.max(dim=1).values, truth != NONE
    if not bool(known.all()) and auroc(best[known], best[~known]) <= 0.5:
        raise ConfigError(
            "the best scores of images of your labels are not higher than those of images of "
            '"none of these", so no level tells them apart; check the labels of the examples, or '
            "use another model or other label texts."
        )


def check_number(examples: LabelledVectors, settings: FitSettings) -> None:
    """Raise if there are fewer different images than the method needs."""
    n, fewest = len(examples.truth), FEWEST[settings.method]
    if n < fewest:
        instead = " use another method, or" if settings.method != "temperature" else ""
        repeats = f" ({examples.repeats} repeats do not count)" if examples.repeats else ""
        if settings.few_shot:
            raise ConfigError(
                f'few_shot="{settings.few_shot}" needs 2 images of each label, and {fewest} in '
                f'all for the calibration by method="{settings.method}", got {n}{repeats}: '
                f"{fewest - n} are missing;{instead} add images."
            )
        raise ConfigError(
            f'method="{settings.method}" needs at least {fewest} labelled images, got {n}{repeats}'
            f": {fewest - n} are missing;{instead} add images."
        )


def check_each(counts: Sequence[int], n: int, names: Sequence[str], settings: FitSettings) -> None:
    """Raise if a curve of its own would have too few images with its label, or without."""
    if not settings.per_label:
        return
    fewest = FEWEST_OF_EACH[settings.method]
    for name, count in zip(names, counts, strict=True):
        if min(count, n - count) < fewest:
            raise ConfigError(
                f"a curve for each label needs at least {fewest} images with the label and "
                f"{fewest} without; {name!r} has {count} and {n - count}. Add images, or leave "
                "per_label=True out, so that all labels share one curve."
            )
