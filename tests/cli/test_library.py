"""`ecliptic library`: facts, checks, repairs, compaction, rejects and removals."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.index.lance.table import manifests
from ecliptic.library import Library
from tests.library.photos import save_photo


@pytest.fixture
def library(tmp_path: Path, model: str) -> Path:
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b\n.png", "c.png")):
        save_photo(folder / name, seed, 30 + seed, 20)
    (folder / "bad\n.png").write_bytes(b"no image")
    with Library.create(tmp_path / "x.library", model) as made:
        made.add(folder)
    return tmp_path / "x.library"


def torn(library: Path) -> Path:
    (items,) = library.glob("items-*")
    manifests(items)[0].write_bytes(b"")
    return items


def test_info(run: Any, library: Path) -> None:
    found = run("library", "info", library)
    facts = dict(line.split(maxsplit=1) for line in found.stdout.splitlines() if line)
    assert (facts["pictures"], facts["rejected"], facts["model"]) == ("3", "1", "tiny-vit")
    assert facts["width"].split() == ["int", "30"]
    assert facts["taken"] == "timestamp"
    assert facts["format"].split() == ["string", "png"]
    data = json.loads(run("library", "info", library, "--json").stdout)
    assert (data["pictures"], data["columns"]["camera"]) == (3, "string")


def test_check_of_a_sound_and_a_damaged_library(run: Any, library: Path) -> None:
    for words in ([], ["--deep"]):
        found = run("library", "check", library, *words)
        assert (found.exit_code, found.stdout) == (0, "")
        assert found.stderr == f"{library} is sound\n"
    assert json.loads(run("library", "check", library, "--json").stdout) == []
    items = torn(library)
    found = run("library", "check", library)
    assert found.exit_code == 1
    assert found.stdout.startswith(items.name)
    assert found.stderr == f"1 problem in {library}\n"
    (problem,) = json.loads(run("library", "check", library, "--json").stdout)
    assert "power cut" in problem["what"]
    found = run("search", library, "a cat")
    assert found.exit_code == 1
    assert "ecliptic library repair" in found.stderr


def test_repair(run: Any, library: Path, tmp_path: Path) -> None:
    found = run("library", "repair", library)
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", "nothing to repair\n")
    torn(library)
    found = run("library", "repair", library)
    assert found.exit_code == 0
    assert "which cannot be read" in found.stdout
    assert found.stderr == "3 pictures lost; `ecliptic index` adds them again\n"
    assert "3 added" in run("index", tmp_path / "photos", "-o", library).stderr
    (library / "library.json").write_text("{")
    data = json.loads(run("library", "repair", library, "--json").stdout)
    assert (data["lost"], data["left"]) == (0, [])
    assert "wrote library.json again" in data["actions"][0]


def test_repair_with_problems_that_remain(run: Any, library: Path) -> None:
    (items,) = library.glob("items-*")
    (data,) = (items / "table.lance" / "data").iterdir()
    data.write_bytes(data.read_bytes()[:-1])
    found = run("library", "repair", library)
    assert found.exit_code == 1
    assert "drop" in found.stdout
    found = run("library", "repair", library, "--drop")
    assert found.exit_code == 0
    assert "3 pictures lost" in found.stderr


def test_compact(run: Any, library: Path) -> None:
    found = run("library", "compact", library)
    assert found.exit_code == 0
    assert found.stdout == ""
    assert "MB now" in found.stderr
    assert run("library", "check", library, "--deep").exit_code == 0


def test_rejects(run: Any, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("library", "rejects", library)
    (line,) = found.stdout.splitlines()
    assert line.startswith(r"photos/bad\n.png: ")
    assert found.stderr == "1 reject\n"
    (data,) = json.loads(run("library", "rejects", library, "--json").stdout)
    assert data["picture"] == str(tmp_path / "photos" / "bad\n.png")


def test_remove(run: Any, library: Path, tmp_path: Path) -> None:
    found = run("library", "remove", library)
    assert (found.exit_code, "--where FILTER says" in found.stderr) == (2, True)
    found = run("library", "remove", library, "--where", "widht > 1")
    assert (found.exit_code, "did you mean 'width'" in found.stderr) == (1, True)
    found = run("library", "remove", library, "--where", "width >= 31")
    assert found.exit_code == 0
    assert found.stderr.startswith(f"2 pictures removed from {library}")
    assert (tmp_path / "photos" / "c.png").is_file()
    assert json.loads(run("library", "info", library, "--json").stdout)["pictures"] == 1


@pytest.mark.parametrize("command", ["info", "check", "repair", "compact", "rejects"])
def test_what_is_no_library(run: Any, command: str, tmp_path: Path) -> None:
    for words in ([], [tmp_path], [tmp_path / "missing"]):
        found = run("library", command, *words)
        assert (found.exit_code, found.stdout) == (1, ""), found.output
        assert "library" in found.stderr
        assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())
