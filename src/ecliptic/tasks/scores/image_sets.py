"""How near is one set of images to another, as a whole? CLIP-I and CMMD.

A, B vectors of the two sets, E vector size.
"""

from dataclasses import dataclass
from typing import Any

from ecliptic.checks import check_choice
from ecliptic.engine import Vectors
from ecliptic.errors import ConfigError
from ecliptic.scoring import Interval, Rows, bootstrap, clip_i, cmmd, cmmd_test

SET_SCORES = {  # name -> convention
    "clip-i": "mean cosine of every image of the first set with every one of the second "
    "(DreamBooth, Ruiz et al. 2023); the interval takes the second set as given",
    "cmmd": "1000 x MMD^2, Gaussian kernel of sigma 10 on unit vectors, unbiased: 0 on average "
    "for equal distributions (Jayasumana et al. 2024)",
    "cmmd-published": "as the published code, each vector's pair with itself kept: above 0 for "
    "equal distributions, so compare only sets of equal sizes",
}
SMALL = 1000  # images; below, CMMD is only rough
_DIGITS = 6


@dataclass(frozen=True)
class SetScore:
    """A score of two sets of images."""

    metric: str
    convention: str
    score: float
    interval: Interval | None  # of CLIP-I
    p: float | None  # of CMMD: the chance of it if both sets were of one distribution
    counts: tuple[int, int]  # A and B
    model: str
    level: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        ends = [self.interval.low, self.interval.high] if self.interval else None
        return {
            "metric": self.metric,
            "convention": self.convention,
            "model": self.model,
            "n": list(self.counts),
            "score": round(self.score, _DIGITS),
            "interval": [round(end, _DIGITS) for end in ends] if ends else None,
            "level": self.level,
            "p": self.p,
            "notes": list(self.notes),
        }

    def facts(self) -> dict[str, str]:
        """Names and values, for people."""
        shown = f"{self.score:.4f}"
        if self.interval:
            shown = self.interval.show_at(self.level)
        found = {"metric": self.metric, "score": shown}
        if self.p is not None:
            found["p"] = f"{self.p:.3g}, that both sets are of one distribution"
        found["n"] = f"{self.counts[0]:,} and {self.counts[1]:,} images"
        return found | {"convention": self.convention, "model": self.model}


def score_sets(
    first: Rows, second: Rows, metric: str = "cmmd", level: float = 0.95, seed: int = 0
) -> SetScore:
    """Compare two sets of image vectors.

    Args:
        first: (A, E) vectors, such as of generated images.
        second: (B, E) vectors, such as of real ones.
        metric: "clip-i", "cmmd" or "cmmd-published".
        level: of the interval of CLIP-I.
        seed: of resamples and permutations.

    Raises:
        ConfigError: an unknown metric, or too few vectors.
        ShapeError: vectors of two sizes.
        SpaceMismatchError: stored vectors of two spaces.
    """
    check_choice("metric", metric, SET_SCORES)
    counts = _count(first), _count(second)
    if min(counts) < 2:
        raise ConfigError(
            f"two sets need at least 2 images each, got {counts[0]} and {counts[1]}; score one "
            "image with its caption instead."
        )
    interval = p = None
    if metric == "clip-i":
        interval = bootstrap(clip_i(first, second), level=level, seed=seed)
        interval = interval.within(-1.0, 1.0)  # of cosines
        score = interval.value
    else:
        score = cmmd(first, second, unbiased=metric == "cmmd")
        p = cmmd_test(first, second, seed=seed)
    model = first.model if isinstance(first, Vectors) else ""
    notes = _notes(metric, counts)
    return SetScore(metric, SET_SCORES[metric], score, interval, p, counts, model, level, notes)


def _count(rows: Any) -> int:
    return len(getattr(rows, "vectors", rows))


def _notes(metric: str, counts: tuple[int, int]) -> tuple[str, ...]:
    notes = []
    if metric.startswith("cmmd") and min(counts) < SMALL:
        notes.append(f"{min(counts):,} images are few for CMMD; look at p before the score.")
    if metric == "cmmd-published" and counts[0] != counts[1]:
        notes.append("the sets differ in size, and the published formula depends on it.")
    return tuple(notes)
