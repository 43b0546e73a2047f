"""The sections of the demo's page; each is a function from the result to HTML."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecliptic.inputs import TokenSpan
from ecliptic.report.facts import facts
from ecliptic.report.markup import Html, inline_image, join, tag
from ecliptic.report.results import DemoResult, Guess, Search, TokenReading

ABOUT = (
    "This is mini, the small CLIP model inside the package. It was trained from random weights on "
    "emoji, clip art and icons, so it knows drawings, not photographs. It has never seen drawings "
    "in the style below. All answers on this page are its own, right or wrong. For photographs, "
    'load a released model: ecliptic.load("ViT-B-32/openai").'
)
ABOUT_OTHER = (
    "This is the model {name}, tested on the drawings that come with ecliptic. All answers below "
    "are its own, right or wrong."
)


def headline(result: DemoResult) -> Html:
    """The four numbers at the top."""
    pace = next(timing for timing in result.timings if timing.step == "encode drawings")
    figures = (
        (f"{result.right} of {len(result.guesses)}", "drawings classified correctly"),
        (f"{result.found} of {len(result.searches)}", "text searches with a correct first hit"),
        (f"{pace.items / pace.seconds:.0f} / s", "drawings decoded and encoded"),
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
        id=part.title.lower().replace(" ", "-"),  # so that links to the section work
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
    verdict = "correct" if guess.right else f"wrong, this is {_article(name)}"
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
            tag("span", "correct" if hit.fits else "", class_="mark"),
            class_="fits" if hit.fits else "",
        )
        for hit in search.hits
    )
    return tag("article", asked, tag("ol", hits), class_="search")


def _reading(reading: TokenReading) -> Html:
    used = sum(token.kept for token in reading.tokens)
    summary = f"{used} of {reading.context} tokens used"
    if reading.dropped:
        lost = tag("s", _lost_words(reading))
        verdict = tag("p", f"{summary}, {reading.dropped} dropped: ", lost, class_="verdict lost")
    else:
        verdict = tag("p", f"{summary}, none dropped", class_="verdict")
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
    """The part of the text whose tokens are dropped."""
    spans: Iterable[tuple[int, int]] = [t.span for t in reading.tokens if not t.kept]
    return reading.text[min(start for start, _ in spans) : max(end for _, end in spans)]


def _percent(chance: float) -> str:
    return "< 1 %" if chance < 0.005 else f"{chance * 100:.0f} %"


def _article(name: str) -> str:
    return name if name == "glasses" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class _Part:
    """One section: its text, the call that it shows, and a function that makes its content."""

    title: str
    explanation: str  # `{count}` is the number of drawings
    code: str
    content: Callable[[DemoResult], Html]


_PARTS = (
    _Part(
        "Classify drawings",
        "Zero-shot: the model chooses among the same {count} labels for each drawing. It was not "
        "trained to classify into these labels. A random guess is correct 1 time in {count}.",
        "clip.classify(images, labels)",
        lambda result: tag("div", map(_guess, result.guesses), class_="grid"),
    ),
    _Part(
        "Search with a text",
        "The model turns the text and every drawing into vectors. The drawings nearest to the "
        "text come first. The numbers are cosines.",
        "clip.similarity(texts, images)",
        lambda result: tag("div", map(_search, result.searches), class_="searches"),
    ),
    _Part(
        "Search with a drawing",
        "The same search with a drawing instead of a text. It uses no names.",
        "vectors = clip.encode_image(images); vectors @ vectors.T",
        lambda result: tag("div", map(_search, result.neighbours), class_="searches"),
    ),
    _Part(
        "Compare names with drawings",
        "Cosines of names (rows) and drawings (columns). A frame marks the best drawing of each "
        "row. It is correct if it is on the diagonal.",
        "ecliptic.plots.similarity_matrix(cosines, rows, columns)",
        lambda result: tag(
            "div", inline_image(result.matrix, "similarity matrix"), class_="matrix"
        ),
    ),
    _Part(
        "Show the tokens of a text",
        "The tokenizer splits a text into tokens: pieces of words with a number each. A bar after "
        "a piece means that the word continues. Tokens that do not fit into the context are "
        "dropped; they are marked, and their words are listed below.",
        "ecliptic tokens TEXT",
        lambda result: join(map(_reading, result.readings)),
    ),
)
