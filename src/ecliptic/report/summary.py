"""The demo's answers in a terminal, on stderr."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecliptic.report.results import DemoResult, Guess, Search

MISTAKES = 8  # named at most


def print_summary(result: DemoResult, console: Console | None = None) -> None:
    """Print what was found, wrong answers by name; `console` writes to stderr if not given."""
    console = console or Console(stderr=True, highlight=False)
    about = "; knows drawings, not photographs" if result.embedded else ""
    card = result.card
    console.print(
        Text(f"{card['name']}: {card['parameters'] / 1e6:.1f} million parameters{about}\n")
    )
    console.print(Text(f"{result.right} of {len(result.guesses)} drawings named right", "bold"))
    wrong = [guess for guess in result.guesses if not guess.right]
    for guess in wrong[:MISTAKES]:
        console.print(Text(f"  {_mistake(guess)}", "yellow"))
    if len(wrong) > MISTAKES:
        console.print(Text(f"  and {len(wrong) - MISTAKES} more, all on the page", "yellow"))
    console.print()
    words = f"{result.found} of {len(result.searches)} searches by words right at the first hit"
    console.print(_table(words, result.searches))
    console.print()
    console.print(_table("Drawings most like a drawing", result.neighbours))
    console.print()
    for reading in result.readings:
        told = f"{len(reading.tokens)} tokens, {reading.dropped} over the {reading.context}"
        console.print(Text(f"{told}: {reading.text}", overflow="ellipsis", no_wrap=True))
    console.print(Text(f"\n{result.seconds:.1f} s in all, space {result.space[:12]}", "dim"))


def _mistake(guess: Guess) -> str:
    label, chance = guess.labels[0]
    return f"{guess.drawing.name} was taken for {label} ({chance:.0%})"


def _table(title: str, searches: tuple[Search, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("asked", style="cyan")
    for place in ("first", "second", "third"):
        table.add_column(place)
    for search in searches:
        asked = search.query if isinstance(search.query, str) else search.query.name
        hits = [
            Text(f"{hit.drawing.name} {hit.cosine:.2f}", "green" if hit.fits else "")
            for hit in search.hits[:3]
        ]
        table.add_row(Text(asked), *hits)
    return table
