"""The section of the demo's page that shows the tokens of a text."""

from collections.abc import Iterator

from ecliptic.inputs import TokenSpan
from ecliptic.markup import Html, tag
from ecliptic.report.showcase.results import TokenReading


def show_tokens(reading: TokenReading) -> Html:
    """A text, its tokens, and the words that do not fit."""
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
        tag("ol", (_chip(reading.text, group) for group in group_tokens(reading.tokens))),
        verdict,
        class_="reading",
    )


def group_tokens(tokens: tuple[TokenSpan, ...]) -> Iterator[list[TokenSpan]]:
    """The tokens one by one, but those that share a character together."""
    group: list[TokenSpan] = []
    for token in tokens:
        if group and not token.span[0] < group[-1].span[1]:
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _chip(text: str, group: list[TokenSpan]) -> Html:
    last = group[-1]
    kind = last.kind if all(token.kept for token in group) else "dropped"
    joined = "" if last.ends_word or last.kind != "text" else " joined"
    piece: str
    if last.kind != "text":
        piece = last.kind
    elif len(group) == 1:
        piece = last.piece
    else:  # a piece holds only some bytes of a character, so show the text itself
        piece = text[group[0].span[0] : max(token.span[1] for token in group)]
    numbers = " ".join(str(token.id) for token in group)
    return tag("li", tag("b", piece), tag("small", numbers), class_=kind + joined)


def _lost_words(reading: TokenReading) -> str:
    """The part of the text whose tokens are dropped."""
    spans = [token.span for token in reading.tokens if not token.kept]
    return reading.text[min(start for start, _ in spans) : max(end for _, end in spans)]
