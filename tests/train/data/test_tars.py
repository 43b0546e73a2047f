"""Examples in tars follow webdataset's rules for keys, and say what is left out."""

import json
import pickle
from pathlib import Path
from random import Random

import pytest

from ecliptic.engine import LeftOutWarning
from ecliptic.errors import ConfigError, EclipticError, InputError, StorageError
from ecliptic.train.data.archives import TarExamples, expand, open_tars, split_name
from ecliptic.train.settings import TarsConfig

from .pictures import colour_of, pairs, png, write_tar


def opened(root: Path, path: str = "x.tar", **settings: object) -> TarExamples:
    return open_tars(TarsConfig(path, **settings), root)  # type: ignore[arg-type]


NAMES = [
    ("a.jpg", ("a", "jpg")),
    ("a/b.seg.PNG", ("a/b", "seg.png")),
    ("a.b/c.d", ("a.b/c", "d")),
    ("./a.txt", ("./a", "txt")),
    ("a/b", None),
    ("a.b/c", None),
    (".hidden", None),
    ("a/.hidden.txt", None),
    ("__notes__.txt", ("__notes__", "txt")),
    ("__notes__/a.txt", None),
    ("a.", ("a", "")),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_the_key_ends_at_the_first_dot_of_the_last_component(
    name: str, expected: tuple[str, str] | None
) -> None:
    assert split_name(name) == expected


def test_members_of_one_key_are_one_example_whatever_their_order(tmp_path: Path) -> None:
    members = [
        ("d/b.txt", b" two\nlines "), ("d/b.png", png(2)), ("d/", b""), ("d/a.PNG", png(1)),
        ("d/a.json", json.dumps({"caption": "one", "more": ["two", None, " "]}).encode()),
        ("d/a.txt", b"\xef\xbb\xbfzero"),
    ]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    found = opened(tmp_path, captions=("txt", "json:caption", "JSON:more"))
    assert [found.captions(i) for i in range(len(found))] == [
        ("two\nlines",), ("zero", "one", "two")
    ]  # fmt: skip
    example = found.draw(1, Random(0))
    assert example.key == "x.tar/d/a"
    assert example.caption in ("zero", "one", "two")
    assert colour_of(example.image) == (37, 91, 128)
    assert {found.draw(1, Random(i)).caption for i in range(30)} == {"zero", "one", "two"}
    assert found.draw(1, Random(5)).caption == found.draw(1, Random(5)).caption


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captions": ("txt", "text")}, "no member .* has the extension 'text'; .* mean 'txt'"),
        ({"captions": ("txt", "jsno:caption")}, "the extension 'jsno'; they have jpg, txt"),
        ({"image": ("jpg", "jgp")}, "the extension 'jgp'; .* did you mean 'jpg'"),
    ],
)
def test_an_extension_that_no_member_has_is_refused(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    write_tar(tmp_path / "x.tar", [("a.jpg", png(1)), ("a.txt", b"one"), ("b.txt", b"two")])
    with pytest.warns(LeftOutWarning):
        assert len(opened(tmp_path, image=("jpg", "png"))) == 1  # the usual ones may lack
    with pytest.raises(StorageError, match=message):
        opened(tmp_path, **settings)


def test_examples_are_found_again_in_a_copy_and_in_many_tars(tmp_path: Path) -> None:
    for number in range(70):  # more than are held open
        write_tar(tmp_path / f"{number:03}.tar", pairs(number, number + 1))
    found = opened(tmp_path, "{000..069}.tar", templates=("a photo of {}",))
    copy = pickle.loads(pickle.dumps(found))
    assert len(copy) == 70
    for index in (69, 0, 35, 69):
        assert copy.draw(index, Random(0)).caption == f"a photo of thing {index}"
        assert copy.picture(index) == png(index)


def test_what_lacks_a_part_is_counted_and_named_once(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [*pairs(0, 2), ("lone.png", png()), ("bare.txt", b"x")])
    with pytest.warns(LeftOutWarning, match=r"left out 2 of 4 .*lone in x\.tar has png, and oth"):
        assert len(opened(tmp_path)) == 2
    write_tar(tmp_path / "x.tar", [("lone.png", png())])
    with pytest.raises(StorageError, match=r"no example .* \(jpg, .*\(txt\); lone in x\.tar has"):
        opened(tmp_path)
    write_tar(tmp_path / "x.tar", [])
    with pytest.raises(StorageError, match="there is no example"):
        opened(tmp_path)


def test_bad_members_are_errors_of_their_example_alone(tmp_path: Path) -> None:
    bad = {
        "a": b"\xff\xfe", "b": b" \n", "c": b"x" * (1 << 20) + b"y",
        "d": b"good",
    }  # fmt: skip
    members = [m for k, v in bad.items() for m in ((f"{k}.png", png()), (f"{k}.txt", v))]
    found = opened(write_tar(tmp_path / "x.tar", members).parent)
    for index, message in enumerate(("cannot be read", "has no caption", "more than 1048576")):
        with pytest.raises(InputError, match=rf"x\.tar/{'abc'[index]}.*{message}"):
            found.draw(index, Random(0))
    assert found.captions(3) == ("good",)
    write_tar(tmp_path / "x.tar", [("a.png", png()), ("a.json", b'{"caption": 5}')])
    with pytest.raises(InputError, match="'caption' is no text and no list"):
        opened(tmp_path, captions=("json:caption",)).captions(0)
    write_tar(tmp_path / "x.tar", [("a.png", png()), ("a.json", b"[" * 100_000)])
    with pytest.raises(InputError, match="cannot be read"):
        opened(tmp_path, captions=("json:caption",)).captions(0)


def test_c10_twins_pickles_and_nothing_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.png", png()), ("a.PNG", png())])
    with pytest.raises(StorageError, match=r"'a\.PNG' twice"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="'pkl' can run any program"):
        opened(tmp_path, captions=("pkl",))
    with pytest.raises(ConfigError, match="must name extensions"):
        opened(tmp_path, captions=())
    with pytest.raises(ConfigError, match="name the field"):
        opened(tmp_path, captions=("JSON",))
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        opened(write_tar(tmp_path / "x.tar", pairs(0, 1)).parent, templates=("a photo",))


def test_patterns_name_files_in_order(tmp_path: Path) -> None:
    for name in ("a-08", "a-09", "a-10", "b"):
        (tmp_path / f"{name}.tar").touch()

    def names(pattern: str) -> list[str]:
        return [path.name for path in expand(str(tmp_path / pattern))]

    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("{b,a-10}.tar") == ["b.tar", "a-10.tar"]
    assert names("a-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("") == ["a-08.tar", "a-09.tar", "a-10.tar", "b.tar"]
    assert names("b.tar") == ["b.tar"]
    assert names("a-{10..8}.tar") == ["a-10.tar", "a-9.tar", "a-8.tar"]
    for bad in ("{0..9999999999}.tar", "{0..9999}{0..9999}.tar", "z*.tar"):
        with pytest.raises(StorageError):
            names(bad)
    with pytest.raises(StorageError, match=r"a-11\.tar cannot be read"):
        opened(tmp_path, "a-{11..12}.tar")


def test_a_tar_that_changes_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pairs(0, 3))
    found = opened(tmp_path)
    before = found.fingerprint()
    assert before == opened(tmp_path).fingerprint()
    path.write_bytes(path.read_bytes() + bytes(512))
    assert found.fingerprint() != before
    with pytest.raises(EclipticError, match="has changed since it was read"):
        found.draw(0, Random(0))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_keys_and_groups_are_those_of_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    extra = [("x/y.z.txt", b"1"), ("noext", b"2"), (".dot", b"3"), ("x/y.png", png(9))]
    path = write_tar(tmp_path / "x.tar", [*pairs(0, 5), *extra])
    theirs = [
        (one["__key__"], one["txt"].decode())
        for one in webdataset.WebDataset(str(path), shardshuffle=False)
        if "png" in one and "txt" in one
    ]
    with pytest.warns(LeftOutWarning):
        ours = opened(tmp_path)
    assert [(ours.keys[i], ours.captions(i)[0]) for i in range(len(ours))] == theirs
