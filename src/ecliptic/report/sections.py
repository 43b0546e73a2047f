"""The parts of the demo's page, each a function from the result to HTML."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecliptic.inputs import TokenSpan
from ecliptic.report.facts import facts
from ecliptic.report.markup import Html, inline_image, join, tag
from ecliptic.report.results import DemoResult, Guess, Search, TokenReading

ABOUT = (
    "This is mini, the small CLIP inside the package. It was trained from nothing on emoji, clip "
    "art and icons, so it knows drawings, not photographs. It has never seen the style of the "
    "drawings below. Everything here is what it says itself, right or wrong; for photographs, "
    'load a released model: ecliptic.load("ViT-B-32/openai").'
)


def headline(result: DemoResult) -> Html:
    """The four figures at the top."""
    pace = next(timing for timing in result.timings if timing.step == "encode drawings")
    figures = (
        (f"{result.right} of {len(result.guesses)}", "drawings named right at the first guess"),
        (f"{result.found} of {len(result.searches)}", "searches by words right at the first hit"),
        (f"{pace.items / pace.seconds:.0f} / s", "drawings encoded, decoding included"),
        (f"{result.seconds:.1f} s", "for everything on this page"),
    )
    return tag(
        "dl",
        (tag("div", tag("dt", what), tag("dd", figure)) for figure, what in figures),
        class_="figures",
    )


def sections(result: DemoResult) -> Html:
    """All sections in reading order."""
    return join([*(_section(part, result) for part in _PARTS), facts(result)])


def _section(part: "_Part", result: DemoResult) -> Html:
    return tag(
        "section",
        tag("h2", part.title),
        tag("p", part.explanation.format(count=len(result.guesses))),
        tag("p", tag("code", part.code), class_="code"),
        part.content(result),
        id=part.title.lower().replace(" ", "-"),  # so that a part can be linked to
    )


def _guess(guess: Guess) -> Html:
    name = guess.drawing.name
    rows = (
        tag(
            "li",
            tag("span", label, class_="own" if label == name else "other"),
            tag("span", _percent(chance), class_="number"),
            tag("i", style=f"width:{chance * 78:.1f}%"),  # the rest is for the number
        )
        for label, chance in guess.labels
    )
    verdict = "right" if guess.right else f"wrong, it shows {_article(name)}"
    return tag(
        "article",
        inline_image(guess.drawing.path, f"drawing: {name}"),
        tag("ol", rows),
        tag("p", verdict, class_="verdict"),
        class_="guess" if guess.right else "guess wrong",
    )


def _search(search: Search) -> Html:
    if isinstance(search.query, str):
        asked = tag("p", f"“{search.query}”", class_="asked")
    else:
        drawn = inline_image(search.query.path, f"drawing: {search.query.name}")
        asked = tag("p", drawn, class_="asked")
    hits = (
        tag(
            "li",
            inline_image(hit.drawing.path, hit.drawing.name),
            tag("span", f"{hit.cosine:.2f}", class_="number"),
            tag("span", "fits" if hit.fits else "", class_="mark"),
            class_="fits" if hit.fits else "",
        )
        for hit in search.hits
    )
    return tag("article", asked, tag("ol", hits), class_="search")


def _reading(reading: TokenReading) -> Html:
    used = sum(token.kept for token in reading.tokens)
    told = f"{used} of {reading.context} tokens used"
    if reading.dropped:
        lost = tag("s", _lost_words(reading))
        verdict = tag("p", f"{told}, {reading.dropped} dropped: ", lost, class_="verdict lost")
    else:
        verdict = tag("p", f"{told}, none dropped", class_="verdict")
    return tag(
        "article",
        tag("blockquote", reading.text),
        tag("ol", map(_token, reading.tokens)),
        verdict,
        class_="reading",
    )


def _token(token: TokenSpan) -> Html:
    kind = token.kind if token.kept else "dropped"
    piece = {"start": "start", "end": "end"}.get(token.kind, token.piece)
    joined = "" if token.ends_word or token.kind != "text" else " joined"
    return tag("li", tag("b", piece), tag("small", str(token.id)), class_=kind + joined)


def _lost_words(reading: TokenReading) -> str:
    """The part of the text that the dropped tokens stand for."""
    spans: Iterable[tuple[int, int]] = [t.span for t in reading.tokens if not t.kept]
    return reading.text[min(start for start, _ in spans) : max(end for _, end in spans)]


def _percent(chance: float) -> str:
    return "< 1 %" if chance < 0.005 else f"{chance * 100:.0f} %"


def _article(name: str) -> str:
    return name if name == "glasses" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class _Part:
    """One section: its words, the call that it shows, and what it draws from a result."""

    title: str
    explanation: str  # `{count}` is the number of drawings
    code: str
    content: Callable[[DemoResult], Html]


_PARTS = (
    _Part(
        "Name what is drawn",
        "Zero-shot: for each drawing the model chooses among the same {count} labels, never "
        "having been trained to sort into them. Chance is 1 in {count}.",
        "clip.classify(images, labels)",
        lambda result: tag("div", map(_guess, result.guesses), class_="grid"),
    ),
    _Part(
        "Find a drawing by words",
        "The text and every drawing become vectors; the nearest drawings come first. The numbers "
        "are cosines.",
        "clip.similarity(texts, images)",
        lambda result: tag("div", map(_search, result.searches), class_="searches"),
    ),
    _Part(
        "Find more like this",
        "The same with a drawing as the question. No names are used.",
        "vectors = clip.encode_image(images); vectors @ vectors.T",
        lambda result: tag("div", map(_search, result.neighbours), class_="searches"),
    ),
    _Part(
        "See them all at once",
        "Cosines of names (rows) with drawings (columns). A frame marks the best drawing of each "
        "row; the diagonal is where it belongs.",
        "ecliptic.plots.similarity_matrix(cosines, rows, columns)",
        lambda result: tag(
            "div", inline_image(result.matrix, "similarity matrix"), class_="matrix"
        ),
    ),
    _Part(
        "Read as the model reads",
        "A text becomes tokens, pieces of words with a number each; a bar behind a piece means "
        "that the word goes on. What does not fit into the context is never dropped in silence.",
        "ecliptic tokens TEXT",
        lambda result: join(map(_reading, result.readings)),
    ),
)
