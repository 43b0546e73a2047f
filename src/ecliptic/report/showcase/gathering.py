"""The demo's questions about images of the user: a sample of them, and the user's texts."""

import os
from collections.abc import Iterable, Sequence

from ecliptic.checks import check_count
from ecliptic.engine import Item, Rejects, image_item
from ecliptic.errors import InputError
from ecliptic.report.questions import Picture, Query, Questions
from ecliptic.report.showcase.sampling import sample

IN_MATRIX, READ = 10, 2  # texts in the matrix, and texts whose tokens are shown
GENERAL = (  # the texts if the user gives none
    "people",
    "an animal",
    "food",
    "a landscape",
    "a building",
    "a vehicle",
    "a drawing",
    "a page of text",
)


def gather(
    images: Iterable[Item | str | os.PathLike[str]], queries: Sequence[str], limit: int
) -> tuple[Questions, Rejects]:
    """Questions about at most `limit` of the images, and the items without an image.

    Raises:
        InputError: no images, or no texts.
    """
    texts = tuple(dict.fromkeys(text.strip() for text in queries if text.strip()))
    if isinstance(queries, str) or not texts:
        raise InputError(f"queries must be a list of at least one text, got {queries!r}.")
    chosen, offered = sample(images, check_count("limit", limit))
    if not chosen:
        raise InputError("there are no images; name at least one image, folder or table.")
    pictures, rejects = list[Picture](), Rejects()
    for index, image in enumerate(chosen):
        item = image if isinstance(image, Item) else image_item(os.fspath(image))
        if item.error is None:
            pictures.append(Picture(item.name, item.value))
        else:
            rejects.add(index, item.name, item.error)
    longest = sorted(texts, key=len, reverse=True)
    questions = Questions(
        pictures=tuple(pictures),
        queries=tuple(map(Query, texts)),
        labels=texts,
        matrix=texts[:IN_MATRIX],
        texts=tuple(longest[:READ]),
        known=False,
        offered=offered,
    )
    return questions, rejects
