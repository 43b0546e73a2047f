"""What belongs to each score, kept on disk in order while millions of rows are scored."""

import json
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from ecliptic.errors import StorageError


class RowSpool:
    """Objects as JSON lines in a temporary file without a name, written once and read in order."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass")  # noqa: SIM115 closed by the finalizer
        weakref.finalize(self, self._file.close)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write more objects.

        Raises:
            StorageError: the disk is full.
        """
        try:
            self._file.seek(0, 2)
            self._file.writelines(json.dumps(row) + "\n" for row in rows)
            self._file.flush()
        except OSError as error:
            raise StorageError(
                f"the scores cannot be kept in a temporary file in {tempfile.gettempdir()}: "
                f"{error.strerror}; free some space, or set TMPDIR to a larger disk."
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All objects, in order."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)
