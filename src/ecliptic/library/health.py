"""Checks and mends the folders of a library, also of one that does not open."""

import os
from pathlib import Path

from ecliptic.index import (
    Repaired,
    StoreProblem,
    check_store,
    find_problems,
    repair_store,
    repair_table,
)
from ecliptic.library.layout import REJECTS, THUMBNAILS, LibraryAbout, read_about


def check_library(path: str | os.PathLike[str], *, deep: bool = False) -> list[StoreProblem]:
    """What is wrong with a library, also with one that does not open; see `Library.check`."""
    folder, about = Path(path), read_about(Path(path))
    return [
        StoreProblem(f"{part.name}/{problem.where}", problem.what)
        for part in _folders(folder, about)
        for problem in _check(part, about, deep=deep)
    ]


def repair_library(path: str | os.PathLike[str], *, drop: bool = False) -> Repaired:
    """Mend a library, also one that does not open; see `Library.repair`."""
    folder, about = Path(path), read_about(Path(path))
    done = {part.name: _repair(part, about, drop=drop) for part in _folders(folder, about)}
    return Repaired(
        tuple(f"{name}: {action}" for name, one in done.items() for action in one.actions),
        done[about.items].lost,  # thumbnails and rejects are made again
        tuple(
            StoreProblem(f"{name}/{problem.where}", problem.what)
            for name, one in done.items()
            for problem in one.left
        ),
    )


def _check(part: Path, about: LibraryAbout, *, deep: bool) -> list[StoreProblem]:
    look = check_store if part.name == about.items else find_problems
    return look(part, deep=deep)


def _repair(part: Path, about: LibraryAbout, *, drop: bool) -> Repaired:
    mend = repair_store if part.name == about.items else repair_table
    return mend(part, drop=drop)


def _folders(folder: Path, about: LibraryAbout) -> tuple[Path, ...]:
    return folder / about.items, folder / THUMBNAILS, folder / REJECTS
