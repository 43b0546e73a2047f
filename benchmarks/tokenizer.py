"""Captions -> (N, 77) ids beside open_clip and transformers: `python -m benchmarks.tokenizer`.

The captions are ImageNet templates filled with titles from ../shared; name a file with one caption
a line for your own. Every contender has seen the captions once, as in
training, where each recurs every epoch; "new words" is ecliptic with an empty cache every time.
"""

import csv
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.timing import report, timed_in_turns
from ecliptic.inputs import Tokenizer, fill, templates
from tests import peers

CLIPART = Path(__file__).parents[2] / "shared/data/openclipart/openclipart.csv"
COUNT = 4000  # captions in one call
BATCH = 32


def captions() -> list[str]:
    """OpenAI's templates filled, one each in turn, with titles that people gave to clip art."""
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
        vocab=spelled_as_openai(theirs.encoder), merges=list(theirs.bpe_ranks)
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


def spelled_as_openai(encoder: dict[str, int]) -> dict[str, int]:
    """The vocabulary of open_clip with the special strings that transformers expects."""
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {names.get(piece, piece): id_ for piece, id_ in encoder.items()}


def main(texts: list[str]) -> None:
    """Print captions per second of each contender."""
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(f"{len(texts)} captions of {words:.1f} words in batches of {BATCH}")
    seconds = timed_in_turns(contenders(texts), repeats=9, warmup=1)
    report("tokenizer", seconds, len(texts), "captions", "ecliptic")


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text("utf-8").splitlines() if sys.argv[1:] else captions())
