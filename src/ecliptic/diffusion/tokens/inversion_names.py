"""Finds the names of textual inversions in a text, by the rule of each tool.

A matcher turns the text of one segment into groups of words; a name is one word. Sources:
diffusers loaders/textual_inversion.py with Hugging Face's added tokens; stable-diffusion-webui
modules/textual_inversion/textual_inversion.py `find_embedding_at_position`; ComfyUI
comfy/sd1_clip.py `SDTokenizer`.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import TypeAlias

import regex

from ecliptic.diffusion.options import InversionMatch
from ecliptic.diffusion.tokens.words import Reader, TokenPiece, Word, split_around
from ecliptic.errors import warn

Matcher: TypeAlias = Callable[[str], list[list[Word]]]  # groups that are tokenized by themselves

EMBEDDING = "embedding:"
ENDINGS = (".safetensors", ".pt", ".bin")  # of files, which ComfyUI lets a prompt name in full


class UnknownInversionWarning(UserWarning):
    """A prompt names an unknown textual inversion; the name was left out."""


def diffusers_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """Match names anywhere in the text, ignoring case, longest first.

    A Hugging Face tokenizer finds added tokens like this. diffusers replaces strings in the prompt
    instead, so there a name also matches the beginning of a longer name; here it does not.
    """
    by_spelling = {_fold(name): name for name in names} | {name: name for name in names}
    spellings = set(names)
    for form in ("NFC", "NFD"):
        spellings |= {unicodedata.normalize(form, name) for name in names}
    longest_first = sorted(spellings, key=len, reverse=True)
    pattern = "|".join(r"\s+".join(map(regex.escape, name.split())) for name in longest_first)

    def match(text: str) -> list[list[Word]]:
        words: list[Word] = []
        for offset, part, id_ in reader.split(text):
            if id_ is not None or not names:
                words += reader.read_part(offset, part, id_)
                continue
            for place, piece in split_around(part, f"(?i:{pattern})"):
                name = by_spelling.get(piece, by_spelling.get(_fold(piece)))
                start = offset + place
                if name is None:
                    words += reader.read_part(start, piece, None)
                else:
                    words.append(Word((), name, (start, start + len(piece))))
        return [words]

    return match


def a1111_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """Match the longest run of ids that are the ids of a name, anywhere in the text."""
    known: dict[int, list[tuple[list[int], str]]] = {}  # by first id
    for name in names:
        if ids := [piece.id for word in reader.words(name) for piece in word.pieces]:
            known.setdefault(ids[0], []).append((ids, name))
    for same_start in known.values():
        same_start.sort(key=lambda pair: len(pair[0]), reverse=True)

    def match(text: str) -> list[list[Word]]:
        words = reader.words(text)
        return [list(_replace_names(words, known)) if known else words]

    return match


def comfyui_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """Match `embedding:name` at the start or after a space; names and texts between are groups.

    A name ends at white space; commas after it are text. An unknown name is left out, with an
    UnknownInversionWarning.
    """

    def match(text: str) -> list[list[Word]]:
        groups: list[list[Word]] = []
        for offset, part in _split_at_embeddings(text):
            if not part.startswith(EMBEDDING):
                groups.append([word.shift(offset) for word in reader.words(part)])
                continue
            name, after = _read_name(part, names)
            if name is not None:
                groups.append([Word((), name, (offset, offset + after))])
            if part[after:].strip():
                groups.append([word.shift(offset + after) for word in reader.words(part[after:])])
        return groups

    return match


MATCHERS: Mapping[InversionMatch, Callable[[Reader, Collection[str]], Matcher]] = MappingProxyType(
    {"diffusers": diffusers_matcher, "a1111": a1111_matcher, "comfyui": comfyui_matcher}
)


def _replace_names(
    words: list[Word], known: Mapping[int, list[tuple[list[int], str]]]
) -> Iterator[Word]:
    """Replace known runs of ids by names; the rest of a word stays one word."""
    flat = [(number, piece) for number, word in enumerate(words) for piece in word.pieces]
    ids = [piece.id for _, piece in flat]
    waiting: list[tuple[int, TokenPiece]] = []
    place = 0
    while place < len(flat):
        candidates = known.get(ids[place], [])
        found = next((c for c in candidates if ids[place : place + len(c[0])] == c[0]), None)
        if found is None:
            waiting.append(flat[place])
            place += 1
            continue
        yield from _join_words(waiting)
        waiting, after = [], place + len(found[0])
        yield Word((), found[1], (flat[place][1].span[0], flat[after - 1][1].span[1]))
        place = after
    yield from _join_words(waiting)


def _join_words(pieces: list[tuple[int, TokenPiece]]) -> Iterator[Word]:
    for _, group in groupby(pieces, key=lambda pair: pair[0]):
        yield Word(tuple(piece for _, piece in group))


def _split_at_embeddings(text: str) -> Iterator[tuple[int, str]]:
    """Cut the text before every `embedding:` after a space: (offset, characters)."""
    cuts = [match.start() for match in regex.finditer(rf"(?<=[ \n]){EMBEDDING}", text)]
    edges = [0, *cuts, len(text)]
    for start, end in pairwise(edges):
        if start < end:
            yield start, text[start:end]


def _read_name(part: str, names: Collection[str]) -> tuple[str | None, int]:
    """Read the name at the start of a part: the inversion, and the end of the name."""
    rest = part[len(EMBEDDING) :]
    written = (rest.split() or [""])[0]
    after = len(EMBEDDING) + rest.find(written) + len(written)
    stripped = written.rstrip(",")
    for spelling in (written, stripped):
        for name in (spelling, *(spelling.removesuffix(ending) for ending in ENDINGS)):
            if name and name in names:
                return name, after - (len(written) - len(spelling))
    warn(
        f"no textual inversion is called {stripped!r}, so {EMBEDDING}{stripped} is left out of the "
        "prompt, as ComfyUI does; load it, or correct the name.",
        UnknownInversionWarning,
        stacklevel=4,
    )
    return None, after - (len(written) - len(stripped))


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).lower().split())
