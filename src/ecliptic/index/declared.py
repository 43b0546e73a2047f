"""The schema of a store as a text that a server keeps beside the rows."""

import json
from typing import Any

from ecliptic.errors import EclipticError, StorageError
from ecliptic.index.schema import StoreSchema

FORMAT = 1  # of the text


def print_schema(schema: StoreSchema) -> str:
    """The text that `read_schema` reads; plain ASCII, so that every server keeps it as it is."""
    return json.dumps(
        {
            "format": FORMAT,
            "width": schema.width,
            "columns": dict(schema.columns),
            "facts": dict(schema.facts),
        }
    )


def read_schema(text: Any, where: str) -> StoreSchema:
    """The schema that was printed.

    Args:
        text: what the server has.
        where: the store, for messages.

    Raises:
        StorageError: it is none, or one of a newer version.
    """
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise StorageError(
                f"{where} has the format {found['format']}, and this version reads {FORMAT}; "
                "upgrade ecliptic."
            )
        return StoreSchema(found["width"], found["columns"], found["facts"])
    except StorageError:
        raise
    except (EclipticError, ValueError, KeyError, TypeError, AttributeError):
        raise StorageError(
            f"the schema of {where} cannot be read, so something else wrote to it; export the rows "
            "with the tools of the server and make the store again."
        ) from None


def check_same_schema(found: StoreSchema, asked: StoreSchema, where: str) -> None:
    """Raise StorageError if the store has another schema, with the first difference."""
    if found == asked:
        return
    for part in ("width", "columns", "facts"):
        old, new = getattr(found, part), getattr(asked, part)
        if old != new:
            shown = f"{_show(old)}, not {_show(new)}"
            break
    raise StorageError(
        f"{where} is there with another schema: its {part} {'is' if part == 'width' else 'are'} "
        f"{shown}. Use another name, or open it with the schema that it has."
    )


def _show(value: Any) -> str:
    return str(value) if isinstance(value, int) else json.dumps(dict(value), ensure_ascii=False)
