"""A parsed prompt of any dialect: its tree, its stages and its readings for the encoders."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.dialects import Dialect, grammar, stages
from ecliptic.prompts.reading import Alternative, segments_of
from ecliptic.prompts.tree import (
    Alternating,
    Joined,
    LoraUse,
    Network,
    Node,
    Scheduled,
    Swap,
    Text,
    Tree,
    branches,
    loras,
    networks,
    walk,
)


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt; `parse` makes it."""

    text: str
    dialect: Dialect
    tree: Tree

    @property
    def spans(self) -> list[tuple[str, float]]:
        """Texts with their weights: the attention stage alone, on the prompt without networks.

        In A1111's dialect, BREAK is ("BREAK", -1.0).
        """
        return grammar(self.dialect).spans(self.text)

    @property
    def alternatives(self) -> list[tuple[str, float]]:
        """The sides of A1111's AND with their weights; the whole prompt in other dialects."""
        found = stages(self.dialect)
        return [(self.text, 1.0)] if found is None else found.alternatives(self.text)

    def schedule(self, steps: int, base_steps: int | None = None) -> list[tuple[int, str]]:
        """(last step, counted from 1, text) of each text that A1111's schedule stage makes.

        Args:
            steps: sampling steps of the pass.
            base_steps: steps of the first pass, if this is the second ("hires") one. Steps in
                the prompt then count from the start of the first pass, and fractions start at 1.0.

        Raises:
            ConfigError: `steps` or `base_steps` is below 1.
        """
        _check_steps(steps)
        if base_steps is not None:
            _check_steps(base_steps, "base_steps")
        if (found := stages(self.dialect)) is None:
            return [(steps, self.text)]
        return found.schedule(self.text, steps, base_steps)

    def readings(
        self, steps: int | None = None, *, negative: bool = False, base_steps: int | None = None
    ) -> tuple[Alternative, ...]:
        """The readings for the encoders, after all stages in order.

        Args:
            steps: sampling steps, needed only where the prompt changes over them. If None, the
                last step of every schedule is 1.
            negative: read it as a negative prompt, in which A1111 reads AND and networks as words.
            base_steps: as in `schedule`.

        Raises:
            ConfigError: `steps` is needed, or below 1.
            TextError: at some step, a weight is not a finite number.
        """
        if steps is not None:
            _check_steps(steps)
        if base_steps is not None and (found := stages(self.dialect)) is not None:
            _check_steps(base_steps, "base_steps")
            return found.second_readings(self.text, steps, negative, base_steps)
        return grammar(self.dialect).readings(self.text, steps, negative)

    def print(self) -> str:
        """Write the prompt from its tree, in its own dialect; it reads the same."""
        return grammar(self.dialect).write(self.tree)

    @property
    def loras(self) -> tuple[tuple[str, float], ...]:
        """Names and weights of compel's `withLora`."""
        return loras(self.tree)

    @property
    def networks(self) -> tuple[Network, ...]:
        """A1111's tags such as `<lora:name:0.8>`, which only a positive prompt has."""
        return networks(self.tree)

    @property
    def words(self) -> str:
        """The prompt as given, without its networks."""
        start, kept = 0, ""
        for network in self.networks:
            kept += self.text[start : network.span[0]]
            start = network.span[1]
        return kept + self.text[start:]

    @property
    def has_syntax(self) -> bool:
        """Whether some of its characters are syntax of the dialect and not text."""
        return any(not isinstance(node, Text) for node in self.tree)

    def find_unread(
        self,
        steps: int | None = None,
        *,
        negative: bool = False,
        base_steps: int | None = None,
        second_steps: int | None = None,
    ) -> tuple[str, ...]:
        """The options of schedules and alternations that no step reads, in words.

        Args:
            steps: as `readings`; so are `negative` and `base_steps`.
            negative: it is a negative prompt.
            base_steps: of the pass before, if only the second pass reads this prompt.
            second_steps: of the second pass, if both passes read this prompt.

        Raises:
            ConfigError, TextError: as `readings`.
        """
        changing = [node for node in walk(self.tree) if isinstance(node, Scheduled | Alternating)]
        if not changing:
            return ()
        read = set(_places_read(self.readings(steps, negative=negative, base_steps=base_steps)))
        if second_steps is not None:
            later = self.readings(second_steps, negative=negative, base_steps=steps)
            read.update(_places_read(later))
        count = (steps or 1) + (second_steps or 0)
        return tuple(_describe_unread(self.text, changing, read, count))

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts that the readings leave out, in words; `networks` has those of A1111."""
        return (*_notes(self.tree), *_note_dropped(self.text, self.tree))


def parse(text: str, dialect: Dialect = "plain") -> Prompt:
    """Read a prompt.

    Raises:
        ConfigError: there is no such dialect.
        TextError: `text` is not a string, a weight is not a finite number, or more than
            `limits.NESTING_LIMIT` brackets are open; the message has the position.
    """
    found = grammar(dialect)
    if not isinstance(text, str):
        raise TextError(
            f"a prompt must be a string, not {type(text).__name__}; parse each item of a list."
        )
    return Prompt(text, dialect, found.read(text))


def _check_steps(steps: int, name: str = "steps") -> None:
    if steps < 1:
        raise ConfigError(f"{name} must be at least 1, got {steps}; sampling needs a step.")


def _notes(tree: Tree) -> Iterator[str]:
    for node in walk(tree):
        if isinstance(node, Swap):
            yield (
                f"the .swap at position {node.span[0]} is left out: it works inside the sampler's "
                "attention, and the encoders get only the words before it."
            )
        elif isinstance(node, LoraUse):
            yield (
                f"the LoRA {node.name!r} at position {node.span[0]} is not text; load it "
                "separately (`loras` lists it)."
            )


def _note_dropped(text: str, tree: Tree) -> Iterator[str]:
    joined, end = tree[0] if tree else None, len(text.rstrip())
    if isinstance(joined, Joined) and joined.kind == "and" and joined.span[1] < end:
        yield (
            f"the text {text[joined.span[1] : end].strip()[:40]!r} after .and() is left out, as in "
            "compel; put it into one of the parts."
        )


def _places_read(alternatives: Iterable[Alternative]) -> Iterator[int]:
    for alternative in alternatives:
        for _, reading in alternative.schedule:
            for segment in segments_of(reading):
                yield from segment.origin


def _describe_unread(
    text: str, changing: Iterable[Node], read: set[int], steps: int
) -> Iterator[str]:
    said: set[int] = set()  # places of an outer option, whose inner ones need no mention
    for option in (option for node in changing for option in branches(node)):
        found = [node for node in walk(option) if isinstance(node, Text)]
        places = {place for node in found for place in node.origin if text[place].strip()}
        if not places or places & (read | said):
            continue
        said |= places
        words = text[min(places) : max(places) + 1]
        yield (
            f"{words[:40]!r} at position {min(places)} is never read, because none of the "
            f"{steps} steps comes to it; change the step in its brackets."
        )
