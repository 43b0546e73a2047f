"""A1111's second stage: text that changes over the steps, `[before:after:when]` and `[a|b]`.

Source: the grammar `schedule_parser` of modules/prompt_parser.py in AUTOMATIC1111's web UI:

    start      = { prompt | any of "[]():" }
    prompt     = { emphasized | scheduled | alternate | plain }
    emphasized = "(" prompt [ ":" prompt ] ")" | "[" prompt "]"
    scheduled  = "[" [ prompt ":" ] prompt ":" number "]"
    alternate  = "[" prompt "|" [ prompt ] { "|" [ prompt ] } "]"
    plain      = characters other than "\\[]():|", or a backslash and any other than a line feed

A closing bracket is text if it closes no bracket, or if its group fits no rule; then all brackets
that are open around it are text too. The whole prompt is text if the grammar cannot derive it: a
"|" outside an alternate, or a backslash that escapes nothing. The third stage reads the weights.

The grammar is ambiguous where a stray bracket or colon touches a schedule, as in `[a:b:3])`. The
web UI then reads a schedule or text, depending on the random string hashes of the process. Here it
is always a schedule.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from ecliptic.prompts.limits import check_depth, read_number
from ecliptic.prompts.reading import Span
from ecliptic.prompts.traced import Traced, join

_TOKEN = re.compile(r"(?:[^\\\[\]():|]+|\\.)+|[\[\]():|]")
_WHEN = re.compile(
    r"\s*([+-]?(?:[0-9]+[eE][+-]?[0-9]+"
    r"|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+))\s*"
)
_OPENER = {")": "(", "]": "["}


@dataclass(frozen=True)
class Change:
    """`[before:after:when]`."""

    before: "ScheduleItems"
    after: "ScheduleItems"
    when: float
    fraction: bool  # `when` has a point and is a fraction of the steps
    span: Span

    def last_step(self, steps: int, base_steps: int | None) -> int:
        """The last step with `before`; below 1 if there is none."""
        if self.fraction:
            last = (self.when - (0 if base_steps is None else 1)) * steps
        else:
            last = self.when - (base_steps or 0)
        return int(max(-1.0, min(float(steps), last)))


@dataclass(frozen=True)
class Cycle:
    """`[a|b]`."""

    options: tuple["ScheduleItems", ...]
    span: Span


ScheduleItem: TypeAlias = Traced | Change | Cycle
ScheduleItems: TypeAlias = tuple[ScheduleItem, ...]


@dataclass(slots=True)
class _Frame:
    """An open bracket, with the items between its separators so far."""

    opener: Traced
    fields: list[list[ScheduleItem]] = field(default_factory=lambda: [[]])
    separators: list[Traced] = field(default_factory=list)

    def spell(self) -> Iterator[ScheduleItem]:
        """The bracket as text."""
        for mark, items in zip((self.opener, *self.separators), self.fields, strict=True):
            yield mark
            yield from items

    def close(self, closer: Traced) -> list[ScheduleItem] | None:
        """Read the closed bracket by the rules; None if it fits none of them."""
        kinds = "".join(separator.text for separator in self.separators)
        if kinds == "" or (kinds == ":" and self.opener.text == "("):
            return [*self.spell(), closer]
        span = (self.opener.places[0], closer.places[0] + 1)
        if self.opener.text == "[" and not kinds.strip("|"):
            return [Cycle(tuple(tuple(items) for items in self.fields), span)]
        if self.opener.text == "[" and kinds in (":", "::"):
            return self._read_change(span)
        return None

    def _read_change(self, span: Span) -> list[ScheduleItem] | None:
        number = join(item for item in self.fields[-1] if isinstance(item, Traced))
        match = _WHEN.fullmatch(number.text) if len(self.fields[-1]) == 1 else None
        if match is None:
            return None
        when, fraction = read_number(match[1], number.place(match.start(1))), "." in match[1]
        before = tuple(self.fields[0]) if len(self.fields) == 3 else ()
        when = when if fraction else float(int(when))
        return [Change(before, tuple(self.fields[-2]), when, fraction, span)]


class _Reader:
    """Reads tokens one by one; holds the open brackets and the finished items."""

    def __init__(self) -> None:
        self.finished: list[ScheduleItem] = []
        self.frames: list[_Frame] = []
        self.derivable = True

    def take(self, token: Traced) -> None:
        if token.text in ("(", "["):
            self.frames.append(_Frame(token))
            check_depth(len(self.frames), token.places[0])
        elif token.text in (")", "]"):
            self._close(token)
        elif token.text in (":", "|") and self.frames:
            self.frames[-1].separators.append(token)
            self.frames[-1].fields.append([])
        else:
            self.derivable = self.derivable and token.text != "|"
            self._add([token])

    def _add(self, items: Iterable[ScheduleItem]) -> None:
        (self.frames[-1].fields[-1] if self.frames else self.finished).extend(items)

    def _close(self, closer: Traced) -> None:
        fits = self.frames and self.frames[-1].opener.text == _OPENER[closer.text]
        items = self.frames[-1].close(closer) if fits else None
        if items is None:
            self.dissolve()
            items = [closer]
        else:
            self.frames.pop()
        self._add(items)

    def dissolve(self) -> None:
        """Turn every open bracket into text."""
        for frame in self.frames:
            self.finished.extend(frame.spell())
            if any(separator.text == "|" for separator in frame.separators):
                self.derivable = False
        self.frames.clear()


def parse_items(text: Traced) -> ScheduleItems:
    """Split a prompt into texts, changes and cycles.

    Raises:
        TextError: brackets are nested too deeply, or a step is not a finite number.
    """
    reader, end = _Reader(), 0
    for match in _TOKEN.finditer(text.text):
        if match.start() != end:
            return (text,)
        reader.take(text[match.start() : match.end()])
        end = match.end()
    reader.dissolve()
    if end != len(text.text) or not reader.derivable:
        return (text,)
    return tuple(reader.finished)


def changes(items: ScheduleItems) -> bool:
    """Whether the text changes over the steps."""
    return any(not isinstance(item, Traced) for item in items)


def texts_by_step(
    items: ScheduleItems, steps: int, base_steps: int | None
) -> list[tuple[int, Traced]]:
    """(last step, counted from 1, text) of each text.

    Args:
        items: from `parse_items`.
        steps: of the pass that is sampled.
        base_steps: steps of the first pass, if this is the second ("hires") one. Steps in the
            prompt then count from the start of the first pass, and fractions start at 1.0.
    """
    ends = sorted({steps, *_ends(items, steps, base_steps)})
    return [(end, join(_texts_at(items, end, steps, base_steps))) for end in ends]


def _ends(items: ScheduleItems, steps: int, base_steps: int | None) -> Iterator[int]:
    for item in items:
        if isinstance(item, Change):
            if (last := item.last_step(steps, base_steps)) >= 1:
                yield last
            yield from _ends(item.before, steps, base_steps)
            yield from _ends(item.after, steps, base_steps)
        elif isinstance(item, Cycle):
            yield from range(1, steps + 1)  # its options add no other step


def _texts_at(
    items: ScheduleItems, step: int, steps: int, base_steps: int | None
) -> Iterator[Traced]:
    for item in items:
        if isinstance(item, Traced):
            yield item
        elif isinstance(item, Cycle):
            option = item.options[(step - 1) % len(item.options)]
            yield from _texts_at(option, step, steps, base_steps)
        else:
            early = step <= item.last_step(steps, base_steps)
            yield from _texts_at(item.before if early else item.after, step, steps, base_steps)
