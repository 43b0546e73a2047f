"""Files that rows are written to, a block at a time: Parquet and `.npy`.

N rows, E vector size.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import StorageError
from ecliptic.index.columns import ID, VECTOR, arrow_type
from ecliptic.index.formats.row_tables import FACTS, INSTEAD
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.storage import import_parquet, open_draft

_HEADER = 128  # bytes of the header of a `.npy` file; it has room for any N


class VectorOutput(Protocol):
    """One file that is written."""

    layout: str  # for people; known at the end

    def add(self, block: RowBlock, vectors: NDArray[np.float32]) -> None:
        """Write some rows."""

    def finish(self) -> None:
        """Write what is known only at the end."""

    def close(self) -> None:
        """Give back what is open, also after an error."""


class TableOutput:
    """Parquet: the ids, the vectors unless they stand in another file, and the columns."""

    def __init__(self, draft: Path, schema: StoreSchema, *, vectors: bool) -> None:
        self._pa, parquet = import_parquet(INSTEAD)
        self.layout = "Parquet"
        self._width = schema.width if vectors else None
        self._kinds = schema.columns
        fields = {ID: self._pa.string()}
        if vectors:
            fields[VECTOR] = self._pa.list_(self._pa.float32(), schema.width)
        fields |= {name: arrow_type(kind) for name, kind in schema.columns.items()}
        facts = json.dumps(dict(schema.facts)).encode()
        self._schema = self._pa.schema(list(fields.items()), metadata={FACTS: facts})
        self._file = open_draft(draft)  # pyarrow opens only names in UTF-8
        self._writer = parquet.ParquetWriter(
            self._file,
            self._schema,
            compression={name: "snappy" for name in fields if name != VECTOR} or "none",
            use_dictionary=[name for name, kind in schema.columns.items() if kind == "string"],
        )

    def add(self, block: RowBlock, vectors: NDArray[np.float32]) -> None:
        """Write some rows, as a row group.

        Raises:
            StorageError: a value that Parquet cannot hold.
        """
        pa = self._pa
        values: dict[str, Any] = {ID: list(block.ids), **block.columns}
        arrays = []
        for field in self._schema:
            try:
                if field.name == VECTOR:
                    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
                    arrays.append(pa.FixedSizeListArray.from_arrays(flat, self._width))
                else:
                    arrays.append(pa.array(values[field.name], field.type))
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                raise StorageError(
                    f"a value of {field.name!r} cannot be written as {field.type} ({error}); "
                    "correct it, or leave out the column."
                ) from None
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def finish(self) -> None:
        """Do nothing: `close` writes the end."""

    def close(self) -> None:
        """Write the footer and close the draft."""
        with self._file:
            self._writer.close()


class ArrayOutput:
    """`.npy`: the vectors, (N, E) float32."""

    def __init__(self, draft: Path, schema: StoreSchema) -> None:
        self.layout = "NumPy float32"
        self._file = open_draft(draft)
        self._width = schema.width
        self._rows = 0
        self._file.write(npy_header(0, self._width))

    def add(self, block: RowBlock, vectors: NDArray[np.float32]) -> None:
        """Write some rows."""
        self._file.write(np.ascontiguousarray(vectors).data)
        self._rows += len(block.ids)

    def finish(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        self._file.write(npy_header(self._rows, self._width))

    def close(self) -> None:
        """Close the draft."""
        self._file.close()


def npy_header(rows: int, width: int) -> bytes:
    """The start of a `.npy` file of (rows, width) float32; of one length for any number of rows.

    Source: NumPy, numpy/lib/_format_impl.py, version 1.0 of the format.
    """
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    size = _HEADER - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + text.ljust(size - 1).encode() + b"\n"
