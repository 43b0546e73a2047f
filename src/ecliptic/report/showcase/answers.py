"""From vectors to the answers of the demo, the strongest first.

I pictures, L labels, Q queries, E vector size.
"""

import torch
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.index import StoreSchema, open_store
from ecliptic.library import LibraryQuery
from ecliptic.report.questions import Picture, Query, Questions
from ecliptic.report.showcase.results import Guess, Hit, Matrix, Search
from ecliptic.scoring import NONE_OF_THESE, cosine

BEST_LABELS, BEST_HITS, BEST_GROUPS = 3, 4, 4  # shown of each


def guess_labels(questions: Questions, chances: Tensor) -> tuple[Guess, ...]:
    """The best labels of every picture; the surest first, and wrong ones last.

    Where nobody knows the right ones, the labels take turns, so that none fills the top.

    Args:
        questions: with the names of I pictures and L labels.
        chances: (I, L) probabilities, or (I, L + 1), with that of "none of these" last; fewer than
            two columns give no guesses.
    """
    names = (*questions.labels, NONE_OF_THESE)
    if chances.shape[1] < 2:
        return ()
    values, places = chances.topk(min(BEST_LABELS, chances.shape[1]))  # (I, 3)
    rows = zip(questions.pictures, values.tolist(), places.tolist(), strict=True)
    guesses = [
        Guess(picture, tuple((names[i], v) for v, i in zip(sure, best, strict=True)))
        for picture, sure, best in rows
    ]
    guesses.sort(key=lambda guess: -guess.labels[0][1])
    if questions.known:
        return tuple(sorted(guesses, key=lambda guess: not guess.right))
    return _take_turns(guesses)


def _take_turns(guesses: list[Guess]) -> tuple[Guess, ...]:
    """The first picture of every label, then the second of every label, and so on."""
    counts: dict[str, int] = {}
    turns = []
    for guess in guesses:
        label = guess.labels[0][0]
        counts[label] = turn = counts.get(label, 0) + 1
        turns.append((turn, guess))
    return tuple(guess for _, guess in sorted(turns, key=lambda pair: pair[0]))


def search_texts(questions: Questions, queries: Tensor, images: Tensor) -> tuple[Search, ...]:
    """The pictures nearest to each text; where the right ones are known, right answers first."""
    rows = zip(questions.queries, cosine(queries, images), strict=True)
    searches = [Search(query.text, _hits(row, questions.pictures, query)) for query, row in rows]
    if questions.known:
        searches.sort(key=lambda search: (not search.right, -search.hits[0].cosine))
    return tuple(searches)


def search_neighbours(questions: Questions, images: Tensor) -> tuple[Search, ...]:
    """The nearest others of some pictures: of those with the nearest, and none shown twice."""
    if len(images) < 2:
        return ()
    cosines = cosine(images, images).fill_diagonal_(-torch.inf)  # (I, I); not the picture itself
    near = cosines.topk(min(BEST_HITS, len(images) - 1))
    shown: set[int] = set()
    found: list[Search] = []
    for place in near.values.mean(dim=1).argsort(descending=True).tolist():
        if place not in shown and len(found) < BEST_GROUPS:
            shown |= {place, *near.indices[place].tolist()}
            hits = _hits(cosines[place], questions.pictures, most=near.indices.shape[1])
            found.append(Search(questions.pictures[place], hits))
    return tuple(found)


def search_less(questions: Questions, images: Tensor, model: Clip) -> tuple[Search, ...]:
    """Searches of an index in memory: each text alone, and then with less of another text."""
    store = open_store("memory:", StoreSchema(images.shape[1]))
    store.upsert([str(place) for place in range(len(images))], images.numpy())
    found = []
    for text, unlike in questions.less:
        for less in (None, unlike):
            query = LibraryQuery.of(text, None, less)
            hits = store.search(query.vector(store, lambda: model), BEST_HITS).hits[0]
            shown = zip(hits.ids, hits.scores.tolist(), strict=True)
            pictures = tuple(Hit(questions.pictures[int(id_)], score) for id_, score in shown)
            found.append(Search(text if less is None else f"{text}, less {less}", pictures))
    return tuple(found)


def _hits(
    cosines: Tensor,
    pictures: tuple[Picture, ...],
    query: Query | None = None,
    most: int = BEST_HITS,
) -> tuple[Hit, ...]:
    values, places = cosines.topk(min(most, len(cosines)))
    fits = query.fits if query else None
    found = [pictures[place] for place in places.tolist()]
    return tuple(
        Hit(picture, value, None if fits is None else picture.name in fits)
        for picture, value in zip(found, values.tolist(), strict=True)
    )


def compare(questions: Questions, images: Tensor, labels: Tensor) -> Matrix:
    """The cosines of some labels with a picture of each: its own, or the best that is left."""
    rows = [questions.labels.index(label) for label in questions.matrix]
    cosines = cosine(labels[rows], images)
    if questions.known:
        names = [picture.name for picture in questions.pictures]
        columns = [names.index(label) for label in questions.matrix]
    else:
        columns = []
        for row in cosines[: len(images)].clone():
            row[columns] = -torch.inf
            columns.append(int(row.argmax()))
    return Matrix(
        questions.matrix,
        tuple(questions.pictures[place] for place in columns),
        tuple(map(tuple, cosines[:, columns].tolist())),
    )
