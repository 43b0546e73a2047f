"""The demo: one model classifies, searches and compares drawings, or images of the user.

I pictures, L labels, Q queries, E vector size.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ecliptic.engine import Clip, Item, Rejects, load, progress_bar
from ecliptic.errors import InputError
from ecliptic.inputs import ledger
from ecliptic.report.questions import Questions
from ecliptic.report.showcase.answers import (
    compare,
    guess_labels,
    search_less,
    search_neighbours,
    search_texts,
)
from ecliptic.report.showcase.bundled import bundled_questions
from ecliptic.report.showcase.drawn import draw_samples
from ecliptic.report.showcase.gathering import GENERAL, gather
from ecliptic.report.showcase.judging import judge_answers
from ecliptic.report.showcase.page import write_page
from ecliptic.report.showcase.results import Answers, DemoResult, Scope, Timing, TokenReading
from ecliptic.report.showcase.sampling import LIMIT
from ecliptic.report.showcase.summary import print_summary
from ecliptic.scoring import add_none, cosine
from ecliptic.storage import check_outputs

T = TypeVar("T")


def demo(
    out: Path,
    clip: Clip | None = None,
    *,
    images: Iterable[Item | str | os.PathLike[str]] | None = None,
    queries: Sequence[str] | None = None,
    limit: int = LIMIT,
    progress: bool = False,
    quiet: bool = False,
) -> DemoResult:
    """Encode, classify, search and compare images, and write the report.

    Args:
        out: the HTML file to write; its folder is created if needed.
        clip: a model with both towers; None is the built-in model `mini`.
        images: paths, or items of `engine.read_items`; None is the bundled drawings.
        queries: texts to search your images with, and to choose from for each; None is a few
            general ones, such as "people".
        limit: of more images than that, so many are drawn at random, on every run the same.
        progress: show a bar on stderr.
        quiet: do not print the summary on stderr.

    Returns:
        All answers of the model, right and wrong.

    Raises:
        InputError: no images, none that can be used, or no texts.
        MissingTowerError: the model has no image or no text side.
        StorageError: `out` cannot be written; raised before the work.
    """
    check_outputs([Path(out)], force=True, make_folders=True)
    questions, rejects = bundled_questions(), Rejects()
    if images is not None:
        questions, rejects = gather(images, GENERAL if queries is None else queries, limit)
    elif queries is not None:
        raise InputError("queries are for your own images; pass images too.")
    result = explore(Path(out), clip, questions, rejects, show=progress)
    write_page(result)
    if not quiet:
        print_summary(result)
    return result


def explore(
    out: Path, clip: Clip | None, questions: Questions, rejects: Rejects, *, show: bool = False
) -> DemoResult:
    """Compute the answers of the demo, without writing or printing them.

    Images that cannot be used are added to `rejects`; `show` shows a progress bar on stderr.
    """
    clock, count = _Clock(), len(questions.pictures)
    model = clip or clock.time("load the model", load)
    kept, images = clock.time(
        "encode images", lambda: _encode(model, questions, rejects, show), count
    )  # (I, E)
    questions = questions.keep(kept)
    answers, labels = _answer(model, questions, images, clock)
    judgements = clock.time(
        "judge", lambda: judge_answers(questions, answers.guesses, images, labels, model.card)
    )
    with_drawings = clip is None and questions.known
    drawn = clock.time("draw", lambda: draw_samples(model)) if with_drawings else ()
    space, exact = clock.time("fingerprint", lambda: (model.card.space, model.card.exact))
    return DemoResult(
        path=out,
        embedded=clip is None,
        card=model.card.to_dict(),
        space=space,
        exact=exact,
        scope=Scope(questions.pictures, tuple(rejects), questions.offered, questions.known),
        answers=answers,
        judgements=judgements,
        drawn=drawn,
        readings=_read(model, questions),
        timings=tuple(clock.timings),
        machine=_machine(),
    )


def _judge(model: Clip, images: Tensor, labels: Tensor) -> Tensor:
    """(I, L) probabilities of labels, and that of "none of these" if the model can say it."""
    chances = model.probabilities(cosine(images, labels))
    return chances if model.card.calibration is None else add_none(chances)


def _answer(
    model: Clip, questions: Questions, images: Tensor, clock: "_Clock"
) -> tuple[Answers, Tensor]:
    """The answers, and the vectors of the labels (L, E)."""
    labels, queries = questions.labels, [query.text for query in questions.queries]
    unique = tuple(dict.fromkeys((*labels, *queries)))
    texts = clock.time("encode texts", lambda: model.encode_text(unique), len(unique))
    named = texts[: len(labels)]  # (L, E)
    asked = texts[[unique.index(text) for text in queries]]  # (Q, E)
    answers = clock.time(
        "answer",
        lambda: Answers(
            guess_labels(questions, _judge(model, images, named)),
            search_texts(questions, asked, images),
            search_neighbours(questions, images),
            search_less(questions, images, model),
            compare(questions, images, named),
        ),
    )
    return answers, named


class _Clock:
    """Runs steps and records how long they take."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []

    def time(self, step: str, run: Callable[[], T], items: int = 0) -> T:
        start = time.perf_counter()
        result = run()
        self.timings.append(Timing(step, time.perf_counter() - start, items))
        return result


def _encode(
    model: Clip, questions: Questions, rejects: Rejects, show: bool
) -> tuple[list[int], Tensor]:
    """The places of the usable pictures, and their vectors (I, E)."""
    pictures, kept, parts = questions.pictures, list[int](), list[Tensor]()
    sources = (picture.source for picture in pictures)
    with progress_bar("images", len(pictures), show=show) as advance:
        for part in model.stream_image(sources, on_error="reject"):
            kept += part.kept
            parts.append(part.vectors)
            for reject in part.rejected:
                rejects.add(reject.index, pictures[reject.index].name, reject.error)
            advance(len(part.kept) + len(part.rejected))
    if not kept:
        first = "; ".join(f"{reject.source}: {reject.reason}" for reject in list(rejects)[:1])
        raise InputError(f"none of the {len(rejects)} images can be used; {first}")
    return kept, torch.cat(parts)


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
