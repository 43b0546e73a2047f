"""Rows of a store as tables of pyarrow, and back.

N rows, E vector size.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.batches import RowBatch
from ecliptic.index.columns import ID, VECTOR, arrow_type
from ecliptic.index.lance.table import KEY
from ecliptic.index.schema import RowBlock, StoreSchema

_ABOUT = b"ecliptic.store"  # key of the metadata


def arrow_schema(schema: StoreSchema) -> Any:
    """The schema of pyarrow: the id, which is the key, the vector, and the columns.

    The store's own schema is in the metadata, so that a lost `store.json` can be written again.
    """
    import pyarrow as pa

    fields = [
        pa.field(ID, pa.string(), nullable=False, metadata=KEY),
        pa.field(VECTOR, pa.list_(pa.float32(), schema.width), nullable=False),
        *(pa.field(name, arrow_type(kind)) for name, kind in schema.columns.items()),
    ]
    return pa.schema(fields, metadata={_ABOUT: json.dumps(describe_schema(schema)).encode()})


def describe_schema(schema: StoreSchema) -> dict[str, Any]:
    """A schema as JSON has it."""
    return {
        "width": schema.width,
        "columns": dict(schema.columns),
        "facts": dict(schema.facts),
    }


def schema_from(about: Any) -> StoreSchema:
    """The schema that `describe_schema` described.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        return StoreSchema(about["width"], dict(about["columns"]), dict(about["facts"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it describes no store ({error!r})") from None


def schema_in(metadata: Any) -> StoreSchema:
    """The schema of a store in the metadata of its table.

    Raises:
        ValueError: there is none.
    """
    return schema_from(json.loads((metadata or {}).get(_ABOUT, b"{}")))


def to_arrow(batch: RowBatch, schema: StoreSchema) -> Any:
    """A table of pyarrow with the rows of a batch."""
    import pyarrow as pa

    values = pa.array(batch.vectors.reshape(-1))
    columns = {
        ID: pa.array(batch.ids, pa.string()),
        VECTOR: pa.FixedSizeListArray.from_arrays(values, schema.width),
    }
    for name, kind in schema.columns.items():
        columns[name] = pa.array(batch.columns[name], arrow_type(kind))
    return pa.table(columns, schema=arrow_schema(schema))


def to_block(table: Any) -> RowBlock:
    """The rows of a table, or of a batch of rows, of pyarrow."""
    names = [name for name in table.schema.names if name not in (ID, VECTOR)]
    vectors = matrix(table[VECTOR]) if VECTOR in table.schema.names else None
    columns = {name: table[name].to_pylist() for name in names}
    return RowBlock(tuple(table[ID].to_pylist()), columns, vectors)


def matrix(column: Any) -> NDArray[np.float32]:
    """(N, E) of a column of lists; without a copy if it is one chunk."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)
