"""The vocabulary as text, as openai/CLIP and Hugging Face write it into their files."""

from ecliptic.inputs.bpe import BYTE_NAMES, WORD_END, written_merges
from ecliptic.inputs.specs import FULL_MERGES, SPECIALS


def written_vocabulary(merges: int = FULL_MERGES) -> list[str]:
    """Every token of the vocabulary in the order of the ids; start and end of text come last."""
    final = (name + WORD_END for name in BYTE_NAMES)
    joined = (line.replace(" ", "") for line in written_merges(merges))
    return [*BYTE_NAMES, *final, *joined, *SPECIALS]
