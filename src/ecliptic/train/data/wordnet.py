"""WordNet as training data: words with their definitions, hypernyms and synonyms.

Miller 1995, "WordNet: a lexical database for English". One line of the table is a synset: words
of one meaning. Its first word is the commonest one.
"""

import csv
import lzma
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from ecliptic.errors import ConfigError, StorageError, did_you_mean
from ecliptic.train.data.examples import hash_files
from ecliptic.train.settings import WordNetConfig

COLUMNS = ("id", "kind", "lemmas", "hypernyms", "parts", "definition")
DRAWN = (  # what drawings show; a word with several senses is taken in the first of these
    "noun.animal",
    "noun.person",
    "noun.artifact",
    "noun.food",
    "noun.plant",
    "noun.body",
    "noun.object",
    "noun.phenomenon",
)
_LARGEST = 1 << 27  # bytes of the table
_HIGHEST = 3  # hypernyms above a synset that are named
_SMALL_WORDS = frozenset(
    {
        "and",
        "any",
        "being",
        "consisting",
        "for",
        "from",
        "has",
        "having",
        "into",
        "its",
        "kind",
        "made",
        "not",
        "one",
        "other",
        "part",
        "some",
        "something",
        "that",
        "the",
        "their",
        "them",
        "used",
        "usually",
        "very",
        "which",
        "who",
        "with",
    }
)


@dataclass(frozen=True)
class Synset:
    """Words of one meaning."""

    lemmas: tuple[str, ...]
    hypernyms: tuple[int, ...]  # places in the list of all synsets
    parts: tuple[int, ...]
    definition: str
    kind: str  # lexicographer file: "noun.animal"


