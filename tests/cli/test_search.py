"""`ecliptic search`: what it prints, writes and copies, and what it refuses."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.library.photos import save_photo

ROOT = Path(__file__).parents[2]
HOSTILE = ["<script>alert(1)<.png", "new\nline.png", "-rf.png", "'quote\" &amp;.png"]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A folder with photos/ and x.library, which no test changes."""
    from ecliptic.library import Library

    folder = tmp_path_factory.mktemp("indexed")
    for seed, name in enumerate([*HOSTILE, "plain.png", "deep/er/plain.png"]):
        save_photo(folder / "photos" / name, seed, 40 + seed, 36)
    with Library.create(folder / "x.library", model) as library:
        assert library.add(folder / "photos").added == 6
    return folder


@pytest.fixture
def here(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(indexed)
    return indexed


def names(found: Any) -> list[str]:
    assert found.exit_code == 0, found.stderr
    return [os.fsdecode(name) for name in found.stdout_bytes.split(b"\0")[:-1]]


def test_a_table_of_paths_below_the_folder(run: Any, here: Path) -> None:
    found = run("search", "x.library", "a cat", "-k", 3)
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "picture"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert str(here) not in found.stdout
    assert "\x1b" not in found.stdout


def test_several_texts_have_headings(run: Any, here: Path) -> None:
    found = run("search", "x.library", "a cat", "a dog", "-k", 1)
    assert [line for line in found.stdout.splitlines() if line.startswith('"')] == [
        '"a cat"',
        '"a dog"',
    ]


def test_json_has_scores_ranks_and_columns(run: Any, here: Path) -> None:
    data = json.loads(run("search", "x.library", "a cat", "--json", "-k", 2, "--offset", 1).stdout)
    assert data[0]["query"] == '"a cat"'
    assert [hit["rank"] for hit in data[0]["hits"]] == [2, 3]
    assert {"id", "path", "width", "taken", "score"} <= data[0]["hits"][0].keys()


def test_paths0_gives_every_name_to_xargs(run: Any, here: Path) -> None:
    listed = names(run("search", "x.library", "a cat", "--paths0"))
    assert sorted(listed) == sorted(str(path) for path in here.rglob("*.png"))
    piped = "\0".join(listed).encode() + b"\0"
    done = subprocess.run(
        ["xargs", "-0", "-n1", "test", "-f"], input=piped, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_pipe_ends_without_a_message(indexed: Path) -> None:
    code = "from ecliptic.cli.main import run; run()"
    command = f"'{sys.executable}' -c '{code}' search x.library 'a cat' | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=indexed, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["rank", "score", "picture"]
    assert done.stderr == ""


@pytest.mark.parametrize("width", [80, 40])
def test_long_paths_in_a_narrow_terminal(
    run: Any, here: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = run("search", "x.library", "a cat", "-k", 20)
    assert max(map(len, found.stdout.splitlines())) <= width


def test_the_page_shows_hostile_names_as_text_and_loads_nothing(
    run: Any, here: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    found = run("search", "x.library", "<b>a cat</b>", "--page", page, "--offset", 1)
    assert found.exit_code == 0
    text = page.read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(1)&lt;.png" in text
    assert "rank 2 of 6" in text
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("data:image/") == 5
    again = run("search", "x.library", "a cat", "--page", page)
    assert (again.exit_code, "--force" in again.stderr) == (1, True)
    assert run("search", "x.library", "a cat", "--page", page, "--force").exit_code == 0


def test_a_page_without_hits(run: Any, here: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = run("search", "x.library", "a cat", "--where", "width < 3", "--page", page)
    assert found.exit_code == 0
    assert "no hits: no picture passes the filter" in found.stderr
    assert page.is_file()


def test_open_shows_the_page_and_json_stays_json(
    run: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("typer.launch", shown.append)
    found = run("search", "x.library", "a cat", "--open", "--json")
    assert json.loads(found.stdout)
    assert len(shown) == 1
    assert shown[0].startswith("file:///")


def test_copies_of_the_files(run: Any, here: Path, tmp_path: Path) -> None:
    copies, page = tmp_path / "copies", tmp_path / "page.html"
    found = run("search", "x.library", "a cat", "a dog", "-k", 2, "--copy-to", copies)
    assert "4 files copied to" in found.stderr
    assert sorted(path.name[:6] for path in copies.iterdir()) == [
        "1-001-",
        "1-002-",
        "2-001-",
        "2-002-",
    ]
    words = ["search", "x.library", "a cat", "--copy-to", copies, "--page", page]
    page.touch()
    found = run(*words)
    assert (found.exit_code, "--force" in found.stderr) == (1, True)
    assert run(*words, "--force").exit_code == 0
    assert page.stat().st_size > 100


def test_copies_of_long_names(run: Any, model: str, tmp_path: Path) -> None:
    save_photo(tmp_path / "photos" / ("ü" * 125 + "x.png"))
    run("index", tmp_path / "photos", "-o", tmp_path / "x.library", "-m", model)
    found = run("search", tmp_path / "x.library", "a cat", "--copy-to", tmp_path / "copies")
    assert found.exit_code == 0, found.stderr
    (copy,) = (tmp_path / "copies").iterdir()
    assert copy.name.startswith("001-ü")
    assert copy.suffix == ".png"


def test_like_and_unlike(run: Any, here: Path, tmp_path: Path) -> None:
    found = names(run("search", "x.library", "--like", "photos/plain.png", "--paths0", "-k", 1))
    assert found == [str(here / "photos" / "plain.png")]
    other = save_photo(tmp_path / "other.png", 9)
    for words in (["--like", other], ["a cat", "--unlike", other], ["--unlike", "a dog"]):
        assert run("search", "x.library", *words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give words to search for"),
        (["a", "--json", "--paths0"], 2, "take one"),
        (["a", "--force"], 2, "--force does nothing without"),
        (["a", "-k", "0"], 2, "must be 1 or more"),
        (["a", "--offset", "-1"], 2, "must be 0 or more"),
        (["a", "--diversity", "2"], 2, "must be 1 or less"),
        (["a", "--like-weight", "2"], 2, "does nothing without --like"),
        (["a", "--unlike-weight", "2"], 2, "does nothing without --unlike"),
        (["--like", "photos/plain.png", "--like-weight", "0"], 2, "must be above 0"),
        (["a", "--where", "widht > 3"], 1, "did you mean 'width'"),
        (["a", "--where", "width >"], 1, "character 8"),
        (["a", "--where", ""], 1, "filter"),
        (["--like", "missing.png"], 1, "neither a picture of the library nor a file"),
        ([""], 1, "an empty text"),
        (["a", "--copy-to", "photos"], 1, "is not empty"),
        (["a", "--page", "no/such/folder.html"], 1, "not a folder"),
        (["a", "-k", "999999"], 1, "100000"),
    ],
)
def test_what_is_refused(run: Any, here: Path, words: list[str], code: int, message: str) -> None:
    found = run("search", "x.library", *words)
    assert found.exit_code == code, found.output
    assert message in " ".join(found.stderr.split())
    assert found.stdout == ""


def test_no_library_and_an_empty_one(run: Any, model: str, tmp_path: Path) -> None:
    found = run("search", "a cat")
    assert found.exit_code == 1
    assert "there is no library in the current folder" in found.stderr
    found = run("search", "missing.library", "a cat")
    assert (found.exit_code, "there is no library in missing.library" in found.stderr) == (1, True)
    found = run("search", "x" * 5000)
    assert (found.exit_code, "Traceback" in found.stderr) == (1, False)
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no")
    run("index", folder, "-o", tmp_path / "e.library", "-m", model)
    found = run("search", tmp_path / "e.library", "a cat")
    assert found.exit_code == 0
    assert "the library is empty" in found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.librari", "a cat"], "there is no library x.librari; did you mean x.library?"),
        (["x.library", "photos/a.png"], "photos/a.png is a picture, no words"),
        (["photos", "a cat"], "photos is a folder but no library; `ecliptic index photos`"),
        (["a cat", "x.library"], "the library comes first: ecliptic search x.library 'a cat'"),
        (["x.library", "a cat", "--unlike", "p/none.png"], "looks like a picture, but there is no"),
    ],
)
def test_mistyped_names_are_no_words(run: Any, here: Path, words: list[str], message: str) -> None:
    found = run("search", *words)
    assert found.exit_code == 1
    assert message in " ".join(found.stderr.split())


def test_the_filter_is_a_part_of_what_was_asked(run: Any, here: Path) -> None:
    found = run("search", "x.library", "a cat", "--where", "width > 0", "--json")
    assert json.loads(found.stdout)[0]["query"] == '"a cat", where width > 0'


def test_members_of_tars_are_named_where_files_are_needed(
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "a.png", 0)
    with tarfile.open("t.tar", "w") as tar:
        tar.add("a.png")
    assert run("index", "t.tar", "-o", "t.library", "-m", model).exit_code == 0
    found = run("search", "t.library", "a cat", "--paths0")
    assert found.stdout == ""
    assert found.stderr == "1 hit not printed: in a tar or a table, no file of its own\n"
    found = run("search", "t.library", "a cat", "--copy-to", "out")
    assert f"not copied, in a tar or a table, no file of its own: {tmp_path}/t.tar/a.png" in (
        " ".join(found.stderr.split())
    )


def test_hits_whose_files_are_gone_say_so(run: Any, here: Path) -> None:
    before = run("search", "x.library", "a cat").stdout
    assert "(gone)" not in before
    sorted((here / "photos").glob("*.png"))[0].unlink()
    assert run("search", "x.library", "a cat").stdout.count("(gone)") == 1
