"""A small table of synsets: things that the drawings of the tests show, and words that are odd."""

import lzma
from pathlib import Path

HEADER = "id\tkind\tlemmas\thypernyms\tparts\tsimilar\tdefinition"
ROWS = (
    "n0\tnoun.Tops\tthing\t\t\t\tthat which is",
    "n1\tnoun.animal\tanimal|beast\tn0\t\t\ta living thing that moves (by itself); not a plant",
    "n2\tnoun.animal\tdog|hound\tn1\tn6|n404\t\ta tame animal that barks",
    "n3\tnoun.artifact\tandiron|dog|firedog\tn0|n1\t\t\ta metal support for logs in a fireplace",
    'n4\tnoun.animal\tcat\tn1\tn6\t\tan animal that says \\"meow\\"',
    "n5\tnoun.person\tRover\tn2\t\t\ta hero of tales",
    "n6\tnoun.body\ttail\tn0\t\t\tthe rear part",
    "n7\tnoun.object\tcircle|ring\tn0\t\t\ta round line",
    "n8\tnoun.object\tsquare\tn0\t\t\tfour equal sides",
    "n9\tnoun.animal\ttom\tn4\t\t\ta male of the kind",
    "v0\tverb.change\tchew|bite\t\t\t\tchew (food)",
    "v1\tverb.possession\tgive\tv0\t\t\tgive (as medicine)",
    "v2\tverb.social\tbe\t\t\t\tbe",
)


def write_synsets(path: Path, *more: str) -> Path:
    """The table, packed if its name says so, with `more` rows at the end."""
    data = "\n".join([HEADER, *ROWS, *more, ""]).encode()
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    return path
