"""How the demo's page shows what `judging` found: tables with intervals, and a ranked row."""

from ecliptic.markup import Html, inline_image, join, tag
from ecliptic.report.showcase.results import Caution, Judgements

_COSINE = "{:.2f}"


def show_cautions(judgements: Judgements) -> Html:
    """A row for each least probability."""
    cautions = judgements.cautions
    known = any(caution.right is not None for caution in cautions)
    head = ["answer at", "answered", *(["right, and interval"] if known else [])]
    return _table(head, [_caution_row(caution, known=known) for caution in cautions])


def _caution_row(caution: Caution, *, known: bool) -> list[str]:
    least = f"{caution.least:.0%} or more" if caution.least else "any probability"
    row = [least, f"{caution.answered:,} of {caution.pictures:,}"]
    if known:
        found = caution.accuracy
        ends = f"{found.low:.0%} to {found.high:.0%}" if found else "no answer"
        row.append(f"{caution.right:,} ({ends})")
    return row


def show_captions(judgements: Judgements) -> Html:
    """The two means, and whether their difference is more than chance."""
    if (scores := judgements.captions) is None:
        return join([])
    rows = [
        ["its own name", scores.own.show(_COSINE)],
        ["the other names", _COSINE.format(scores.others)],
    ]
    verdict = scores.comparison.verdict("The own name", "the mean of the other names", "drawings")
    return join([_table(["compared with", "mean cosine"], rows), tag("p", verdict)])


def show_taste(judgements: Judgements) -> Html:
    """The drawings that were not rated, best first."""
    if (taste := judgements.taste) is None:
        return join([])
    hits = (
        tag(
            "li",
            inline_image(picture.thumbnail, picture.name, title=picture.name, class_="drawing"),
            tag("span", f"{score:.1f}", class_="number"),
            tag("span", "liked", class_="mark") if liked else "",
            class_="fits" if liked else "",
        )
        for picture, score, liked in taste.ranked
    )
    order = taste.order.show("{:.2f}")
    note = (
        f"Among the {taste.rated} rated drawings, scores of those that a fit had not seen follow "
        f"the ratings with a rank correlation of {order}: 1 is the order of the ratings, 0 is "
        "chance. More ratings make the range narrower."
    )
    return join([tag("div", tag("ol", hits), class_="ranked"), tag("p", note)])


def _table(head: list[str], rows: list[list[str]]) -> Html:
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", (tag("th", name, scope="col") for name in head))),
            tag("tbody", (tag("tr", _cells(row)) for row in rows)),
            class_="judged",
        ),
        class_="scroll",
    )


def _cells(row: list[str]) -> Html:
    return join([tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])])
