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
from ecliptic.index.lance.engine import FAILURES, import_lance
from ecliptic.index.lance.table import LOCK, WAIT, LanceTable, data_file
from ecliptic.storage import WriterLock, make_folder

_DAMAGED = "damaged"  # folder for manifests that were moved away
_MANIFEST = ".manifest"


def find_problems(folder: Path, *, deep: bool) -> list[StoreProblem]:
    """What is wrong with a table; empty if it is sound."""
    try:
        table = LanceTable(folder)
        dataset = table.newest()
    except StorageError as error:
        return [StoreProblem(str(folder), _explain_opening(folder, error))]
    table.checksums.refresh()
    return [
        StoreProblem(name, reason)
        for name in _files_of(dataset)
        if (reason := _find_damage(table.checksums, name, deep=deep))
    ]


def _explain_opening(folder: Path, error: StorageError) -> str:
    if _newest_manifest(folder) is None:
        return f"it has no table: {error}"
    return (
        "its newest version cannot be read, as after a power cut; `repair` goes back to the "
        "version before it and tells how many rows are lost."
    )


def _newest_manifest(folder: Path) -> Path | None:
    """Names of manifests count down, so that the newest is the first."""
    return min((folder / TABLE / "_versions").glob(f"*{_MANIFEST}"), default=None)


def _files_of(dataset: Any) -> Iterator[str]:
    """Paths of the files that the newest version uses."""
    for fragment in dataset.get_fragments():
        yield from _files_of_fragment(fragment)


def _files_of_fragment(fragment: Any) -> Iterator[str]:
    yield f"data/{data_file(fragment)}"
    deleted = fragment.metadata.deletion_file
    if deleted is not None:
        yield deleted.path(fragment.fragment_id)


def _find_damage(checksums: Checksums, name: str, *, deep: bool) -> str:
    """What is wrong with a file; "" if nothing is."""
    path, known = checksums.folder / TABLE / name, checksums.files.get(name)
    fix = "`repair` with `drop` removes its rows, so that they can be added again."
    if not path.is_file():
        return f"the file is gone; {fix}"
    if known is None:
        return ""  # its writer was killed after the commit; the next writer notes its checksum
    if path.stat().st_size != known.size:
        return f"it has {path.stat().st_size} bytes instead of {known.size}; {fix}"
    if deep and not checksums.is_intact(name):
        return f"its bytes changed after it was written; {fix}"
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
        actions, lost = _go_back(folder)
        problems = find_problems(folder, deep=True)
        if problems and drop:
            rows = _drop_rows(folder, {problem.where for problem in problems})
            actions.append(f"removed {rows} rows whose data was damaged")
            return Repaired(tuple(actions), lost + rows, ())
    return Repaired(tuple(actions), lost, tuple(problems))


def _go_back(folder: Path) -> tuple[list[str], int]:
    """Move manifests away that cannot be read, the newest first; what was done, and rows lost."""
    actions, lost = list[str](), 0
    checksums = Checksums(folder)
    checksums.refresh()
    while reason := _fails_to_open(folder):
        torn = _newest_manifest(folder)
        if torn is None or len(list(torn.parent.glob(f"*{_MANIFEST}"))) == 1:
            raise StorageError(f"{folder} has no version that can be read: {reason}")
        make_folder(folder / _DAMAGED)
        torn.rename(folder / _DAMAGED / torn.name)
        actions.append(f"moved {torn.name}, which cannot be read, to {_DAMAGED}/")
    if actions:
        dataset = import_lance().dataset(str(folder / TABLE))
        now = dataset.count_rows()
        later = [rows for version, rows in checksums.rows.items() if version > dataset.version]
        lost = max(0, max(later, default=now) - now)
        actions.append(f"went back to version {dataset.version} of {now} rows, {lost} fewer")
    return actions, lost


def _fails_to_open(folder: Path) -> str:
    """Why the newest version cannot be read; "" if it can."""
    try:
        import_lance().dataset(str(folder / TABLE)).count_rows()
    except FAILURES as error:
        return str(error)
    return ""


def _drop_rows(folder: Path, names: set[str]) -> int:
    """Remove the fragments that use these files; returns the number of their rows."""
    lance, table = import_lance(), LanceTable(folder)
    with table.writing() as dataset:
        bad = [f for f in dataset.get_fragments() if names & set(_files_of_fragment(f))]
        operation = lance.LanceOperation.Delete([], [f.fragment_id for f in bad], "damaged")
        path = str(folder / TABLE)
        lance.LanceDataset.commit(path, operation, read_version=dataset.version)
    return sum(f.metadata.num_rows for f in bad)
