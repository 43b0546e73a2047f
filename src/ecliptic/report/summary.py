"""The summary of the demo, printed on stderr. Names go through `printable`."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecliptic.errors import printable
from ecliptic.report.results import DemoResult, Search

MISTAKES = 8  # listed at most


def print_summary(result: DemoResult, console: Console | None = None) -> None:
    """Print the results and list wrong answers; the default `console` writes to stderr."""
    console = console or Console(stderr=True, highlight=False)
    about = "; knows drawings, not photographs" if result.embedded else ""
    card = result.card
    name, parameters = printable(card["name"]), f"{card['parameters'] / 1e6:.1f} million parameters"
    console.print(Text(f"{name}: {parameters}{about}\n"))
    console.print(
        Text(f"{result.right} of {len(result.guesses)} drawings classified correctly", "bold")
    )
    wrong = [guess for guess in result.guesses if not guess.right]
    for guess in wrong[:MISTAKES]:
        label, chance = guess.labels[0]
        mistake = f"{guess.drawing.name} was taken for {label} ({chance:.0%})"
        console.print(Text(f"  {printable(mistake)}", "yellow"))
    if len(wrong) > MISTAKES:
        console.print(Text(f"  and {len(wrong) - MISTAKES} more, all on the page", "yellow"))
    console.print()
    title = f"{result.found} of {len(result.searches)} text searches with a correct first hit"
    console.print(_table(title, result.searches))
    console.print()
    console.print(_table("Drawings most similar to a drawing", result.neighbours))
    console.print()
    for reading in result.readings:
        count = f"{len(reading.tokens)} tokens, {reading.dropped} over the limit {reading.context}"
        shown = f"{count}: {printable(reading.text)}"
        console.print(Text(shown, overflow="ellipsis", no_wrap=True))
    console.print(Text(f"\n{result.seconds:.1f} s in total, space {result.space[:12]}", "dim"))


def _table(title: str, searches: tuple[Search, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("query", style="cyan")
    for place in ("first", "second", "third"):
        table.add_column(place)
    for search in searches:
        query = search.query if isinstance(search.query, str) else search.query.name
        hits = [
            Text(f"{printable(hit.drawing.name)} {hit.cosine:.2f}", "green" if hit.fits else "")
            for hit in search.hits[:3]
        ]
        table.add_row(Text(printable(query)), *hits)
    return table
