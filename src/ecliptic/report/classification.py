"""The report on a classifier as one HTML page: numbers, reliability, confusions, hardest images.

It loads nothing, and fits a phone and a dark screen.
"""

from collections.abc import Sequence
from pathlib import Path

from ecliptic import __version__
from ecliptic.errors import ImageError
from ecliptic.inputs import ImageSource
from ecliptic.markup import Html, document, inline_image, join, tag
from ecliptic.plots import colour_at, ink_on
from ecliptic.report.questions import Picture
from ecliptic.report.style import read_style
from ecliptic.scoring import NONE_OF_THESE, Interval, Reliability
from ecliptic.tasks import FEWEST_OF_BIN, SHARE, ClassificationReport, HardImage, LabelRow

MOST_LABELS = 30  # of a confusion matrix; of more, the most frequent confusions are listed
CONFUSIONS = 30  # in that list
_MANY = 10_000  # images of a bin; its number is then in thousands
_SIZE, _LEFT, _ABOVE, _BELOW = 300, 44, 26, 52  # pixels of the diagram
_STYLE = """
.diagram { width: 100%; max-width: 26rem; height: auto; color: var(--ink); }
.diagram text { fill: var(--soft); font-size: 11px; }
.diagram .bar { fill: var(--bar); }
.diagram .over { fill: #d43c2f; }
.diagram .under { fill: #3f78d8; }
.diagram .few { opacity: 0.4; }
.diagram .count { font-size: 8px; }
.diagram line { stroke: var(--soft); }
.diagram .even { stroke-dasharray: 4 4; }
.rows td, .rows th { white-space: nowrap; }
.rows th { width: auto; color: var(--ink); }
.rows td { text-align: right; padding-left: 1rem; font-variant-numeric: tabular-nums; }
.rows thead td, .rows thead th { color: var(--soft); }
.scroll .rows { margin: 0.6rem; width: auto; }
"""


def classification_page(
    report: ClassificationReport,
    pictures: "Sequence[ImageSource | None]" = (),
    about: Sequence[str] = (),
    title: str = "How sure is the classifier, and how right?",
) -> Html:
    """The whole page.

    Args:
        report: of `Classifier.evaluate`.
        pictures: the images that it was judged on, in order, or None where there is no file; none
            are shown without them.
        about: lines about the classifier, such as `Classifier.describe()`.
        title: the heading.
    """
    lead = (
        f"Judged on {report.images:,} labelled images and {len(report.labels):,} labels. Ranges in "
        "brackets are intervals of 95 %."
    )
    header = tag(
        "header",
        tag("p", "ecliptic", class_="brand"),
        tag("h1", title),
        tag("p", lead, class_="lead"),
        (tag("p", line) for line in about),
        (tag("p", f"Warning: {note}.", class_="lead") for note in report.notes),
        _headline(report),
    )
    main = tag(
        "main",
        _facts(report),
        _section("Reliability", _RELIABILITY, _diagram(report.reliability)),
        _section("Labels", _LABELS, _label_table(report.rows)),
        _confusions(report),
        _hardest(report, pictures),
    )
    note = f"Written by ecliptic {__version__}. This page loads nothing from the network."
    footer = tag("footer", tag("p", note))
    return document(title, read_style() + _STYLE, header, main, footer, description=lead)


def _headline(report: ClassificationReport) -> Html:
    what = "all labels right" if report.several else "accuracy"
    figures = [(SHARE.format(report.accuracy.value), what)]
    if report.mean_per_class is not None:
        figures.append((SHARE.format(report.mean_per_class.value), "mean per class"))
    if report.answered is not None:
        figures.append((SHARE.format(report.answered.answered.value), "answered"))
        if report.answered.accuracy is not None:
            figures.append((SHARE.format(report.answered.accuracy.value), "accuracy of answers"))
    error = SHARE.format(report.reliability.expected_error)
    figures.append((error, "calibration error (ECE)"))
    return tag(
        "dl",
        (tag("div", tag("dt", name), tag("dd", figure)) for figure, name in figures),
        class_="figures",
    )


