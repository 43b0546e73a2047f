"""Shared by the writers of all dialects: numbers, and the error for unknown nodes."""

from collections.abc import Iterable
from decimal import Decimal

from ecliptic.errors import ConfigError
from ecliptic.prompts.tree import Node


def write_decimal(number: float) -> str:
    """Write the shortest decimal without an exponent that reads as `number`: "1.2", "3"."""
    written = format(Decimal(repr(float(number))), "f")
    return written.removesuffix(".0")


def write_with_point(number: float) -> str:
    """Write the shortest decimal that has a point: "0.5", "3.0"."""
    written = write_decimal(number)
    return written if "." in written else f"{written}.0"


def node_error(node: Node, dialect: str, known: Iterable[str]) -> ConfigError:
    """The error for a node that the dialect cannot express."""
    return ConfigError(
        f"{dialect} prompts cannot express {type(node).__name__}, only {', '.join(known)}; convert "
        "the prompt to the dialect first, or print it in its own dialect."
    )
