"""The vocabulary as text, the way openai/CLIP and Hugging Face write it into their files."""

import gzip

from ecliptic.inputs.bpe import BYTE_NAMES, MERGES_FILE, WORD_END
from ecliptic.inputs.specs import FULL_MERGES, SPECIALS


def written_merges(merges: int = FULL_MERGES) -> list[str]:
    """The first `merges` lines of the merge list, such as "i n"."""
    return gzip.decompress(MERGES_FILE.read_bytes()).decode().split("\n")[:merges]


def written_vocabulary(merges: int = FULL_MERGES) -> list[str]:
    """Every token of the vocabulary in the order of the ids, start and end of text last."""
    final = (name + WORD_END for name in BYTE_NAMES)
    joined = (line.replace(" ", "") for line in written_merges(merges))
    return [*BYTE_NAMES, *final, *joined, *SPECIALS]
