"""Searches of a library against plain arithmetic on the same vectors."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, EclipticError, FilterError, InputError
from ecliptic.library import Library
from ecliptic.library.finding.queries import LibraryQuery
from ecliptic.library.finding.searching import CANDIDATES, choose_diverse
from tests.engine.models import draw
from tests.library.photos import save_photo, vectors_of

COUNT = 60


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Library:
    """A library of 60 pictures, which no test changes."""
    folder = tmp_path_factory.mktemp("searched")
    for seed in range(COUNT):
        save_photo(folder / "photos" / f"{seed:02}.png", seed, 20 + seed, 16)
    library = Library.create(folder / "x.library", clip)
    assert library.add(folder / "photos").added == COUNT
    return library


def photo(library: Library, number: int) -> str:
    return str(library.folder.with_name("photos") / f"{number:02}.png")


def unit(vector: Any) -> NDArray[np.float64]:
    found = np.asarray(vector, dtype=np.float64).reshape(-1)
    return found / np.linalg.norm(found)


def words(library: Library, text: str) -> NDArray[np.float64]:
    return unit(library.clip.encode_text([text]).numpy())


def ranked(library: Library, query: NDArray[np.float64], k: int) -> list[tuple[str, float]]:
    """The `k` nearest pictures by plain arithmetic."""
    vectors = vectors_of(library)
    scores = {id_: float(unit(query) @ vector) for id_, vector in vectors.items()}
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def check(library: Library, query: NDArray[np.float64], *given: Any, **options: Any) -> None:
    """Assert that a search gives the hits of plain arithmetic."""
    for exact in (False, True):
        hits = library.search(*given, k=10, exact=exact, **options)
        expected = ranked(library, query, 10)
        assert hits.ids == [id_ for id_, _ in expected]
        np.testing.assert_allclose(hits.scores, [score for _, score in expected], atol=2e-6)
        assert hits.ranks == list(range(1, 11))
        assert hits.plan.route == ("scan" if exact else "map")


def test_words(filled: Library) -> None:
    check(filled, words(filled, "a cat"), "a cat")


def test_a_picture_in_every_form(filled: Library) -> None:
    picture = draw(99, 64, 48)
    query = unit(filled.clip.encode_image([picture]).numpy())
    check(filled, query, picture)
    check(filled, query, np.asarray(picture))
    check(filled, query, None, like=picture)
    path = save_photo(filled.folder.with_name("other.png"), 99, 64, 48)
    check(filled, query, path)
    check(filled, query, None, like=str(path))


def test_words_and_pictures_with_weights(filled: Library) -> None:
    picture = draw(98, 64, 48)
    image = unit(filled.clip.encode_image([picture]).numpy())
    cat, dog = words(filled, "a cat"), words(filled, "a dog")
    check(filled, cat + image, "a cat", like=picture)
    check(filled, 2 * cat + 0.3 * image, ("a cat", 2), like=[(picture, 0.3)])
    check(filled, cat + 0.5 * dog, ["a cat", ("a dog", 0.5)])


def test_pictures_of_the_library_by_id_and_path(
    filled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_of(filled)
    one, two = photo(filled, 3), photo(filled, 4)
    check(filled, unit(vectors[one]), None, like=one)
    check(filled, unit(vectors[one]) + unit(vectors[two]), None, like=[one, two])
    monkeypatch.chdir(filled.folder.with_name("photos"))
    check(filled, unit(vectors[one]), None, like="03.png")
    check(filled, unit(vectors[one]), None, like="../photos/03.png")


def test_the_model_is_not_loaded_for_what_is_stored(filled: Library) -> None:
    with Library.open(filled.folder) as opened:  # its model is not known
        assert opened.search(None, 1, like=photo(filled, 5)).ids == [photo(filled, 5)]
        assert opened.search(None, 1, like=photo(filled, 5), unlike=photo(filled, 6)).ids
        with pytest.raises(ConfigError, match="pass the model"):
            opened.search("a cat")


def test_less_like_words_and_pictures(filled: Library) -> None:
    vectors = vectors_of(filled)
    cat, dog = words(filled, "a cat"), words(filled, "a dog")
    check(filled, cat - 0.5 * dog, "a cat", unlike="a dog")
    check(filled, cat - 0.2 * dog, "a cat", unlike=[("a dog", 0.2)])
    one = photo(filled, 7)
    check(filled, cat - 0.5 * unit(vectors[one]), "a cat", unlike=one)
    path = filled.folder.with_name("photos") / "07.png"
    check(filled, cat - 0.5 * unit(vectors[one]), "a cat", unlike=path)
    check(filled, -dog, None, unlike=[("a dog", 1)])


def test_several_queries_are_those_one_by_one(filled: Library) -> None:
    queries = ["a cat", "a dog", draw(97, 64, 48)]
    together = filled.search_each(queries, 7, like=photo(filled, 1), where="width < 70")
    for query, found in zip(queries, together, strict=True):
        alone = filled.search(query, 7, like=photo(filled, 1), where="width < 70")
        assert (found.ids, found.asked) == (alone.ids, alone.asked)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
    assert filled.search_each([]) == []


def test_pages_join(filled: Library) -> None:
    for diversity in (0.0, 0.4):
        options: dict[str, Any] = {"diversity": diversity, "where": "width >= 25"}
        whole = filled.search("a cat", 100, **options)
        pages = [filled.search("a cat", 7, offset=start, **options) for start in range(0, 63, 7)]
        assert [id_ for page in pages for id_ in page.ids] == whole.ids
        assert [rank for page in pages for rank in page.ranks] == whole.ranks
        assert len(set(whole.ids)) == len(whole) == COUNT - 5
    beyond = filled.search("a cat", 5, offset=1000)
    assert (len(beyond), beyond.thumbnails(), beyond.to_json()) == (0, [], [])


def test_filters_leave_out_rows_before_they_are_ranked(filled: Library) -> None:
    found = filled.search("a cat", 100, where="width < 30 and not name = '03.png'")
    expected = [id_ for id_, _ in ranked(filled, words(filled, "a cat"), COUNT)]
    wanted = {photo(filled, n) for n in range(10) if n != 3}
    assert found.ids == [id_ for id_ in expected if id_ in wanted]
    assert found.plan.candidates == 9
    with pytest.raises(FilterError, match="width"):
        filled.search("a cat", where="widht < 30")


def slow_diversity(scores: Any, vectors: Any, k: int, d: float) -> list[int]:
    """Maximal marginal relevance as it is written down."""

    def scale(value: float, values: Any) -> float:
        return float((value - np.min(values)) / (np.max(values) - np.min(values)))

    chosen: list[int] = []
    likeness = vectors @ vectors.T
    while len(chosen) < min(k, len(scores)):
        best, most = -1, -np.inf
        for row in range(len(scores)):
            if row in chosen:
                continue
            near = max((scale(likeness[row, c], likeness) for c in chosen), default=0.0)
            value = (1 - d) * scale(scores[row], scores) - d * near
            if value > most + 1e-7:
                best, most = row, value
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_diversity_is_that_of_the_slow_definition(diversity: float) -> None:
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.sort(generator.uniform(0, 1, 40).astype(np.float32))[::-1].copy()
    found = choose_diverse(scores, vectors, 12, diversity)
    assert found.tolist() == slow_diversity(scores, vectors, 12, diversity)
    if not diversity:
        assert found.tolist() == list(range(12))


def test_diverse_hits_of_a_library(filled: Library) -> None:
    plain = filled.search("a cat", COUNT)
    vectors = vectors_of(filled)
    matrix = np.stack([vectors[id_] for id_ in plain.ids])
    order = slow_diversity(plain.scores, matrix, 8, 0.6)
    found = filled.search("a cat", 8, diversity=0.6)
    assert found.ids == [plain.ids[row] for row in order]
    assert found.ids[0] == plain.ids[0]
    assert found.ids != plain.ids[:8]
    with pytest.raises(InputError, match=f"the best {CANDIDATES} hits"):
        filled.search("a cat", 10, offset=CANDIDATES, diversity=0.1)


def test_more_hits_than_pictures_and_none_at_all(filled: Library, library: Library) -> None:
    assert len(filled.search("a cat", 1000)) == COUNT
    empty = library.search("a cat", 5, diversity=0.5)
    assert (len(empty), empty.plan.candidates) == (0, 0)
    assert library.duplicates() == []
    assert len(library) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to search for"),
        ({"query": []}, "nothing to search for"),
        ({"query": " "}, "an empty text"),
        ({"query": "x", "unlike": ""}, "an empty text"),
        ({"query": "a cat", "unlike": [("a cat", 1)]}, "cancel each other out"),
        ({"like": "unknown.png"}, "neither a picture of the library nor a file"),
        ({"like": "a\0b"}, "neither a picture of the library nor a file"),
        ({"like": "x" * 5000}, "neither a picture of the library nor a file"),
        ({"query": ("a cat", 0)}, "weight must be above 0"),
        ({"query": ("a cat", -1.0)}, "weight must be above 0"),
        ({"query": ("a cat", float("nan"))}, "weight"),
        ({"query": "a cat", "k": 0}, "k"),
        ({"query": "a cat", "offset": -1}, "offset"),
        ({"query": "a cat", "diversity": 1.5}, "diversity"),
        ({"query": "a cat", "k": 200_000}, "100000"),
        ({"query": Path("missing.png")}, "missing.png"),
    ],
)
def test_queries_that_cannot_be_answered(
    filled: Library, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(EclipticError, match=message):
        filled.search(**given)


def test_a_query_is_described_for_people(filled: Library) -> None:
    query = LibraryQuery.of(
        [("a cat", 2), "x" * 100],
        like=[(photo(filled, 1), 0.5), Image.new("RGB", (8, 8))],
        unlike=["snow", ("rain", 1), Path(photo(filled, 2))],
    )
    parts = query.describe().split(", ")
    assert parts[0] == '"a cat" x 2'
    assert parts[1].endswith("…")
    assert parts[2:4] == ["like 01.png x 0.5", "like a picture"]
    assert parts[4:] == ['less "snow"', 'less "rain" x 1', "less 02.png"]


def test_the_rank_is_that_of_the_score_also_with_diversity(library: Library, photos: Path) -> None:
    for seed in range(30, 50):
        save_photo(photos / f"{seed}.png", seed)
    library.add(photos)
    plain = library.search("a cat", k=23)
    ranks = dict(zip(plain.ids, plain.ranks, strict=True))
    assert list(plain.ranks) == list(range(1, 24))
    diverse = library.search("a cat", k=10, diversity=0.9)
    assert [ranks[id_] for id_ in diverse.ids] == list(diverse.ranks)
    assert list(diverse.ranks) != list(range(1, 11))


def test_one_text_is_no_list_of_queries(library: Library) -> None:
    with pytest.raises(InputError, match="queries must be a list, got the one text 'abc'"):
        library.search_each("abc")


def test_hits_are_read_one_by_one_and_printed_short(library: Library, photos: Path) -> None:
    library.add(photos)
    found = library.search("a cat", k=2)
    assert [hit["rank"] for hit in found] == [1, 2]
    assert [(hit["id"], hit["score"]) for hit in found] == list(
        zip(found.ids, found.scores, strict=True)
    )
    assert repr(found) == (
        f"LibraryHits('\"a cat\"', 2 hits, the best {found.ids[0]!r} at {found.scores[0]:.3f})"
    )
    assert repr(library.search("a cat", offset=9)) == "LibraryHits('\"a cat\"', 0 hits)"


def test_like_a_file_that_changed_is_like_what_it_is_now(library: Library, photos: Path) -> None:
    library.add(photos)
    one, two = str(photos / "a.png"), str(photos / "b.png")
    assert library.search(like=one).ids[0] == one
    shutil.copy(two, one)
    assert library.search(like=one).ids[0] == two
    (photos / "a.png").unlink()
    assert library.search(like=one).ids[0] == one  # as it was


def test_a_wrong_filter_is_told_before_the_model_is_loaded(filled: Library) -> None:
    with Library.open(filled.folder) as opened, pytest.raises(FilterError, match="widht"):
        opened.search("a cat", where="widht > 3")  # its model is not known


def test_a_gone_file_is_found_by_its_path_in_any_form(library: Library, photos: Path) -> None:
    library.add(photos)
    (photos / "a.png").unlink()
    assert library.search(like=photos / "a.png").ids[0] == str(photos / "a.png")
    with pytest.raises(InputError, match="neither a picture of the library nor a file"):
        library.search(like=photos / "none.png")
    with pytest.raises(InputError, match="at most 1e"):
        library.search("a cat", unlike=[("a dog", 1e308)])
