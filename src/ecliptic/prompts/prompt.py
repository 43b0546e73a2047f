"""A prompt of any dialect, parsed: its tree, its stages, and what it asks the encoders for."""

from collections.abc import Iterator
from dataclasses import dataclass

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.dialects import Dialect, grammar, stages
from ecliptic.prompts.reading import Alternative
from ecliptic.prompts.tree import LoraUse, Swap, Tree, walk


@dataclass(frozen=True)
class Prompt:
    """A prompt that was parsed; `parse` makes them."""

    text: str
    dialect: Dialect
    tree: Tree

    @property
    def spans(self) -> list[tuple[str, float]]:
        """Text under its weight: the attention stage alone, on the prompt as given.

        In A1111's dialect BREAK is ("BREAK", -1.0).
        """
        return grammar(self.dialect).spans(self.text)

    @property
    def alternatives(self) -> list[tuple[str, float]]:
        """The sides of A1111's AND and their weights; the whole prompt in other dialects."""
        found = stages(self.dialect)
        return [(self.text, 1.0)] if found is None else found.alternatives(self.text)

    def schedule(self, steps: int, base_steps: int | None = None) -> list[tuple[int, str]]:
        """The last step, counted from 1, of each text that A1111's schedule stage makes.

        Args:
            steps: sampling steps of the pass.
            base_steps: steps of the first pass, where this is the second ("hires") one: whole
                numbers then count on from the first pass, and its fractions begin at 1.0.

        Raises:
            ConfigError: a number of steps below 1.
        """
        _check_steps(steps)
        if base_steps is not None:
            _check_steps(base_steps, "base_steps")
        found = stages(self.dialect)
        return (
            [(steps, self.text)] if found is None else found.schedule(self.text, steps, base_steps)
        )

    def readings(
        self, steps: int | None = None, *, negative: bool = False
    ) -> tuple[Alternative, ...]:
        """What the encoders are asked for, all stages run in order.

        Args:
            steps: sampling steps, needed only where the prompt changes over them. Without them,
                what holds at every step is given as step 1.
            negative: read it as a negative prompt, which A1111 does not split at AND.

        Raises:
            ConfigError: `steps` is needed, or below 1.
            TextError: at some step, a weight is no finite number.
        """
        if steps is not None:
            _check_steps(steps)
        return grammar(self.dialect).readings(self.text, steps, negative)

    def print(self) -> str:
        """The prompt written anew from its tree, in its own dialect; it reads the same."""
        return grammar(self.dialect).write(self.tree)

    @property
    def loras(self) -> tuple[tuple[str, float], ...]:
        """Names and weights of compel's `withLora`."""
        return grammar(self.dialect).loras(self.tree)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the readings leave out, in words."""
        return tuple(_notes(self.tree))


def parse(text: str, dialect: Dialect = "plain") -> Prompt:
    """Read a prompt.

    Raises:
        ConfigError: there is no such dialect.
        TextError: not a text, a weight that is no finite number, or brackets nested more than
            `limits.NESTING_LIMIT` deep; the message says where.
    """
    found = grammar(dialect)
    if not isinstance(text, str):
        raise TextError(
            f"a prompt is a string, not {type(text).__name__}; parse a list one by one."
        )
    return Prompt(text, dialect, found.read(text))


def _check_steps(steps: int, name: str = "steps") -> None:
    if steps < 1:
        raise ConfigError(
            f"{name} is {steps}, but sampling takes at least one step; pass 1 or more."
        )


def _notes(tree: Tree) -> Iterator[str]:
    for node in walk(tree):
        if isinstance(node, Swap):
            yield (
                f"the .swap at position {node.span[0]} is left out: it acts inside the sampler's "
                "attention, and the encoders see only the words before it."
            )
        elif isinstance(node, LoraUse):
            yield (
                f"the LoRA {node.name!r} at position {node.span[0]} is no text; it is listed in "
                "`loras` for whoever loads it."
            )
