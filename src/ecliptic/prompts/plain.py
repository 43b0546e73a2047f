"""The plain dialect: every character is text."""

from ecliptic.prompts.printing import node_error
from ecliptic.prompts.reading import Alternative, Line, Segment
from ecliptic.prompts.tree import Text, Tree


def read(text: str) -> Tree:
    """One text; no node where it is empty."""
    return (Text(text, tuple(range(len(text)))),) if text else ()


def write(tree: Tree) -> str:
    """The text as it is.

    Raises:
        ConfigError: a node is not a text.
    """
    for node in tree:
        if not isinstance(node, Text):
            raise node_error(node, "plain", ("Text",))
    return "".join(node.text for node in tree if isinstance(node, Text))


def spans(text: str) -> list[tuple[str, float]]:
    """The text with weight 1."""
    return [(text, 1.0)]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """One line for all steps, for negative prompts too."""
    del negative
    line = Line((Segment(text, 1.0, tuple(range(len(text)))),))
    return (Alternative(1.0, ((steps or 1, line),)),)