def _facts(report: ClassificationReport) -> Html:
    rows = (
        tag("tr", tag("th", name, scope="row"), tag("td", value))
        for name, value in report.facts().items()
    )
    return tag("section", tag("h2", "Numbers"), tag("table", rows))


def _section(title: str, text: str, *content: Html) -> Html:
    return tag("section", tag("h2", title), tag("p", text), *content, id=title.lower())


def _diagram(bins: Reliability) -> Html:
    """Accuracy over confidence in bins, with the gap to the confidence, and the images below."""
    width = _SIZE / len(bins.counts)
    rows = zip(bins.confidences, bins.accuracies, bins.counts, strict=True)
    bars = [
        _bin(place * width, width, sure, right, count)
        for place, (sure, right, count) in enumerate(rows)
        if count
    ]
    even = tag(
        "line",
        x1=str(_LEFT),
        y1=str(_SIZE),
        x2=str(_LEFT + _SIZE),
        y2="0",
        class_="even",
    )
    return tag(
        "svg",
        (*bars, even, _axes()),
        viewBox=f"0 {-_ABOVE} {_SIZE + _LEFT + 16} {_ABOVE + _SIZE + _BELOW}",
        class_="diagram",
        role="img",
        aria_label="reliability diagram: share of right answers over confidence",
    )


def _bin(x: float, width: float, sure: float, right: float, count: int) -> Html:
    """One bar: what is right and promised, then how far they are apart."""
    low, gap = min(right, sure), abs(right - sure)
    parts = (
        _bar(x, 0, width, low, "bar"),
        _bar(x, low, width, gap, "over" if sure > right else "under"),
    )
    number = tag(
        "text",
        f"{count:,}" if count < _MANY else f"{count // 1000:,}k",
        x=f"{_LEFT + x + width / 2:.1f}",
        y=str(_SIZE + 11),
        text_anchor="middle",
        class_="count",
    )
    return join([tag("g", parts, class_="few" if count < FEWEST_OF_BIN else ""), number])


def _axes() -> Html:
    ticks = (
        (
            _text(_LEFT + share * _SIZE, _SIZE + 26, f"{share:.0%}", "middle"),
            _text(_LEFT - 6, _SIZE * (1 - share) + 4, f"{share:.0%}", "end"),
        )
        for share in (0.0, 0.5, 1.0)
    )
    below = _text(_LEFT + _SIZE / 2, _SIZE + 44, "images, and confidence", "middle")
    return join([*ticks, below, _text(_LEFT, -12, "share that is right", "start")])


def _bar(x: float, low: float, width: float, height: float, kind: str) -> Html:
    return tag(
        "rect",
        x=f"{_LEFT + x + 1:.1f}",
        y=f"{_SIZE * (1 - low - height):.1f}",
        width=f"{width - 2:.1f}",
        height=f"{_SIZE * height:.1f}",
        class_=kind,
    )


def _text(x: float, y: float, words: str, anchor: str) -> Html:
    return tag("text", words, x=f"{x:.0f}", y=f"{y:.0f}", text_anchor=anchor)


def _label_table(rows: Sequence[LabelRow]) -> Html:
    heads = ("label", "images", "found", "answers", "precision", "average precision")
    head = tag("tr", (tag("th" if not n else "td", name) for n, name in enumerate(heads)))
    body = (
        tag(
            "tr",
            tag("th", row.label, scope="row"),
            tag("td", f"{row.images:,}"),
            tag("td", _share(row.recall)),
            tag("td", f"{row.answers:,}"),
            tag("td", _share(row.precision)),
            tag("td", "" if average is None else SHARE.format(average)),
        )
        for row, average in ((row, row.average_precision) for row in rows)
    )
    return _scroll(tag("table", tag("thead", head), tag("tbody", body), class_="rows"), "labels")


