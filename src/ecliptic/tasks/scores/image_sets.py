"""How near is one set of images to another, as a whole? CLIP-I and CMMD.

A, B vectors of the two sets, E vector size.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecliptic.checks import check_choice
from ecliptic.engine import Vectors
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import Interval, Rows, bootstrap, clip_i, cmmd, cmmd_test
from ecliptic.tasks.scores.notes import count_things

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
    paired: bool  # whether p is of exchanges within pairs of images of one name
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
            "paired": self.paired,
            "notes": list(self.notes),
        }

    def facts(self) -> dict[str, str]:
        """Names and values, for people."""
        shown = f"{self.score:.4f}"
        if self.interval:
            shown = self.interval.show_at(self.level)
        found = {"metric": self.metric, "score": shown}
        if self.p is not None:
            found["p"] = (
                f"{self.p:.3g}, chance of so large a value if both sets were of one distribution"
            )
            what = "images of one name" if self.paired else "all images"
            found["test"] = f"{what} are exchanged at random between the sets"
        found["n"] = f"{self.counts[0]:,} and {self.counts[1]:,} images"
        return found | {"convention": self.convention, "model": self.model}


def score_sets(
    first: Rows,
    second: Rows,
    metric: str = "cmmd",
    level: float = 0.95,
    seed: int = 0,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> SetScore:
    """Compare two sets of image vectors.

    Where both have images of the same names, but for the folder and the suffix, CMMD takes two of
    one name as a pair that shares its content, such as two images of one prompt: they are exchanged
    only with each other, and "cmmd" leaves out how near they are. Of names that mean nothing, such
    as numbers, the result is no less right.

    Args:
        first: (A, E) vectors, such as of generated images.
        second: (B, E) vectors, such as of real ones.
        metric: "clip-i", "cmmd" or "cmmd-published".
        level: of the interval of CLIP-I.
        seed: of resamples and permutations.
        names: of the images of both sets; None are the ids of stored vectors.

    Raises:
        ConfigError: an unknown metric, or too few vectors.
        ShapeError: vectors of two sizes, or not one name for each.
        SpaceMismatchError: stored vectors of two spaces.
    """
    check_choice("metric", metric, SET_SCORES)
    counts = _count_images(first, second)
    interval = p = order = None
    convention, notes = SET_SCORES[metric], _notes(metric, counts)
    if metric == "clip-i":
        interval = bootstrap(clip_i(first, second), level=level, seed=seed)
        interval = interval.within(-1.0, 1.0)  # of cosines
        score = interval.value
    else:
        own, others = map(_bare_names, _check_names(names or _ids(first, second), counts))
        order = _match_names(own, others)
        second = second if order is None else _reorder(second, order)
        notes += _note_names(own, others, order)
        pairs = order is not None and metric == "cmmd"
        convention += "; images of one name are not compared with each other" * pairs
        score = cmmd(first, second, unbiased=metric == "cmmd", paired=pairs)
        p = cmmd_test(first, second, seed=seed, paired=order is not None)
    model = first.model if isinstance(first, Vectors) else ""
    return SetScore(
        metric,
        convention,
        score,
        interval,
        p,
        counts,
        model,
        level,
        order is not None,
        notes,
    )


def _match_names(first: Sequence[str], second: Sequence[str]) -> list[int] | None:
    """For each of the first names, the place of the same one among the second.

    None if there are none, if they are not the same ones, or if one is there twice.
    """
    places = {name: place for place, name in enumerate(second)}
    alone = len(set(first)) == len(first) == len(second)
    if not first or not alone or set(first) != set(places):
        return None
    return [places[name] for name in first]


def _ids(first: Rows, second: Rows) -> tuple[Sequence[str], Sequence[str]]:
    """The names of stored vectors; none if one side has none."""
    ids = [getattr(rows, "ids", None) for rows in (first, second)]
    return (ids[0], ids[1]) if ids[0] and ids[1] else ((), ())


def _check_names(
    names: tuple[Sequence[str], Sequence[str]], counts: tuple[int, int]
) -> tuple[Sequence[str], Sequence[str]]:
    given = len(names[0]), len(names[1])
    if given not in ((0, 0), counts):
        raise ShapeError(
            f"{given[0]} and {given[1]} names cannot belong to {counts[0]} and {counts[1]} images; "
            "give one name for each."
        )
    return names


def _bare_names(names: Sequence[str]) -> list[str]:
    """Names without suffix and without the folders that all of them have."""
    parts = [posixpath.splitext(Path(name).as_posix())[0].split("/") for name in names]
    common = len(posixpath.commonprefix([own[:-1] for own in parts]))
    return ["/".join(own[common:]) for own in parts]


def _reorder(rows: Any, order: list[int]) -> Any:
    if isinstance(rows, Vectors):
        return replace(rows, vectors=rows.vectors[order], ids=None)
    return rows[order]


def _note_names(
    first: Sequence[str], second: Sequence[str], order: list[int] | None
) -> tuple[str, ...]:
    shared = len(set(first) & set(second))
    if order is not None or not shared:
        return ()
    return (
        f"{count_things(shared, 'name')} {'is' if shared == 1 else 'are'} in both sets and others "
        "are not, so all images are exchanged: if those of one name share their content, p is too "
        "large. Give both sets the same names to exchange only those.",
    )


def _count_images(*sides: Any) -> tuple[int, int]:
    first, second = (len(getattr(rows, "vectors", rows)) for rows in sides)
    if min(first, second) < 2:
        raise ConfigError(
            f"two sets need at least 2 images each, got {first} and {second}; score one image with "
            "its caption instead."
        )
    return first, second


def _notes(metric: str, counts: tuple[int, int]) -> tuple[str, ...]:
    notes = []
    if metric.startswith("cmmd") and min(counts) < SMALL:
        notes.append(f"{min(counts):,} images are few for CMMD; look at p before the score.")
    if metric == "cmmd-published" and counts[0] != counts[1]:
        notes.append("the sets differ in size, and the published formula depends on it.")
    return tuple(notes)
