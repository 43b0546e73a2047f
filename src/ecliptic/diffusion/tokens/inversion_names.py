"""Where the names of textual inversions stand in a text, by the rule of each tool.

A matcher turns the text of one segment into groups of words, names found among them. Sources:
diffusers loaders/textual_inversion.py with Hugging Face's added tokens; stable-diffusion-webui
modules/textual_inversion/textual_inversion.py `find_embedding_at_position`; ComfyUI
comfy/sd1_clip.py `SDTokenizer`.
"""

import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import TypeAlias

import regex

from ecliptic.diffusion.options import InversionMatch
from ecliptic.diffusion.tokens.words import Reader, TokenPiece, Word, ids_of, split_around

Matcher: TypeAlias = Callable[[str], list[list[Word]]]  # groups that are tokenized by themselves

EMBEDDING = "embedding:"
ENDINGS = (".safetensors", ".pt", ".bin")  # of files, which ComfyUI lets a prompt name in full


class UnknownInversionWarning(UserWarning):
    """A prompt names a textual inversion that was not given; the name was left out."""


def diffusers_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """Names anywhere in the text, letter case aside, longest first.

    As tokens added to a Hugging Face tokenizer are found. Unlike diffusers' replacing of strings
    in the prompt, a name that begins another one leaves that one whole.
    """
    by_spelling = {_plain(name): name for name in names} | {name: name for name in names}
    spellings = {form for name in names for form in _forms(name)}
    pattern = "|".join(map(_any_space, sorted(spellings, key=len, reverse=True)))

    def match(text: str) -> list[list[Word]]:
        words: list[Word] = []
        for offset, part, id_ in reader.parts(text):
            if id_ is not None or not names:
                words += reader.part_words(offset, part, id_)
                continue
            for place, piece in split_around(part, f"(?i:{pattern})"):
                name = by_spelling.get(piece, by_spelling.get(_plain(piece)))
                start = offset + place
                if name is None:
                    words += reader.part_words(start, piece, None)
                else:
                    words.append(Word((), name, (start, start + len(piece))))
        return [words]

    return match


def a1111_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """The longest run of ids that a name is tokenized to, wherever it stands in the ids."""
    known: dict[int, list[tuple[list[int], str]]] = {}  # by first id
    for name in names:
        if ids := ids_of(reader.words(name)):
            known.setdefault(ids[0], []).append((ids, name))
    for same_start in known.values():
        same_start.sort(key=lambda pair: len(pair[0]), reverse=True)

    def match(text: str) -> list[list[Word]]:
        words = reader.words(text)
        return [list(_replaced(words, known)) if known else words]

    return match


def comfyui_matcher(reader: Reader, names: Collection[str]) -> Matcher:
    """`embedding:name` after a space or at the start; every name and every run between is a group.

    A name ends at white space; commas after it are text. A name that is not known is left out
    with an UnknownInversionWarning.
    """

    def match(text: str) -> list[list[Word]]:
        groups: list[list[Word]] = []
        for offset, part in _embedding_parts(text):
            if not part.startswith(EMBEDDING):
                groups.append([word.moved(offset) for word in reader.words(part)])
                continue
            name, after = _named(part, names)
            if name is not None:
                groups.append([Word((), name, (offset, offset + after))])
            if part[after:].strip():
                groups.append([word.moved(offset + after) for word in reader.words(part[after:])])
        return groups

    return match


MATCHERS: Mapping[InversionMatch, Callable[[Reader, Collection[str]], Matcher]] = MappingProxyType(
    {"diffusers": diffusers_matcher, "a1111": a1111_matcher, "comfyui": comfyui_matcher}
)


def _replaced(
    words: list[Word], known: Mapping[int, list[tuple[list[int], str]]]
) -> Iterator[Word]:
    """The words with known runs of ids replaced; what is left of a word stays one."""
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
        yield from _whole(waiting)
        waiting, after = [], place + len(found[0])
        yield Word((), found[1], (flat[place][1].span[0], flat[after - 1][1].span[1]))
        place = after
    yield from _whole(waiting)


def _whole(pieces: list[tuple[int, TokenPiece]]) -> Iterator[Word]:
    for _, group in groupby(pieces, key=lambda pair: pair[0]):
        yield Word(tuple(piece for _, piece in group))


def _embedding_parts(text: str) -> Iterator[tuple[int, str]]:
    """(offset, characters) of the text cut before every `embedding:` that follows a space."""
    cuts = [match.start() for match in regex.finditer(rf"(?<=[ \n]){EMBEDDING}", text)]
    edges = [0, *cuts, len(text)]
    for start, end in pairwise(edges):
        if start < end:
            yield start, text[start:end]


def _named(part: str, names: Collection[str]) -> tuple[str | None, int]:
    """The inversion that a part beginning with `embedding:` names, and where the name ends."""
    rest = part[len(EMBEDDING) :]
    written = (rest.split() or [""])[0]
    after = len(EMBEDDING) + rest.find(written) + len(written)
    stripped = written.rstrip(",")
    for spelling in (written, stripped):
        for name in (spelling, *(spelling.removesuffix(ending) for ending in ENDINGS)):
            if name and name in names:
                return name, after - (len(written) - len(spelling))
    warnings.warn(
        f"no textual inversion is called {stripped!r}, so {EMBEDDING}{stripped} is left out of the "
        "prompt, as ComfyUI does; load it, or correct the name.",
        UnknownInversionWarning,
        stacklevel=4,
    )
    return None, after - (len(written) - len(stripped))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def _forms(name: str) -> set[str]:
    return {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}


def _any_space(name: str) -> str:
    return r"\s+".join(map(regex.escape, name.split()))
