"""How a classifier is fitted and what it shall promise, checked before the work; no torch."""

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from ecliptic.checks import check_choice, check_range
from ecliptic.errors import ConfigError

Method: TypeAlias = Literal["temperature", "platt", "isotonic"]
Learner: TypeAlias = Literal["probe", "tip-adapter"]
METHODS: tuple[Method, ...] = ("temperature", "platt", "isotonic")
LEARNERS: tuple[Learner, ...] = ("probe", "tip-adapter")
ONE_LABEL = ("accuracy", "answered", "sets", "known")  # promises about one label per image
EACH_LABEL = ("precision", "recall")  # promises about each of several labels


@dataclass(frozen=True)
class Promises:
    """What a classifier shall promise; each is a share between 0 and 1, or None.

    With one label per image:
        accuracy: of its answers; it abstains from the others. Approximate.
        answered: of the images; it abstains from the least sure ones.
        sets: the share of conformal sets that hold the right label.
        known: of the images of your labels that are not taken for "none of these".
    With several labels per image:
        precision: of what is given, for each label. Approximate.
        recall: of what is right, for each label.
    """

    accuracy: float | None = None
    answered: float | None = None
    sets: float | None = None
    known: float | None = None
    precision: float | None = None
    recall: float | None = None
    confidence: float = 0.95  # of all but `sets`

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if share is not None:
                check_range(field.name, share, 0.0, 1.0, above=True, below=True)
        for one, other in (("accuracy", "answered"), ("precision", "recall")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ConfigError(
                    f"{one} and {other} both set the threshold of an answer; ask for one of them."
                )

    def names(self) -> list[str]:
        """What is promised."""
        return [name for name in ONE_LABEL + EACH_LABEL if getattr(self, name) is not None]


@dataclass(frozen=True)
class FitSettings:
    """How a classifier is fitted on labelled images."""

    method: Method = "temperature"
    few_shot: Learner | None = None
    per_label: bool = False  # a curve, and a level of the sets, for each label
    promises: Promises = Promises()

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if self.few_shot is not None:
            check_choice("few_shot", self.few_shot, LEARNERS)

    def check(self, *, several: bool, has_background: bool) -> None:
        """Raise ConfigError for what has no effect, or cannot be, with such labels."""
        wrong = ONE_LABEL if several else EACH_LABEL
        if bad := [name for name in self.promises.names() if name in wrong]:
            kind = "one label" if several else "several labels"
            fix = "pass several=False" if several else "pass several=True"
            raise ConfigError(
                f"{bad[0]} is a promise for {kind} per image; leave it out, or {fix}."
            )
        if several and self.method == "temperature":
            raise ConfigError(
                "a temperature is for one label per image; with several=True use "
                'method="platt", or method="isotonic" with 1,000 images.'
            )
        if several and self.few_shot:
            raise ConfigError(
                f'few_shot="{self.few_shot}" learns one label per image; leave it out, or leave '
                "several=True out."
            )
        if self.few_shot and has_background:
            raise ConfigError(
                "a background corrects label texts, and few_shot learns other weights for them; "
                "leave one of them out."
            )
        if self.per_label and self.method == "temperature" and self.promises.sets is None:
            raise ConfigError(
                "a temperature is shared by all labels; leave per_label=True out, or use "
                'method="platt".'
            )
