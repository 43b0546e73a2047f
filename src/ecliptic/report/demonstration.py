"""The demo: one model classifies, searches and compares the bundled drawings.

I drawings, L labels, Q queries, E vector size.
"""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine import Clip, load
from ecliptic.inputs import ledger
from ecliptic.plots import MatrixStyle, similarity_matrix
from ecliptic.report.bundled import Questions, bundled
from ecliptic.report.page import write_page
from ecliptic.report.results import DemoResult, Guess, Hit, Search, Timing, TokenReading
from ecliptic.report.summary import print_summary
from ecliptic.scoring import cosine, probabilities
from ecliptic.storage import check_path

T = TypeVar("T")

BEST_LABELS, BEST_DRAWINGS = 3, 4  # shown of each


def demo(out: Path, clip: Clip | None = None, *, quiet: bool = False) -> DemoResult:
    """Encode, classify, search and compare the bundled drawings, and write the report.

    Args:
        out: the HTML file to write; its folder is created if needed.
        clip: a model with both towers; None is the built-in model `mini`.
        quiet: do not print the summary on stderr.

    Returns:
        All answers of the model, right and wrong.

    Raises:
        MissingTowerError: the model has no image or no text side.
        StorageError: `out` cannot be written.
    """
    check_path(out)
    result = explore(Path(out), clip)
    write_page(result)
    if not quiet:
        print_summary(result)
    return result


def explore(out: Path, clip: Clip | None = None) -> DemoResult:
    """Compute the answers of the demo, without writing or printing them."""
    clock, questions = _Clock(), bundled()
    model = clip or clock.time("load the model", load)
    paths = [drawing.path for drawing in questions.drawings]
    images = clock.time("encode drawings", lambda: model.encode_image(paths), len(paths))  # (I, E)
    labels = clock.time(
        "encode labels", lambda: model.text_classifier(questions.names), len(questions.names)
    )  # (L, E)
    texts = [query.text for query in questions.queries]
    queries = clock.time("encode queries", lambda: model.encode_text(texts), len(texts))  # (Q, E)
    answer = clock.time("answer", lambda: _answer(model, questions, images, labels, queries))
    fingerprints = clock.time("fingerprint", lambda: (model.card.space, model.card.exact))
    return DemoResult(
        path=out,
        embedded=clip is None,
        card=model.card.to_dict(),
        space=fingerprints[0],
        exact=fingerprints[1],
        guesses=answer[0],
        searches=answer[1],
        neighbours=answer[2],
        matrix=_draw_matrix(questions, images, labels),
        readings=_read(model, questions),
        timings=tuple(clock.timings),
        machine=_machine(),
    )


class _Clock:
    """Runs steps and records how long they take."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []

    def time(self, step: str, run: Callable[[], T], items: int = 0) -> T:
        start = time.perf_counter()
        result = run()
        self.timings.append(Timing(step, time.perf_counter() - start, items))
        return result


def _answer(
    model: Clip, questions: Questions, images: Tensor, labels: Tensor, queries: Tensor
) -> tuple[tuple[Guess, ...], tuple[Search, ...], tuple[Search, ...]]:
    """Guesses, searches with texts and searches with drawings, from unit vectors."""
    scale = float(model.model.logit_scale.detach().exp())
    chances = probabilities(cosine(images, labels), scale)  # (I, L)
    guesses = tuple(
        Guess(drawing, _best_labels(row, questions))
        for drawing, row in zip(questions.drawings, chances, strict=True)
    )
    searches = tuple(
        Search(query.text, _hits(row, questions, query.fits))
        for query, row in zip(questions.queries, cosine(queries, images), strict=True)
    )
    own = questions.places(questions.like)
    rows = cosine(images[own], images).clone()
    rows[torch.arange(len(own)), own] = -torch.inf  # not the drawing itself
    neighbours = tuple(
        Search(questions.drawings[place], _hits(row, questions))
        for place, row in zip(own, rows, strict=True)
    )
    return guesses, searches, neighbours


def _best_labels(chances: Tensor, questions: Questions) -> tuple[tuple[str, float], ...]:
    values, places = chances.topk(BEST_LABELS)
    return tuple(
        (questions.names[place], value)
        for value, place in zip(values.tolist(), places.tolist(), strict=True)
    )


def _hits(
    cosines: Tensor, questions: Questions, fits: tuple[str, ...] | None = None
) -> tuple[Hit, ...]:
    values, places = cosines.topk(BEST_DRAWINGS)
    found = [questions.drawings[place] for place in places.tolist()]
    return tuple(
        Hit(drawing, value, None if fits is None else drawing.name in fits)
        for drawing, value in zip(found, values.tolist(), strict=True)
    )


def _draw_matrix(questions: Questions, images: Tensor, labels: Tensor) -> Image.Image:
    places = questions.places(questions.matrix)
    columns = [Image.open(questions.drawings[place].path) for place in places]
    cosines = cosine(labels[places], images[places])
    return similarity_matrix(cosines, questions.matrix, columns, style=MatrixStyle(cell=76))


def _read(model: Clip, questions: Questions) -> tuple[TokenReading, ...]:
    context = model.tokenizer.spec.context
    return tuple(
        TokenReading(text, tuple(ledger(text, model.tokenizer)), context)
        for text in questions.texts
    )


def _machine() -> str:
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores "
        f"({torch.get_num_threads()} used), Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
