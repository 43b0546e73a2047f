"""WordNet as training data: words with their definitions, hypernyms and synonyms.

Miller 1995, "WordNet: a lexical database for English". One line of the table is a synset: words
of one meaning. Its first word is the commonest one.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from ecliptic.errors import ConfigError, StorageError, did_you_mean
from ecliptic.storage import read_text
from ecliptic.train.data.examples import hash_files
from ecliptic.train.settings import WordNetConfig

COLUMNS = ("id", "kind", "lemmas", "hypernyms", "parts", "definition")
DRAWN = (  # what drawings show; of senses that fit as well, the first of these is taken
    "noun.animal",
    "noun.artifact",
    "noun.object",
    "noun.phenomenon",
    "noun.body",
    "noun.food",
    "noun.plant",
    "noun.person",
)
_LARGEST = 1 << 27  # bytes of the table
_DEEPEST = 20  # hypernyms above a synset that tell its senses apart
_RUDE = re.compile(r"offensive|disparag|derogat|slur|vulgar|obscene|taboo|insult", re.IGNORECASE)
_HIGHEST = 3  # hypernyms above a synset that are named when a pair has no other words
_BROADEST = 0.13  # share of all synsets that may be below a hypernym that is named
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
    rude: bool = False  # its definition calls it an insult, or says that it is offensive


class WordNet:
    """All synsets of a table.

    The table has a header, tabs between columns, `|` between the words or ids of a cell, and `\\`
    before a quotation mark.

    Args:
        path: of the table; packed with xz if it ends in .xz.

    Raises:
        StorageError: it is missing or damaged, or a column is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.synsets = _read(path)

    def fingerprint(self) -> str:
        """`hash_files` of the table."""
        return hash_files([self.path], self.path.parent)

    @cached_property
    def senses(self) -> dict[str, tuple[int, ...]]:
        """Places of the synsets of what can be drawn, by their words; without proper names."""
        found: dict[str, list[int]] = {}
        for place, synset in enumerate(self.synsets):
            if synset.kind in DRAWN and not synset.rude:
                for lemma in filter(str.islower, synset.lemmas):
                    found.setdefault(lemma, []).append(place)
        return {lemma: tuple(places) for lemma, places in found.items()}

    def find(self, name: str, keywords: Sequence[str] = ()) -> int | None:
        """The synset of the thing that `name` names, or that its last words name.

        "dog face" is the dog, and what comes behind a colon does not count. Of several senses, the
        one is taken whose definition and hypernyms share most words with the keywords (Lesk 1986);
        then the one of which the word is the commonest name. The last words alone must share one,
        since many are no thing that is drawn: a "question mark" is not a man called mark.
        """
        words = name.lower().partition(":")[0].removesuffix(" face").split()
        for first in range(len(words)):
            head = " ".join(words[first:])
            hints = _words(" ".join([*words, *keywords])) - set(words[first:])
            fits = {place: self._fit(place, head, hints) for place in self.senses.get(head, ())}
            if fits and (first == 0 or max(fits.values())[0]):
                return max(fits, key=fits.__getitem__)
        return None

    def _fit(self, place: int, word: str, hints: set[str]) -> tuple[int, int, bool]:
        synset = self.synsets[place]
        above = [lemma for p in self.line(place, _DEEPEST) for lemma in self.synsets[p].lemmas]
        about = _words(" ".join([synset.definition, *above, *synset.lemmas]))
        return len(about & hints), -DRAWN.index(synset.kind), synset.lemmas[0] == word

    def line(self, place: int, most: int = _HIGHEST) -> list[int]:
        """The hypernyms of a synset from the nearest up, the first one of several each time."""
        found: list[int] = []
        while len(found) < most and (above := self.synsets[place].hypernyms):
            place = above[0]
            found.append(place)
        return found

    @cached_property
    def breadth(self) -> list[int]:
        """How many synsets are below each one, by the first hypernym of each."""
        found = [0] * len(self.synsets)
        for place in range(len(self.synsets)):
            for above in self.line(place, _DEEPEST):
                found[above] += 1
        return found

    def kinds(self, place: int) -> list[int]:
        """The hypernyms of a synset that still say something: "bird" and "animal", not "object".

        The nearest one is always among them.
        """
        above, most = self.line(place, _DEEPEST), _BROADEST * len(self.synsets)
        return [p for n, p in enumerate(above) if n == 0 or self.breadth[p] <= most]

    def describe(self, place: int, random: Random) -> str:
        """Words for a synset beside its own name: a definition, a hypernym, a synonym or a whole
        of which it is."""
        synset, kind = self.synsets[place], random.random()
        above = self.kinds(place)
        if kind < 0.4 and above:
            near = random.choice(above[:2] if random.random() < 0.6 else above)
            return _as_kind(self.synsets[near].lemmas[0], random)
        if kind < 0.55 and len(synset.lemmas) > 1:
            return random.choice(synset.lemmas[1:])
        if kind < 0.62 and synset.parts:
            part = self.synsets[random.choice(synset.parts)].lemmas[0]
            return f"something with {part}"
        return synset.definition

    def disturb(self, name: str, random: Random) -> str:
        """The name with any word in place of one of its own.

        The other words must then tell what the drawing shows, as they must in a name that nobody
        has taught: "flag: Kuwait" is a flag.
        """
        words = name.split()
        words[random.randrange(len(words))] = random.choice(self.synsets).lemmas[0]
        return " ".join(words)

    def pair(self, place: int, random: Random) -> tuple[str, str]:
        """A word of a synset, and other words for it, which are never the word itself."""
        synset = self.synsets[place]
        lemma = synset.lemmas[0] if random.random() < 0.6 else random.choice(synset.lemmas)
        words = self.describe(place, random)
        return lemma, words if words != lemma else self._find_other(place, lemma)

    def has_pair(self, place: int) -> bool:
        """Whether there are words for a synset beside its only one."""
        synset = self.synsets[place]
        plain = set(synset.lemmas) != {synset.definition}
        return plain or self._find_other(place, synset.definition) != synset.definition

    def _find_other(self, place: int, lemma: str) -> str:
        """The first words for a synset that are not `lemma`: some definitions are a word of it."""
        synset = self.synsets[place]
        above = (self.synsets[one].lemmas[0] for one in self.line(place))
        texts = (synset.definition, *synset.lemmas, *above)
        return next((text for text in texts if text != lemma), lemma)


