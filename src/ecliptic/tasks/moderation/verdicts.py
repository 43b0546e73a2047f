"""`ImageVerdict`: what a moderator says about one image, with all its reasons."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecliptic.inputs import ImageSource

ALLOW, REJECT = "allow", "reject"
STRENGTHS = (ALLOW, "label", "review", "block", REJECT)  # weakest first


@dataclass(frozen=True)
class Reason:
    """How one concept scored for one image."""

    concept: str
    score: float
    threshold: float
    flagged: bool
    nearest: str = ""  # the text or example image that it is most like
    nearest_cosine: float | None = None
    contrast: str = ""  # the text or image of the other side that it is most like
    contrast_cosine: float | None = None
    note: str = ""  # what the score does not tell

    @property
    def margin(self) -> float:
        """The score minus the threshold."""
        return self.score - self.threshold

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is left out."""
        known = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        return known | {"margin": self.margin}


@dataclass(frozen=True)
class ImageVerdict:
    """What a moderator says about one image."""

    name: str  # of the image
    action: str  # "allow", "label", "review", "block", or "reject" where there is no score
    reasons: tuple[Reason, ...]  # one for each concept; the first decided the action
    rules: str  # the version of the rules
    error: str = ""  # why there is no score
    source: "ImageSource | None" = field(default=None, compare=False, repr=False)  # for a page

    @property
    def flagged(self) -> bool:
        """Whether it is anything but allowed; an image without a score is flagged, too."""
        return self.action != ALLOW

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of the concepts over their threshold."""
        return tuple(reason.concept for reason in self.reasons if reason.flagged)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        about = {"image": self.name, "action": self.action, "rules": self.rules}
        if self.error:
            return about | {"error": self.error}
        return about | {"reasons": [reason.to_json() for reason in self.reasons]}


def make_verdict(
    name: str, reasons: Iterable[Reason], actions: Mapping[str, str], rules: str
) -> ImageVerdict:
    """The verdict of the strongest action among the concepts over their threshold.

    The reason of that action stands first; the others that are over their threshold follow, the
    stronger action and the wider margin first, and then those below it.
    """

    def weight(reason: Reason) -> tuple[bool, int, float]:
        strength = STRENGTHS.index(actions[reason.concept]) if reason.flagged else 0
        return reason.flagged, strength, reason.margin

    ordered = sorted(reasons, key=weight, reverse=True)
    found = bool(ordered) and ordered[0].flagged
    action = actions[ordered[0].concept] if found else ALLOW
    return ImageVerdict(name, action, tuple(ordered), rules)


def reject(name: str, error: str, rules: str) -> ImageVerdict:
    """The verdict of an image without a score, which is never safe."""
    return ImageVerdict(name, REJECT, (), rules, error)


def review_queue(verdicts: Iterable[ImageVerdict]) -> list[ImageVerdict]:
    """The verdicts that a person should see: the strongest action first, then the widest margin."""

    def urgency(verdict: ImageVerdict) -> tuple[int, float]:
        margin = verdict.reasons[0].margin if verdict.reasons else 0.0
        return -STRENGTHS.index(verdict.action), -margin

    return sorted((one for one in verdicts if one.flagged), key=urgency)
