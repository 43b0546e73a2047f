"""WordNet: its table is read whole or refused, and a pair never has one text twice."""

import lzma
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ecliptic.errors import ConfigError, StorageError
from ecliptic.train.data.wordnet import WordNet, WordNetTables, WordNetTexts
from ecliptic.train.settings import WordNetConfig
from tests.train.synsets import HEADER, ROWS, write_synsets


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(write_synsets(tmp_path_factory.mktemp("wordnet") / "synsets.tsv"))


def place_of(wordnet: WordNet, definition: str) -> int:
    [place] = [i for i, s in enumerate(wordnet.synsets) if s.definition.startswith(definition)]
    return place


# --- the table ---------------------------------------------------------------------------------


def test_a_table_is_read_plain_or_packed(wordnet: WordNet, tmp_path: Path) -> None:
    packed = WordNet(write_synsets(tmp_path / "synsets.tsv.xz"))
    assert packed.synsets == wordnet.synsets
    assert len(packed.synsets) == len(ROWS)
    animal, dog, iron, cat = packed.synsets[1:5]
    assert animal.definition == "a living thing that moves"  # without remarks and further parts
    assert (dog.lemmas, dog.hypernyms, dog.kind) == (("dog", "hound"), (1,), "noun.animal")
    assert dog.parts == (6,)  # a part that is not in the table is left out
    assert iron.hypernyms == (0, 1)
    assert cat.definition == 'an animal that says "meow"'


def test_columns_may_stand_in_any_order_and_lines_end_in_any_way(tmp_path: Path) -> None:
    path = tmp_path / "synsets.tsv"
    text = (
        "definition\tid\tparts\tkind\tlemmas\thypernyms\r\na pet\tn\t\tnoun.animal\tdog\t\r\n\r\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    [dog] = WordNet(path).synsets
    assert (dog.lemmas, dog.definition, dog.parts) == (("dog",), "a pet", ())


def test_an_xz_file_of_several_streams_is_one_table(wordnet: WordNet, tmp_path: Path) -> None:
    data = "\n".join([HEADER, *ROWS]).encode()
    parts = lzma.compress(data[:100]), b"\0" * 8, lzma.compress(data[100:])
    (tmp_path / "synsets.tsv.xz").write_bytes(b"".join(parts))
    assert WordNet(tmp_path / "synsets.tsv.xz").synsets == wordnet.synsets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: lzma.compress(data)[:-20], "is no whole xz file .*cut short"),
        (lambda data: data, "is no whole xz file"),
        (lambda data: lzma.compress(data.replace(b"parts", b"part")), "has no column parts; it mu"),
        (lambda data: lzma.compress(data + b"\xff"), "is not text"),
        (
            lambda data: lzma.compress(data + b"n99\tnoun.food\n"),
            f"line {len(ROWS) + 2} of .* is d",
        ),
        (lambda data: lzma.compress(data + b"x\tk\ta||b\t\t\t\td\n"), "is damaged: .* no id, word"),
        (lambda data: lzma.compress(data + b"x\tk\ta\t\t\t\t \n"), "is damaged: .*definition"),
        (lambda data: lzma.compress(data + ROWS[0].encode()), "has an id twice"),
        (lambda data: lzma.compress(HEADER.encode()), "has no synsets"),
        (lambda data: lzma.compress(b""), "has no column id, kind"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    path = write_synsets(tmp_path / "synsets.tsv")
    packed = tmp_path / "synsets.tsv.xz"
    packed.write_bytes(change(path.read_bytes()))
    with pytest.raises(StorageError, match=message):
        WordNet(packed)


def test_a_table_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"synsets.tsv cannot be read: No such file.*data\.root"):
        WordNet(tmp_path / "synsets.tsv")
    with pytest.raises(StorageError, match="is a folder"):
        WordNet(tmp_path)
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(StorageError, match="is a pipe"):
        WordNet(tmp_path / "pipe.tsv")


def test_a_table_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.train.data.wordnet._LARGEST", 1 << 16)
    path = tmp_path / "synsets.tsv.xz"
    path.write_bytes(lzma.compress(b"\0" * (1 << 20)))
    with pytest.raises(StorageError, match="unpacks to more than 65536 bytes"):
        WordNet(path)


def test_a_table_is_read_once_for_all_sources(tmp_path: Path) -> None:
    path, tables = write_synsets(tmp_path / "synsets.tsv"), WordNetTables()
    assert tables.find(path) is tables.find(path)