class WordNetTables:
    """Tables of synsets, each read once however many sources name it."""

    def __init__(self) -> None:
        self._read: dict[Path, WordNet] = {}

    def find(self, path: Path) -> WordNet:
        """The table in a file.

        Raises:
            StorageError: as of `WordNet`.
        """
        if path not in self._read:
            self._read[path] = WordNet(path)
        return self._read[path]


class WordNetTexts:
    """Pairs of texts: a word, and other words for what it means.

    Proper names are left out: they are those of places, people and genera. So are words that their
    definition calls offensive, disparaging, vulgar or the like.

    Raises:
        ConfigError: the table has no such kind, or no words of these kinds.
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
            if synset.kind in wanted
            and synset.lemmas[0].islower()
            and wordnet.has_pair(place)
            and not synset.rude
        ]
        if not self.places:
            raise ConfigError(
                f"{wordnet.path} has no word of the kinds {', '.join(sorted(wanted))} that is no "
                "proper name; name other kinds in data.texts.sources."
            )

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, random: Random) -> tuple[str, str]:
        """Two texts of one meaning."""
        return self.wordnet.pair(self.places[index], random)

    def fingerprint(self) -> str:
        """`hash_files` of the table."""
        return self.wordnet.fingerprint()


def _read(path: Path) -> list[Synset]:
    rows = _read_rows(path)
    places = {row["id"]: place for place, row in enumerate(rows)}
    if len(places) < len(rows):
        raise StorageError(f"{path} has an id twice; it must be a table with a synset in each row.")

    def find(cell: str) -> tuple[int, ...]:
        """Places of synsets; a table may be a part of WordNet, so some may be missing."""
        return tuple(places[name] for name in cell.split("|") if name in places)

    return [
        Synset(
            tuple(row["lemmas"].split("|")),
            find(row["hypernyms"]),
            find(row["parts"]),
            _shorten(row["definition"]),
            row["kind"],
            rude=_RUDE.search(row["definition"]) is not None,
        )
        for row in rows
    ]


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table by the names of its columns."""
    try:
        text = read_text(path, StorageError, _LARGEST, xz=path.suffix == ".xz")
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}; data.root, or --data, is the "
            "folder that holds the data."
        ) from None
    lines = text.removeprefix("\ufeff").split("\n")
    header = lines[0].split("\t")
    if missing := [name for name in COLUMNS if name not in header]:
        raise StorageError(
            f"{path} has no column {', '.join(missing)}; it must be a table of synsets with tabs."
        )
    rows = []
    reader = csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    try:
        for cells in filter(None, reader):
            row = dict(zip(header, cells, strict=False))
            whole = len(cells) == len(header) and row["id"] and row["definition"].strip()
            if not whole or not all(row["lemmas"].split("|")):
                raise csv.Error("not the cells of the header, or no id, word or definition")
            rows.append(row)
    except csv.Error as error:
        raise StorageError(f"line {reader.line_num + 1} of {path} is damaged: {error}.") from None
    if not rows:
        raise StorageError(f"{path} has no synsets; get it again.")
    return rows


def _shorten(definition: str) -> str:
    """The first part of a definition, without remarks in brackets."""
    plain = re.sub(r"\s*\([^()]*\)\s*", " ", definition).strip()
    return plain.split(";")[0].strip() or definition


def _as_kind(hypernym: str, random: Random) -> str:
    form = random.random()
    if form < 0.4:
        return hypernym
    if form < 0.6:
        return f"a kind of {hypernym}"
    return f"{'an' if hypernym[0] in 'aeiou' else 'a'} {hypernym}"


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower())) - _SMALL_WORDS
