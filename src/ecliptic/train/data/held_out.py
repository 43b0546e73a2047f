"""Names that are held out of training in every source of drawings, not in their table alone.

A table of concepts says in its column `concept_split` which ones are for validation. Other tables
have drawings under the same names, and do not know that.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ecliptic.engine import check_columns
from ecliptic.errors import StorageError
from ecliptic.inputs import fold_label
from ecliptic.train.data.examples import hash_files


class HeldOutNames:
    """The names of a table whose `concept_split` is "val".

    Args:
        table: its path.
        rows: of the table.

    Raises:
        StorageError: the table has no such column, or holds nothing out.
    """

    def __init__(self, table: Path, rows: Sequence[Mapping[str, str]]) -> None:
        check_columns(table, list(rows[0]) if rows else [], ["name", "concept_split"])
        held = {fold_label(row["name"]) for row in rows if row["concept_split"] == "val"}
        if not held:
            raise StorageError(f'{table} has no concept_split "val", so it holds no name out.')
        self.table, self.names = table, frozenset(held)
        words = "|".join(map(re.escape, sorted(held)))
        self._within = re.compile(rf"(?<!\w)(?:{words})(?:e?s)?(?!\w)")

    def is_one(self, name: str) -> bool:
        """Whether `name` is one of them, or its plural."""
        return self._within.fullmatch(fold_label(name)) is not None

    def has(self, name: str, table: Path) -> bool:
        """Whether a drawing of that name in a table shows one: its name has theirs as whole words.

        In their own table the split is decided by concept, so there it must be their name.
        """
        if table == self.table:
            return self.is_one(name)
        return self._within.search(fold_label(name)) is not None

    def fingerprint(self) -> str:
        """`hash_files` of the table."""
        return hash_files([self.table], self.table.parent)