def _share(interval: Interval | None) -> str:
    return "" if interval is None else interval.show(SHARE)


def _confusions(report: ClassificationReport) -> Html:
    if not report.confusion:
        return join([])
    names = [*report.labels, NONE_OF_THESE][: len(report.confusion)]
    if len(names) <= MOST_LABELS:
        return _section("Confusions", _MATRIX, _matrix(names, report.confusion))
    cells = [
        (count, names[row], names[column])
        for row, counts in enumerate(report.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    worst = sorted(cells, key=lambda cell: -cell[0])[:CONFUSIONS]
    rows = (
        tag("tr", tag("th", truth, scope="row"), tag("td", answer), tag("td", f"{count:,}"))
        for count, truth, answer in worst
    )
    head = tag("tr", tag("th", "truth"), tag("td", "answer"), tag("td", "images"))
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="rows")
    return _section("Confusions", _MOST, _scroll(table, "confusions"))


def _matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    head = tag("tr", tag("td"), (tag("th", tag("span", name), scope="col") for name in names))
    rows = (
        tag(
            "tr",
            tag("th", tag("span", name), scope="row"),
            (_cell(n, n / max(1, sum(row)), own=at == place) for at, n in enumerate(row)),
        )
        for place, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="matrix")
    return _scroll(table, "confusion matrix")


def _cell(count: int, share: float, *, own: bool) -> Html:
    ground = colour_at(share)
    style = f"background:{_hex(ground)};color:{_hex(ink_on(ground))}"
    return tag("td", f"{count:,}", style=style, class_="best" if own else "")


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _scroll(content: Html, name: str) -> Html:
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=name)


def _hardest(report: ClassificationReport, pictures: "Sequence[ImageSource | None]") -> Html:
    if not report.hardest:
        return join([])
    cards = (_hard_image(one, pictures) for one in report.hardest)
    return _section("Hardest", _HARD, tag("div", cards, class_="grid"))


def _hard_image(one: HardImage, pictures: "Sequence[ImageSource | None]") -> Html:
    source = pictures[one.place] if one.place < len(pictures) else None
    wrong = one.truth != one.answer
    if one.worst:
        rows = [(f"truth: {one.truth}", ""), (f"answer: {one.answer}", ""), (one.mistake, "")]
    else:
        rows = [(f"truth: {one.truth}", SHARE.format(one.chance)), (f"answer: {one.said}", "")]
    return tag(
        "article",
        _picture(one.name, source),
        tag(
            "ol",
            (
                tag("li", tag("span", text), tag("span", share, class_="number"))
                for text, share in rows
            ),
        ),
        tag("p", Path(one.name).name or one.name, class_="name"),
        class_="guess wrong" if wrong else "guess",
    )


def _picture(name: str, source: "ImageSource | None") -> Html:
    if source is None:
        return tag("p", "no picture", class_="name")
    try:
        return inline_image(Picture(name, source).thumbnail, Path(name).name)
    except ImageError:  # it was readable when it was encoded
        return tag("p", "cannot be read any more", class_="name")


_RELIABILITY = (
    "Answers are sorted by their confidence. A green bar that reaches the dashed line is honest. "
    "The red part above a bar is missing: the classifier is too sure there. The blue part at its "
    "top is more than it promises: it is not sure enough. The numbers below are images; a bar of "
    f"fewer than {FEWEST_OF_BIN} is pale, because chance alone moves it far."
)
_LABELS = (
    "Found is the share of the images of a label that it is the best label of, also where the "
    "classifier abstains. Answers are those that it gives; precision is the share of them that "
    "is right."
)
_MATRIX = "Rows are the truth, columns the best labels. Colours are shares of a row."
_MOST = f"The {CONFUSIONS} most frequent wrong answers."
_HARD = "The images whose right label was given the lowest probability, worst first."