# --- senses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keywords", "definition"),
    [
        ("dog", (), "a tame animal"),  # of which it is the commonest name
        ("dog", ("fireplace", "metal"), "a metal support"),
        ("Dog Face", (), "a tame animal"),
        ("black dog with logs of metal", (), None),  # "metal" is not in the table
        ("metal dog", (), "a metal support"),
        ("red circle", (), None),  # nothing says that it is the line
        ("red circle", ("round",), "a round line"),
        ("circle: red, round", (), "a round line"),
        ("firedog", ("animal",), "a metal support"),
        ("rover", (), None),  # a proper name
        ("chew", (), None),  # nothing that can be drawn
        ("xyz", ("dog",), None),
        ("", (), None),
    ],
)
def test_a_name_finds_the_sense_that_fits_its_words(
    wordnet: WordNet, name: str, keywords: tuple[str, ...], definition: str | None
) -> None:
    found = wordnet.find(name, keywords)
    assert found == (None if definition is None else place_of(wordnet, definition))


def test_hypernyms_are_named_from_the_nearest_up(wordnet: WordNet, tmp_path: Path) -> None:
    tom = place_of(wordnet, "a male")
    assert [wordnet.synsets[p].lemmas[0] for p in wordnet.line(tom)] == ["cat", "animal", "thing"]
    round_trip = write_synsets(tmp_path / "s.tsv", "a\tnoun.food\tx\tb\t\t\t1", "b\tk\ty\ta\t\t\t2")
    assert len(WordNet(round_trip).line(len(ROWS))) == 3  # a circle has no end


def test_kinds_leave_out_hypernyms_that_say_too_little(tmp_path: Path) -> None:
    more = [f"m{n}\tnoun.food\tdish {n}\tn0\t\t\ta dish" for n in range(30)]
    wordnet = WordNet(write_synsets(tmp_path / "synsets.tsv", *more))
    for name, kinds in (("tom", ["cat", "animal"]), ("dog", ["animal"]), ("tail", ["thing"])):
        place = wordnet.find(name)
        assert place is not None
        assert [wordnet.synsets[p].lemmas[0] for p in wordnet.kinds(place)] == kinds


# --- words and pairs ---------------------------------------------------------------------------


def test_a_synset_is_described_in_every_way(wordnet: WordNet) -> None:
    dog = place_of(wordnet, "a tame")
    found = {wordnet.describe(dog, Random(seed)) for seed in range(400)}
    above = {form.format("animal") for form in ("{}", "an {}", "a kind of {}")}
    assert found == above | {"hound", "something with tail", "a tame animal that barks"}
    assert wordnet.describe(dog, Random(7)) == wordnet.describe(dog, Random(7))


def test_a_pair_never_has_one_text_twice(wordnet: WordNet) -> None:
    """Some definitions are a word of their synset: the search for another once had no end."""
    texts = WordNetTexts(wordnet, WordNetConfig(Path()))
    drawn = [texts.draw(i, Random(s)) for i in range(len(texts)) for s in range(60)]
    assert all(one != other for one, other in drawn)
    found = set(drawn)
    assert {("chew", "bite"), ("bite", "chew"), ("give", "chew")} <= found
    assert not {"be", "Rover"} & {text for pair in drawn for text in pair}


def test_texts_are_those_of_some_kinds_without_proper_names(wordnet: WordNet) -> None:
    def words(*kinds: str) -> list[str]:
        texts = WordNetTexts(wordnet, WordNetConfig(Path(), kinds=kinds))
        return [wordnet.synsets[place].lemmas[0] for place in texts.places]

    assert words("noun.animal") == ["animal", "dog", "cat", "tom"]
    assert words("noun.body", "noun.animal") == ["animal", "dog", "cat", "tail", "tom"]
    assert len(words()) == len(ROWS) - 2
    for kinds, message in (
        (("noun.animals",), "no kind 'noun.animals'; did you mean 'noun.animal'"),
        (("xyz",), re.escape("no kind 'xyz'; its kinds are noun.Tops, noun.animal")),
        (("noun.person",), "no word of the kinds noun.person that is no proper name"),
    ):
        with pytest.raises(ConfigError, match=message):
            words(*kinds)


def test_texts_survive_the_way_to_a_worker(wordnet: WordNet) -> None:
    texts = WordNetTexts(wordnet, WordNetConfig(Path()))
    again = pickle.loads(pickle.dumps(texts))
    assert [again.draw(i, Random(3)) for i in range(9)] == [
        texts.draw(i, Random(3)) for i in range(9)
    ]


def test_the_fingerprint_follows_the_table(tmp_path: Path) -> None:
    texts = WordNetTexts(WordNet(write_synsets(tmp_path / "synsets.tsv")), WordNetConfig(Path()))
    before = texts.fingerprint()
    write_synsets(tmp_path / "synsets.tsv", "n99\tnoun.food\tbread\t\t\t\ta baked food")
    assert texts.fingerprint() != before


def test_any_word_takes_the_place_of_one_of_a_name(wordnet: WordNet) -> None:
    texts = {wordnet.disturb("red circle", Random(seed)) for seed in range(500)}
    others = {synset.lemmas[0] for synset in wordnet.synsets}
    assert texts == {f"{word} circle" for word in others} | {f"red {word}" for word in others}
