"""Captions -> (N, 77) ids, against open_clip and transformers: `python -m benchmarks.tokenizer`.

The captions are ImageNet templates with titles from ../shared; or pass a file with one caption per
line. Every contender has tokenized the captions once before, as in training, where they recur every
epoch; "new words" is ecliptic with an empty cache each time.
"""

import csv
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.timing import measure_in_turns, report
from ecliptic.inputs import Tokenizer, fill, templates
from tests import peers

CLIPART = Path(__file__).parents[2] / "shared/data/openclipart/openclipart.csv"
COUNT = 4000  # captions in one call
BATCH = 32


def captions() -> list[str]:
    """One caption per title of a clip art image, with OpenAI's templates in turn."""
    labels = [f"thing {number}" for number in range(COUNT)]
    if CLIPART.exists():
        with CLIPART.open(newline="", encoding="utf-8") as lines:
            labels = [row["title"] for row in csv.DictReader(lines)]
    pairs = zip(cycle(templates("imagenet")), labels[:COUNT], strict=False)
    return [text for template, label in pairs for text in fill([template], label)]


def contenders(texts: list[str]) -> dict[str, Callable[[], object]]:
    """One pass over `texts` in batches, by name; ours first."""
    batches = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
    ours, theirs = Tokenizer(), peers.open_clip().tokenizer.SimpleTokenizer()
    for batch in batches:
        np.testing.assert_array_equal(ours(batch, "truncate"), theirs(batch).numpy())
    fast = peers.transformers().CLIPTokenizer(
        vocab=rename_specials(theirs.encoder), merges=list(theirs.bpe_ranks)
    )
    padding = {"padding": "max_length", "truncation": True, "max_length": 77}
    return {
        "ecliptic": lambda: [ours(batch, "truncate") for batch in batches],
        "ecliptic, new words": lambda: [
            tokenizer(batch, "truncate") for tokenizer in [Tokenizer()] for batch in batches
        ],
        "open_clip": lambda: [theirs(batch) for batch in batches],
        "transformers (Rust)": lambda: [
            fast(batch, return_tensors="np", **padding) for batch in batches
        ],
    }


def rename_specials(encoder: dict[str, int]) -> dict[str, int]:
    """Give the special tokens of open_clip's vocabulary the names that transformers expects."""
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {names.get(piece, piece): id_ for piece, id_ in encoder.items()}


def main(texts: list[str]) -> None:
    """Print the captions per second of each contender."""
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(f"{len(texts)} captions of {words:.1f} words in batches of {BATCH}")
    seconds = measure_in_turns(contenders(texts), repeats=9, warmup=1, settle=1)
    report("tokenizer", seconds, len(texts), "captions", "ecliptic")


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text("utf-8").splitlines() if sys.argv[1:] else captions())
