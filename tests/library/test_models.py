"""A library holds vectors of one model: another one is refused, or embeds everything anew."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip, Columns, Item
from ecliptic.errors import ConfigError, MissingExtraError, SpaceMismatchError, StorageError
from ecliptic.library import Library, making
from ecliptic.library.filling.adding import Adding
from ecliptic.library.filling.reembedding import Reembedding
from tests import tiny
from tests.library.photos import (
    check_vectors,
    counts,
    rows_of,
    save_photo,
    stored_thumbnails,
    vectors_of,
)


def test_another_model_is_refused_with_both_fingerprints(
    library: Library, photos: Path, other_clip: Clip
) -> None:
    library.add(photos)
    with pytest.raises(SpaceMismatchError) as caught:
        Library.open(library.folder, other_clip)
    message = str(caught.value)
    assert library.about.space[:12] in message
    assert other_clip.card.space[:12] in message
    assert "reembed" in message
    with pytest.raises(SpaceMismatchError):
        library.use(other_clip)
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_another_precision_of_another_space_is_named(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    """An int8 file that is loaded as float32 is a model of its own, of the same name."""
    clip = ecliptic.load(str(model), precision="int8", min_cosine=0.9)
    clip.save(tmp_path / "int8")
    library = Library.create(tmp_path / "library", ecliptic.load(tmp_path / "int8"))
    library.add(photos)
    with pytest.raises(SpaceMismatchError, match=r"in int8, whose .* in fp32; load it in int8, as"):
        Library.open(library.folder, ecliptic.load(tmp_path / "int8", precision="fp32"))


def test_another_precision_of_one_space_is_a_warning(
    library: Library, photos: Path, model: Path
) -> None:
    library.add(photos)
    half = ecliptic.load(str(model), precision="bf16")
    with pytest.warns(UserWarning, match=r"was made with precision=fp32 \(now bf16\); vectors may"):
        opened = Library.open(library.folder, half)
    assert opened.search("a cat", 3).ids
    assert opened.about == library.about
    near = ecliptic.load(str(model), pixels="close")
    with pytest.warns(UserWarning, match=r"was made with pixels=exact \(now close\); vectors may"):
        Library.open(library.folder, near)


def test_a_library_of_before_says_less_of_another_precision(library: Library, model: Path) -> None:
    path = library.folder / "library.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {}}))
    half = ecliptic.load(str(model), precision="bf16")
    with pytest.warns(UserWarning, match="made with another precision or preparation of images"):
        Library.open(library.folder, half)


def test_reembedding_changes_the_model_at_once_and_keeps_the_rest(
    tmp_path: Path, clip: Clip, other_clip: Clip, photos: Path
) -> None:
    types: Any = {"stars": "int"}
    with Library.create(tmp_path / "own.library", clip, types) as library:
        table = photos / "t.csv"
        table.write_text("file,stars\na.png,5\nb.png,3\n")
        library.add(table, columns=Columns("file", facts=("stars",)))
        before = rows_of(library)
        old_items = library.folder / library.about.items
        (photos / "b.png").unlink()
        with pytest.raises(
            StorageError, match=r"1 pictures cannot be embedded anew.*keeps its old"
        ):
            library.reembed(other_clip)
        assert rows_of(library) == before
        assert old_items.exists()
        assert library.remove([str(photos / "b.png")]) == 1
        assert counts(library.reembed(other_clip)) == {"unchanged": 1}
        check_vectors(library, [photos / "a.png"])
        row = rows_of(library)[str(photos / "a.png")]
        assert (row["stars"], row["added"]) == (5, before[row["id"]]["added"])
        assert row == before[row["id"]]
        assert not old_items.exists()
        with pytest.raises(SpaceMismatchError):
            Library.open(library.folder, clip)
        assert stored_thumbnails(library, [row["content"]])


def test_e2_an_interrupted_reembedding_goes_on(
    library: Library, other_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    paths = [save_photo(folder / f"{seed}.png", seed) for seed in range(40)]
    library.add(folder)
    old = vectors_of(library)
    embed = Adding._embed

    def stop_early(adding: Adding, pictures: Any) -> None:
        def first() -> Any:
            for number, picture in enumerate(pictures):
                if number == 30:
                    raise KeyboardInterrupt
                yield picture

        adding._batch_size = 2
        embed(adding, first())

    with monkeypatch.context() as patch:
        patch.setattr(Adding, "_embed", stop_early)
        assert library.reembed(other_clip).interrupted
    assert vectors_of(library).keys() == old.keys()
    assert library.search("a cat", 50).ids  # still answers with the old model
    np.testing.assert_array_equal(vectors_of(library)[str(paths[0])], old[str(paths[0])])
    summary = library.reembed(other_clip)
    assert summary.unchanged > 0
    assert summary.added < 40
    check_vectors(library, paths)


def test_rows_without_a_file_cannot_be_embedded_anew(
    library: Library, photos: Path, other_clip: Clip
) -> None:
    library.add([photos, Item("row", (photos / "a.png").read_bytes() + b"!")])
    with pytest.raises(ConfigError, match=r"1 pictures .* came from tars or tables"):
        library.reembed(other_clip)
    assert len(library) == 4


def test_the_same_model_embeds_nothing(library: Library, photos: Path, clip: Clip) -> None:
    library.add(photos)
    before = vectors_of(library)
    assert counts(library.reembed(clip)) == {"unchanged": 3}
    assert vectors_of(library).keys() == before.keys()


def test_the_model_is_loaded_again_from_where_it_came(
    tmp_path: Path, photos: Path, model: Path, clip: Clip
) -> None:
    Library.create(tmp_path / "named.library", str(model)).close()
    with Library.open(tmp_path / "named.library") as library:
        assert counts(library.add(photos)) == {"added": 3}
    Library.create(tmp_path / "unnamed.library", clip).close()
    with (
        Library.open(tmp_path / "unnamed.library") as library,
        pytest.raises(ConfigError, match="pass the model"),
    ):
        library.add(photos)


def test_a_reembedded_library_knows_where_its_model_is(
    tmp_path: Path, library: Library, photos: Path
) -> None:
    path = tmp_path / "models" / "second"
    path.parent.mkdir()
    write(tiny.checkpoint("vit", seed=1), path)
    library.add(photos)
    library.reembed(ecliptic.load(str(path)), source=str(path))
    with Library.open(library.folder) as again:
        assert again.search("a cat", 1).ids


def test_without_its_store_nothing_is_made_and_the_extra_is_named(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lance", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecliptic\[search\]'"):
        Library.create(tmp_path / "library", clip)
    assert not list(tmp_path.glob("library/*"))


def test_a_library_is_not_made_over_something(library: Library, photos: Path, clip: Clip) -> None:
    for path, what in ((library.folder, "a library"), (photos, "something else")):
        with pytest.raises(StorageError, match=what):
            Library.create(path, clip)
    with pytest.raises(StorageError):
        Library.create(photos / "a.png", clip)


def test_a1_a_killed_creation_can_be_repeated(
    tmp_path: Path, clip: Clip, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(making, "write_about", kill)
        with pytest.raises(SystemExit):
            Library.create(tmp_path / "x.library", clip)
    with Library.create(tmp_path / "x.library", clip) as library:
        assert counts(library.add(photos)) == {"added": 3}
    for name in ("thumbnails", "rejects"):  # killed while the tables were made
        with Library.create(tmp_path / f"{name}.library", clip) as library:
            made = library.folder / name
        for path in sorted(made.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (made / "table.lance").mkdir()
        with Library.open(library.folder, clip) as again:
            assert counts(again.add(photos)) == {"added": 3}
            assert again.check(deep=True) == []


def test_a_picture_that_is_added_during_a_reembedding_is_in_the_new_vectors(
    library: Library, other_clip: Clip, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(photos)
    other = Library.open(library.folder, library.clip)  # as another process
    late, after = save_photo(photos / "late.png", 70), photos / "after.png"
    embed = Adding._embed

    def add_meanwhile(adding: Adding, pictures: Any) -> None:
        monkeypatch.setattr(Adding, "_embed", embed)
        assert counts(other.add(late)) == {"added": 1}
        embed(adding, pictures)

    monkeypatch.setattr(Adding, "_embed", add_meanwhile)
    library.reembed(other_clip)
    check_vectors(library, [*sorted(photos.rglob("*.png"))])
    save_photo(after, 71)
    with pytest.raises(StorageError, match="has the vectors of another model now"):
        other.add(after)
    assert len(library) == 4


def test_pictures_that_were_removed_do_not_come_back_after_a_stopped_reembedding(
    library: Library, other_clip: Clip, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(photos)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reembedding, "_remove_stale", stop)
        with pytest.raises(KeyboardInterrupt):
            library.reembed(other_clip)
    gone = sorted(rows_of(library))[0]
    library.remove([gone])
    library.reembed(other_clip)
    assert gone not in rows_of(library)
    assert len(library) == 2


def test_a_model_of_the_same_space_is_noted_as_its_source(
    library: Library, photos: Path, model: Path, tmp_path: Path
) -> None:
    library.add(photos)
    before = vectors_of(library)
    shutil.copytree(model, moved := tmp_path / "moved")
    assert counts(library.reembed(str(moved))) == {"unchanged": 3}
    assert vectors_of(library).keys() == before.keys()
    with Library.open(library.folder) as opened:
        assert opened.about.model == str(moved)
        assert len(opened.search("a cat")) == 3
    with pytest.warns(UserWarning, match="keeps its vectors.*precision"):
        library.reembed(ecliptic.load(str(model), precision="bf16"))
