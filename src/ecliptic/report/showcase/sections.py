"""The sections of the demo's page; each is a function from the result to HTML."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecliptic.markup import Html, inline_image, join, tag
from ecliptic.plots import colour_at, ink_on
from ecliptic.report.questions import Picture
from ecliptic.report.showcase.drawn import show_drawn
from ecliptic.report.showcase.facts import facts, list_rejects
from ecliptic.report.showcase.judging_sections import show_captions, show_cautions, show_taste
from ecliptic.report.showcase.results import DemoResult, Guess, Matrix, Search
from ecliptic.report.showcase.tokens import show_tokens

CARDS = 24  # images of the user that are shown with their labels
NARROW = 4  # columns of a matrix that fit on a phone


def headline(result: DemoResult) -> Html:
    """The four numbers at the top."""
    known, count = result.scope.known, len(result.scope.pictures)
    pace = next(timing for timing in result.timings if timing.step == "encode images")
    first = (
        (f"{result.answers.right} of {len(result.answers.guesses)}", "drawings named correctly"),
        (
            f"{result.answers.found} of {len(result.answers.searches)}",
            "text searches with a correct first hit",
        ),
    )
    own = (
        (f"{count:,}", "image" if count == 1 else "images"),
        (
            f"{len(result.answers.searches):,}",
            "text" if len(result.answers.searches) == 1 else "texts",
        ),
    )
    figures = (
        *(first if known else own),
        (f"{pace.items / pace.seconds:,.0f} / s", "images decoded and encoded"),
        (f"{result.seconds:,.1f} s", "for everything on this page"),
    )
    return tag(
        "dl",
        (tag("div", tag("dt", what), tag("dd", figure)) for figure, what in figures),
        class_="figures",
    )


def sections(result: DemoResult) -> Html:
    """All sections in reading order."""
    parts = (part for part in _PARTS if part.count(result))
    return join([*(_section(part, result) for part in parts), list_rejects(result), facts(result)])


def _section(part: "_Part", result: DemoResult) -> Html:
    noun = "drawing" if result.scope.known else "image"
    title = part.title.format(noun=noun)
    text = part.known if result.scope.known else part.own
    counts = {
        "count": len(result.answers.guesses),
        "cards": min(CARDS, len(result.answers.guesses)),
    }
    return tag(
        "section",
        tag("h2", title),
        tag("p", text.format(noun=noun, **counts)),
        tag("p", tag("code", part.code), class_="code"),
        part.content(result),
        id=title.lower().replace(" ", "-"),  # so that links to the section work
    )


def _guesses(result: DemoResult) -> Html:
    known = result.scope.known
    shown = result.answers.guesses if known else result.answers.guesses[:CARDS]
    return tag("div", (_guess(guess, known=known) for guess in shown), class_="grid")


def _guess(guess: Guess, *, known: bool) -> Html:
    name = guess.picture.name
    rows = (
        tag(
            "li",
            tag("span", label, class_="own" if known and label == name else "label"),
            tag("span", _percent(chance), class_="number"),
            tag("i", tag("b", style=f"width:{chance * 100:.1f}%")),
        )
        for label, chance in guess.labels
    )
    answer = "no answer" if guess.open else "wrong"
    verdict = "correct" if guess.right else f"{answer}, this is {_article(name)}"
    wrong = known and not guess.right
    return tag(
        "article",
        _show(guess.picture),
        tag("ol", rows),
        tag("p", verdict if known else Path(name).name, class_="verdict" if known else "name"),
        class_="guess wrong" if wrong else "guess",
    )


def _searches(searches: tuple[Search, ...]) -> Html:
    return tag("div", map(_search, searches), class_="searches")


def _search(search: Search) -> Html:
    query = search.query
    asked = f"“{query}”" if isinstance(query, str) else _show(query)
    hits = (
        tag(
            "li",
            _show(hit.picture),
            tag("span", f"{hit.cosine:z.2f}", class_="number"),
            tag("span", "correct", class_="mark") if hit.fits else "",
            class_="fits" if hit.fits else "",
        )
        for hit in search.hits
    )
    return tag("article", tag("p", asked, class_="asked"), tag("ol", hits), class_="search")


def _matrix(matrix: Matrix) -> Html:
    values = [value for row in matrix.cosines for value in row]
    low, span = min(values), max(max(values) - min(values), 1e-9)
    head = tag("tr", tag("td"), (tag("th", _show(p), scope="col") for p in matrix.columns))
    rows = (
        tag(
            "tr",
            tag("th", tag("span", text), scope="row"),
            (_cell(value, (value - low) / span, best=value == max(row)) for value in row),
        )
        for text, row in zip(matrix.rows, matrix.cosines, strict=True)
    )
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="matrix")
    hint = tag("p", "Swipe sideways to see every column. →", class_="hint")
    return join(
        [
            hint if len(matrix.columns) > NARROW else "",
            tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="cosines"),
        ]
    )


def _cell(value: float, share: float, *, best: bool) -> Html:
    ground = colour_at(share)
    style = f"background:{_hex(ground)};color:{_hex(ink_on(ground))}"
    return tag("td", f"{value:z.2f}", style=style, class_="best" if best else "")


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _show(picture: Picture) -> Html:
    name = Path(picture.name).name or "image"  # not the folders of whoever shares the page
    drawn = "drawing" if picture.small else "photo"
    return inline_image(picture.thumbnail, name, title=name, class_=drawn)


def _percent(chance: float) -> str:
    return "< 1 %" if chance < 0.005 else f"{chance * 100:.0f} %"


def _article(name: str) -> str:
    return name if name == "glasses" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class _Part:
    """One section: its text, the call that it shows, and functions that make its content."""

    title: str
    known: str  # the explanation for the bundled drawings
    own: str  # the explanation for images of the user
    code: str
    content: Callable[[DemoResult], Html]
    count: Callable[[DemoResult], int]  # things in it; without any, there is no section


_TOKENS = (
    "The tokenizer splits a text into tokens: pieces of words, each with a number. A bar after a "
    "piece means that the word continues. Some characters need several tokens. Tokens that do not "
    "fit into the context of the model are dropped; they are marked, and their words are listed."
)
_PARTS = (
    _Part(
        "Search with a text",
        "The model turns the text and every drawing into vectors. The drawings nearest to the "
        "text come first; the numbers are cosines. No drawing has a name or a tag that the search "
        "could read. Half of the texts were written before the model was run; the others were "
        "chosen because an earlier model found them. Searches with a wrong first hit come last.",
        "The model turns the text and every image into vectors. The images nearest to the text "
        "come first; the numbers are cosines. No file name or tag is read.",
        "clip.similarity(texts, images)",
        lambda result: _searches(result.answers.searches),
        lambda result: len(result.answers.searches),
    ),
    _Part(
        "Choose a label for each {noun}",
        "The model chooses among the same {count} labels for each drawing. It was not trained to "
        "choose among these labels, and a random guess is right 1 time in {count}. Right answers "
        "come first, the surest at the top; the others follow: wrong ones, and drawings for which "
        "it says that no label fits.",
        "Your texts are the labels. The probabilities of an image add up to 100 %; only a model "
        "with a calibration can answer that none of them fits. Shown are {cards:,} of {count:,} "
        "images: the surest one of each label, then the second of each, and so on.",
        "clip.classify(images, labels)",
        _guesses,
        lambda result: len(result.answers.guesses),
    ),
    _Part(
        "Find similar {noun}s",
        "The same search with a drawing instead of a text: which others are nearest to it?",
        "The same search with an image instead of a text: which others are nearest to it? Copies "
        "of an image have a cosine of almost 1.",
        "vectors = clip.encode_image(images); cosine(vectors, vectors)",
        lambda result: _searches(result.answers.neighbours),
        lambda result: len(result.answers.neighbours),
    ),
    _Part(
        "Less like that",
        "The drawings are in an index, as your pictures would be. Each text is searched alone, and "
        "then with less of another text: half of the other vector is taken away from the first.",
        "",
        'ecliptic search LIBRARY "an animal" --unlike "a fish"',
        lambda result: _searches(result.answers.less),
        lambda result: len(result.answers.less),
    ),
    _Part(
        "Compare texts with {noun}s",
        "Cosines of names (rows) and drawings (columns). A frame marks the best drawing of each "
        "row. It is correct if it is on the diagonal.",
        "Cosines of your texts (rows) with the best image of each (columns). A frame marks the "
        "best image of each row.",
        "clip.similarity(texts, images)",
        lambda result: _matrix(result.answers.matrix),
        lambda result: len(result.answers.matrix.columns),
    ),
    _Part(
        "Answer only when sure",
        "A model with a calibration knows how sure it is, so it can say nothing in place of "
        "something wrong. The probabilities are those of the labels above; below the least one "
        "there is no answer, and “none of these” is no answer either. Brackets hold 95 % "
        "intervals: {count} drawings are few.",
        "The probabilities are those of the labels above. Below the least one there is no answer, "
        "and “none of these” is no answer either. Label some of your images, and "
        "ecliptic measures how often such answers are right, and finds the least probability for "
        "the accuracy that you want.",
        "ecliptic classify IMAGES --calibrate labelled.csv",
        lambda result: show_cautions(result.judgements),
        lambda result: len(result.judgements.cautions),
    ),
    _Part(
        "Score captions",
        "How well does each drawing fit its own name? The score is the cosine of the two (CLIP-T), "
        "and its mean comes with a 95 % interval, which says how far it may be off for other "
        "drawings of this kind. The second row is the mean with the names of all other drawings.",
        "",
        "ecliptic score pairs.csv --metric clip-t",
        lambda result: show_captions(result.judgements),
        lambda result: int(result.judgements.captions is not None),
    ),
    _Part(
        "Learn a taste from ratings",
        "Somebody who likes to eat gave 5 points to food and 1 point to all else, for two drawings "
        "of three. From these ratings a head on top of the vectors was trained, in this run. Here "
        "it ranks the drawings that were not rated, the best first.",
        "",
        "ecliptic aesthetic IMAGES --train ratings.csv --page best.html",
        lambda result: show_taste(result.judgements),
        lambda result: int(result.judgements.taste is not None),
    ),
    _Part(
        "Draw words",
        "A small drawing model makes pictures from the vectors of words, and CLIP guides it. The "
        "last one is a drawing from above, which was turned into noise and back with other words.",
        "",
        'ecliptic draw "a red apple"',
        lambda result: show_drawn(result.drawn),
        lambda result: len(result.drawn),
    ),
    _Part(
        "See the tokens of a text",
        _TOKENS,
        _TOKENS,
        "ecliptic tokens TEXT",
        lambda result: join(map(show_tokens, result.readings)),
        lambda result: len(result.readings),
    ),
)