class WordNet:
    """All synsets of a table.

    Raises:
        StorageError: it is missing or damaged, or a column is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.synsets = _read(path)

    @cached_property
    def senses(self) -> dict[str, tuple[int, ...]]:
        """Places of the synsets of what can be drawn, by their words; without proper names."""
        found: dict[str, list[int]] = {}
        for place, synset in enumerate(self.synsets):
            if synset.kind in DRAWN:
                for lemma in filter(str.islower, synset.lemmas):
                    found.setdefault(lemma, []).append(place)
        return {lemma: tuple(places) for lemma, places in found.items()}

    def find(self, name: str, keywords: Sequence[str] = ()) -> int | None:
        """The synset of the thing that `name` names, or that its last words name.

        "dog face" is the dog.

        Of several senses, the one is taken whose definition and hypernyms share most words with
        the keywords (Lesk 1986); then the one of which the word is the commonest name.
        """
        words = name.lower().removesuffix(" face").split()
        for first in range(len(words)):
            head = " ".join(words[first:])
            if places := self.senses.get(head):
                hints = _words(" ".join([name, *keywords])) - set(words[first:])
                return max(places, key=lambda place: self._fit(place, head, hints))
        return None

    def _fit(self, place: int, word: str, hints: set[str]) -> tuple[int, bool, int]:
        synset = self.synsets[place]
        above = [lemma for p in self.line(place) for lemma in self.synsets[p].lemmas]
        about = _words(" ".join([synset.definition, *above, *synset.lemmas]))
        main = synset.lemmas[0] == word
        return len(about & hints), main, -DRAWN.index(synset.kind)

    def line(self, place: int) -> list[int]:
        """The hypernyms of a synset from the nearest up, the first one of several each time."""
        found: list[int] = []
        while len(found) < _HIGHEST and (above := self.synsets[place].hypernyms):
            place = above[0]
            found.append(place)
        return found

    def describe(self, place: int, random: Random) -> str:
        """Words for a synset beside its own name: a definition, a hypernym, a synonym or a whole
        of which it is."""
        synset, kind = self.synsets[place], random.random()
        above = self.line(place)
        if kind < 0.35 and above:
            near = random.choice(above[:2] if random.random() < 0.7 else above)
            return _as_kind(self.synsets[near].lemmas[0], random)
        if kind < 0.5 and len(synset.lemmas) > 1:
            return random.choice(synset.lemmas[1:])
        if kind < 0.58 and synset.parts:
            part = self.synsets[random.choice(synset.parts)].lemmas[0]
            return f"something with {part}"
        return synset.definition

    def pair(self, place: int, random: Random) -> tuple[str, str]:
        """A word of a synset, and other words for it, which are never the word itself."""
        synset = self.synsets[place]
        lemma = synset.lemmas[0] if random.random() < 0.6 else random.choice(synset.lemmas)
        words = self.describe(place, random)
        return lemma, words if words != lemma else self._find_other(place, lemma)

    def _find_other(self, place: int, lemma: str) -> str:
        """The first words for a synset that are not `lemma`: some definitions are a word of it."""
        above = (self.synsets[one].lemmas[0] for one in self.line(place))
        synset = self.synsets[place]
        return next(text for text in (synset.definition, *synset.lemmas, *above) if text != lemma)


class WordNetTexts:
    """Pairs of texts: a word, and other words for what it means.

    Proper names are left out: they are those of places, people and genera.
    """

    def __init__(self, wordnet: WordNet, config: WordNetConfig) -> None:
        self.wordnet = wordnet
        known = sorted({synset.kind for synset in wordnet.synsets})
        for kind in config.kinds:
            if kind not in known:
                fix = did_you_mean(kind, known) or f"its kinds are {', '.join(known)}."
                raise ConfigError(f"{wordnet.path} has no kind {kind!r}; {fix}")
        wanted = set(config.kinds or known)
        self.places = [
            place
            for place, synset in enumerate(wordnet.synsets)
            if synset.kind in wanted and synset.lemmas[0].islower()
        ]

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, random: Random) -> tuple[str, str]:
        """Two texts of one meaning."""
        return self.wordnet.pair(self.places[index], random)

    def fingerprint(self) -> str:
        """Hex of the name, size and time of the table."""
        return hash_files([self.wordnet.path], self.wordnet.path.parent)


def open_wordnet(config: WordNetConfig, root: Path) -> WordNetTexts:
    """Open a source of text pairs; a relative path begins at `root`."""
    return WordNetTexts(WordNet(root / config.path), config)


def _read(path: Path) -> list[Synset]:
    rows = _read_rows(path)
    places = {row["id"]: place for place, row in enumerate(rows)}

    def find(cell: str) -> tuple[int, ...]:
        return tuple(places[name] for name in cell.split("|") if name in places)

    return [
        Synset(
            tuple(row["lemmas"].split("|")),
            find(row["hypernyms"]),
            find(row["parts"]),
            _shorten(row["definition"]),
            row["kind"],
        )
        for row in rows
    ]


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        opened = lzma.open if path.suffix == ".xz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            text = file.read(_LARGEST)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}; data.root, or --data, is the "
            "folder that holds the data."
        ) from None
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} is damaged ({error}); get it again.") from None
    lines = text.split("\n")
    header = lines[0].rstrip("\r").split("\t")
    if missing := [name for name in COLUMNS if name not in header]:
        raise StorageError(
            f"{path} has no column {', '.join(missing)}; it must be a table of synsets with tabs."
        )
    reader = csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    return [dict(zip(header, row, strict=False)) for row in reader if len(row) == len(header)]


def _shorten(definition: str) -> str:
    """The first part of a definition, without remarks in brackets."""
    plain = re.sub(r"\s*\([^()]*\)\s*", " ", definition).strip()
    return plain.split(";")[0].strip() or definition


def _as_kind(hypernym: str, random: Random) -> str:
    form = random.random()
    if form < 0.4:
        return hypernym
    return f"a kind of {hypernym}" if form < 0.7 else f"a {hypernym}"


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower())) - _SMALL_WORDS
