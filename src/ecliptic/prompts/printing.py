"""What the writers of all dialects share: numbers, and the refusal of foreign nodes."""

from collections.abc import Iterable
from decimal import Decimal

from ecliptic.errors import ConfigError
from ecliptic.prompts.tree import Node


def decimal(number: float) -> str:
    """The shortest decimal without an exponent that reads as `number`: "1.2", "3"."""
    written = format(Decimal(repr(float(number))), "f")
    return written.removesuffix(".0")


def pointed(number: float) -> str:
    """The same with a point in any case: "0.5", "3.0"."""
    written = decimal(number)
    return written if "." in written else f"{written}.0"


def foreign(node: Node, dialect: str, known: Iterable[str]) -> ConfigError:
    """The error of a writer that meets a node its dialect has no words for."""
    return ConfigError(
        f"{dialect} prompts cannot say {type(node).__name__}, only {', '.join(known)}; convert "
        "the prompt to the dialect first, or print it in its own."
    )
