"""The summary of the demo, printed on stderr. Names go through `printable`."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from ecliptic.errors import printable
from ecliptic.report.questions import Picture
from ecliptic.report.showcase.results import DemoResult, Judgements, Search

MISTAKES, SHOWN = 8, 3  # wrong names, and hits of each search, listed at most


def print_summary(result: DemoResult, console: Console | None = None) -> None:
    """Print the results, and wrong answers; the default `console` writes to stderr."""
    console = console or Console(stderr=True, highlight=False)
    about = "; knows drawings, not photographs" if result.embedded else ""
    card, scope = result.card, result.scope
    console.print(
        Text(f"{printable(card['name'])}: {card['parameters'] / 1e6:.1f} million parameters{about}")
    )
    console.print()
    answers = result.answers
    title = f"{answers.found} of {len(answers.searches)} text searches with a correct first hit"
    title = title if scope.known else "Nearest to each text"
    _print_searches(title, answers.searches, console)
    if scope.known:
        _print_mistakes(result, console)
    if answers.neighbours:
        nearest = f"{'Drawings' if scope.known else 'Images'} most similar to another"
        _print_searches(nearest, answers.neighbours, console)
    if answers.less:
        _print_searches("Less like that", answers.less, console)
    _print_judgements(result.judgements, console)
    for reading in result.readings:
        count = f"{len(reading.tokens)} tokens, {reading.dropped} over the limit {reading.context}"
        line = f"{count}: {printable(reading.text)}"
        console.print(Text(line, overflow="ellipsis", no_wrap=True))
    count = f"{len(scope.pictures):,} of {scope.offered:,} images, " * (not scope.known)
    console.print(Text(f"\n{count}{result.seconds:.1f} s, space {result.space[:12]}", "dim"))


def _print_mistakes(result: DemoResult, console: Console) -> None:
    """Print the number of right names, and the wrong ones."""
    guesses = result.answers.guesses
    title = f"{result.answers.right} of {len(guesses)} drawings named correctly"
    left_open = sum(guess.open for guess in guesses)
    title += f", {left_open} left open" * bool(left_open)
    console.print(Text(title, "bold"))
    wrong = [guess for guess in result.answers.guesses if not guess.right]
    for guess in wrong[:MISTAKES]:
        label, chance = guess.labels[0]
        told = "was given no name" if guess.open else f"was taken for {printable(label)}"
        mistake = f"  {_name(guess.picture)} {told} ({chance:.0%})"
        console.print(Text(mistake, "yellow"))
    if len(wrong) > MISTAKES:
        console.print(Text(f"  and {len(wrong) - MISTAKES} more, all on the page", "yellow"))
    console.print()


def _print_judgements(judgements: Judgements, console: Console) -> None:
    """Print what abstaining does, the mean score of the names, and what a taste found."""
    lines = []
    for caution in judgements.cautions[1:]:
        accuracy = caution.accuracy
        right = f", {caution.right} right: {accuracy.show('{:.0%}')}" if accuracy else ""
        lines.append(f"at {caution.least:.0%} or more: {caution.answered:,} answers{right}")
    if captions := judgements.captions:
        own = captions.own.show("{:.2f}")
        lines.append(f"cosine with the own name: {own}, with the others {captions.others:z.2f}")
    if taste := judgements.taste:
        best = ", ".join(printable(picture.name) for picture, _, _ in taste.ranked[:SHOWN])
        lines.append(f"best by a taste for food, from {taste.rated} ratings: {best}")
    if lines:
        console.print(Text("Judged, with 95 % intervals", "bold"))
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print()


def _print_searches(title: str, searches: tuple[Search, ...], console: Console) -> None:
    """Print a line per search; right hits are green."""
    console.print(Text(title, "bold"))
    for search in searches:
        asked = search.query
        query = printable(asked) if isinstance(asked, str) else _name(asked)
        line = Text.assemble("  ", (query, "cyan"), ": ")
        for place, hit in enumerate(search.hits[:SHOWN]):
            found = f"{_name(hit.picture)} {hit.cosine:z.2f}"
            line.append(", " * (place > 0)).append(found, "green" if hit.fits else "")
        console.print(line, soft_wrap=True)
    console.print()


def _name(picture: Picture) -> str:
    return printable(Path(picture.name).name)
