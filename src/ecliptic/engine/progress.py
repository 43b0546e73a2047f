"""A progress bar on stderr for long work, shown on request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int | None, *, show: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with the rate, and the time left if `total` is known.

    Yields a function to call with the number of newly done items.
    """
    if not show:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Numbers(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(describe_progress(task.completed, total, task.speed, task.time_remaining))

    columns = (TextColumn(label, markup=False), BarColumn(bar_width=20), Numbers())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def describe_progress(
    done: float, total: int | None, rate: float | None, seconds: float | None
) -> str:
    """The numbers beside a bar: "448/1,000  52/s  0:11 left".

    Args:
        done: items so far.
        total: of all items, if it is known.
        rate: items per second, if known.
        seconds: that are left, if known.
    """
    words = [f"{done:,.0f}" + (f"/{total:,}" if total is not None else "")]
    if rate:
        words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    if total is not None and seconds is not None:
        minutes, left = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        words.append(
            f"{hours}:{minutes:02}:{left:02} left" if hours else f"{minutes}:{left:02} left"
        )
    return "  ".join(words)
