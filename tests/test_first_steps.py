"""README and quickstart run as they are written, in order, in a fresh clone, with right answers.

Only the download of packages is left out: `.venv` of the clone runs this Python with the source of
the clone. Blocks marked `no-run` need a network, or files that a clone does not have.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DRIVER = """
import json, os, subprocess, sys
names = {"__name__": "__main__"}
for kind, code in json.load(open(sys.argv[1])):
    if kind == "python":
        exec(compile(code, "snippet", "exec"), names)
        continue
    # the shell of a user keeps its variables from one block to the next
    subprocess.run(["bash", "-ec", code + "\\nenv -0 > .env.now"], check=True)
    with open(".env.now") as file:
        os.environ.update(line.split("=", 1) for line in file.read().split("\\0") if line)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the last commit with the files of this working tree, and a ready `.venv`."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout, so it cannot be cloned")
    folder = tmp_path_factory.mktemp("fresh") / "ecliptic"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for name in _list("--modified", "--others", "--exclude-standard"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in _list("--deleted"):
        (folder / name).unlink(missing_ok=True)
    _install(folder)
    return folder


def _list(*which: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *which], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name]


def _install(folder: Path) -> None:
    """What `make install` leaves behind, without its download."""
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    run = f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(folder / 'src'))} exec {sys.executable}"
    (bin_ / "python").write_text(f'{run} "$@"\n', encoding="utf-8")
    (bin_ / "ecliptic").write_text(f'{run} -m ecliptic "$@"\n', encoding="utf-8")
    for program in bin_.iterdir():
        program.chmod(0o755)
    (bin_ / "activate").write_text(f'export PATH="{bin_}:$PATH"\n', encoding="utf-8")
    for stamp in (".core", ".dev"):
        (folder / ".venv" / stamp).touch()


def _follow(page: str, clone: Path, tmp_path: Path) -> str:
    """Run the blocks of a page; what they print."""
    blocks = BLOCK.findall((clone / page).read_text(encoding="utf-8"))
    (tmp_path / "blocks.json").write_text(json.dumps(blocks), encoding="utf-8")
    own = str(Path(sys.executable).parent)
    paths = [path for path in os.environ["PATH"].split(os.pathsep) if path != own]
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "blocks.json")],
        cwd=clone,
        env={**os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(clone / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _chance(printed: str, name: str, labels: Sequence[str]) -> float:
    """The percentage of its own label, from the row of a table or from the lines of a block."""
    if block := re.search(rf"{name}\.png\n +([\d.]+)% +{name}\b", printed):
        return float(block[1])
    row = re.search(rf"{name}\.png((?: +[\d.]+%)+)", printed)
    assert row
    return float(row[1].split()[labels.index(name)].rstrip("%"))


def _labelled(printed: str) -> dict[str, str]:
    """Name of the drawing -> label, from lines such as "folder/cat.png: cat, 99%"."""
    return dict(
        re.findall(
            r"^\S+/([\w-]+)\.png: ([^,]+), \d+%(?:; none of these: \d+%)?$",
            printed,
            flags=re.MULTILINE,
        )
    )


def test_the_readme_runs_in_a_fresh_clone_and_is_right(clone: Path, tmp_path: Path) -> None:
    assert not (clone / "pictures").exists()
    printed = _follow("README.md", clone, tmp_path)
    found = _labelled(printed)
    assert len(found) == 3
    assert all(label == name for name, label in found.items()), found
    labels = ("cat", "bicycle", "rocket", "castle")  # of `ecliptic classify`
    for name in ("cat", "rocket"):
        assert _chance(printed, name, labels) > 60  # of 100; some is left for "none of these"
    assert (clone / "ecliptic-demo.html").exists()
    assert (clone / "drawings.npy").exists()


@pytest.mark.slow  # the README above takes the same first steps
def test_the_quickstart_runs_in_a_fresh_clone_and_is_right(clone: Path, tmp_path: Path) -> None:
    printed = _follow("docs/quickstart.md", clone, tmp_path)
    found = _labelled(printed)
    assert len(found) == 5
    assert all(label == name.replace("-", " ") for name, label in found.items()), found
    first = printed.index("volcano.png 0.")
    assert not re.search(r"^[\w-]+\.png 0\.", printed[:first], flags=re.MULTILINE)
