"""Finds what is wrong with the files of a table, and mends what can be mended.

- A manifest that was torn by a power cut: the version before is used again.
- A data file whose bytes changed, or that is gone: its rows cannot be trusted. They are removed
  only if that is asked for, so that they can be added again.
- Codes are made again at the next search.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecliptic.errors import StorageError
from ecliptic.index.answers import Repaired, StoreProblem
from ecliptic.index.lance.checksums import TABLE, Checksums
from ecliptic.index.lance.engine import explained, import_lance, open_dataset
from ecliptic.index.lance.table import (
    LOCK,
    WAIT,
    LanceTable,
    data_file,
    deletion_file,
    manifests,
)
from ecliptic.storage import WriterLock, make_folder

_DAMAGED = "damaged"  # folder for manifests that were moved away
_DROP = "`repair` with `drop` removes its rows, so that they can be added again."
_BACK = "`repair` goes back to the version before it and tells how many rows are lost."
_NEWEST = (1 << 64) - 1  # less the version is the number in the name of a manifest
_TRIES = 3  # while other processes write


def find_problems(folder: Path, *, deep: bool) -> list[StoreProblem]:
    """What is wrong with a table; empty if it is sound."""
    problems: list[StoreProblem] = []
    for _ in range(_TRIES):
        try:
            table = LanceTable(folder)
            dataset = table.newest()
        except StorageError as error:
            return [StoreProblem(str(folder), _explain_opening(folder, error))]
        problems = list(_find_in_files(table, dataset, deep=deep))
        if not problems or table.newest().version == dataset.version:
            break  # otherwise a file may be gone because it was joined to another meanwhile
    return problems


def _explain_opening(folder: Path, error: StorageError) -> str:
    if not manifests(folder):
        return f"it has no table: {error}"
    return f"its newest version cannot be read, as after a power cut; {_BACK}"


def _find_in_files(table: LanceTable, dataset: Any, *, deep: bool) -> Iterator[StoreProblem]:
    table.checksums.refresh()
    newest = f"_versions/{manifests(table.folder)[0].name}"
    if reason := _find_damage(table.checksums, newest, deep=True):  # a small file
        yield StoreProblem(newest, f"{reason}; {_BACK}")
        return  # what it says of other files cannot be trusted
    for name in _files_of(dataset):
        if reason := _find_damage(table.checksums, name, deep=deep):
            yield StoreProblem(name, f"{reason}; {_DROP}")


def _files_of(dataset: Any) -> Iterator[str]:
    """Paths of the files of data and of deletions that a version uses."""
    for fragment in dataset.get_fragments():
        yield from _files_of_fragment(fragment)


def _files_of_fragment(fragment: Any) -> Iterator[str]:
    yield f"data/{data_file(fragment)}"
    if name := deletion_file(fragment):
        yield name


def _find_damage(checksums: Checksums, name: str, *, deep: bool) -> str:
    """What is wrong with a file; "" if nothing is.

    A file without a checksum is no problem: its writer was killed after the commit, or the line
    about it is damaged. The next writer notes its checksum.
    """
    path, known = checksums.folder / TABLE / name, checksums.files.get(name)
    try:
        size = path.stat().st_size
        if known is not None and size != known.size:
            return f"it has {size} bytes instead of {known.size}"
        if deep and not checksums.is_intact(name):
            return "its bytes changed after it was written"
    except FileNotFoundError:
        return "the file is gone"
    except (OSError, StorageError) as error:
        return f"it cannot be read ({error})"
    return ""


def repair_table(folder: Path, *, drop: bool) -> Repaired:
    """Mend what `find_problems` finds.

    Args:
        folder: of the table.
        drop: remove rows whose data is damaged.

    Raises:
        StorageError: no version can be read.
    """
    with WriterLock(folder / LOCK).hold(WAIT):
        torn = _move_torn_manifests(folder)
    actions = [f"moved {name}, which cannot be read, to {_DAMAGED}/" for name in torn]
    lost = 0
    if torn:
        lost, went = _go_on(folder, highest=_NEWEST - int(Path(torn[0]).stem))
        actions.append(went)
    problems = find_problems(folder, deep=True)
    if problems and drop:
        rows = _drop_rows(folder, {problem.where for problem in problems})
        actions.append(f"removed {rows} rows whose data was damaged")
        lost, problems = lost + rows, find_problems(folder, deep=True)
    return Repaired(tuple(actions), lost, tuple(problems))


def _move_torn_manifests(folder: Path) -> list[str]:
    """Move manifests away that cannot be read, the newest first; returns their names."""
    torn = list[str]()
    while reason := _fails_to_open(folder):
        found = manifests(folder)
        if len(found) < 2:
            raise StorageError(
                f"{folder} has no version that can be read: {reason}; restore it from a copy."
            )
        make_folder(folder / _DAMAGED)
        found[0].rename(folder / _DAMAGED / found[0].name)
        torn.append(found[0].name)
    return torn


def _fails_to_open(folder: Path) -> str:
    """Why the newest version cannot be read; "" if it can."""
    try:
        with explained(folder, "read"):
            open_dataset(folder / TABLE).count_rows()
    except StorageError as error:
        return str(error)
    checksums, newest = Checksums(folder), manifests(folder)[0]
    checksums.refresh()
    return _find_damage(checksums, f"_versions/{newest.name}", deep=True)


def _go_on(folder: Path, highest: int) -> tuple[int, str]:
    """Make an older version the newest again.

    It gets a number above the `highest` that was ever used, so that no process takes it for a
    version that it knows.

    Returns:
        the rows that are lost, and what was done.
    """
    table = LanceTable(folder)
    table.checksums.refresh()
    old = table.newest()
    with table.writing() as dataset:
        while dataset.version <= highest:
            dataset.update_config({"repaired": str(highest)})
    later = [n for version, n in table.checksums.rows.items() if old.version < version <= highest]
    now = old.count_rows()
    lost = max(0, max(later, default=now) - now)
    return lost, (
        f"went back to version {old.version} with {now} rows: {lost} rows that were added after it "
        "are lost, and rows that were replaced or deleted after it are as they were before"
    )


def _drop_rows(folder: Path, names: set[str]) -> int:
    """Remove the fragments that use these files; returns the number of their rows."""
    lance, table = import_lance(), LanceTable(folder)
    with table.writing() as dataset:
        bad = [f for f in dataset.get_fragments() if names & set(_files_of_fragment(f))]
        operation = lance.LanceOperation.Delete([], [f.fragment_id for f in bad], "damaged")
        path = str(folder / TABLE)
        lance.LanceDataset.commit(path, operation, read_version=dataset.version)
    return sum(f.metadata.num_rows for f in bad)
