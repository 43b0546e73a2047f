"""SQLite files whose trees refer to one page many times: few bytes, billions of rows.

Source: sqlite.org/fileformat2.html, sections 1.3 and 1.6.
"""

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = 100  # bytes of the file's header, at the start of page 1
_LEAF = 0x0D  # kind of a page with rows
_FAN = 300  # children of an inner page


def repeat_page(path: Path, table: str, depth: int) -> None:
    """Put `depth` inner pages above the only page of `table`; each names the next 300 times."""
    size, root = _find_root(path, table)
    data = bytearray(path.read_bytes())
    start = (root - 1) * size
    head = bytes(data[:_HEADER]) if root == 1 else b""
    leaf = bytearray(data[start : start + size])
    if root == 1:
        cells = struct.unpack(">H", leaf[_HEADER + 3 : _HEADER + 5])[0]
        kept = leaf[_HEADER : _HEADER + 8 + 2 * cells]
        leaf[:_HEADER] = bytes(_HEADER)
        leaf[: len(kept)] = kept
    assert leaf[0] == _LEAF
    pages = [bytes(leaf)]
    child = len(data) // size + 1
    for _ in range(depth - 1):
        pages.append(_make_inner(child, size))
        child += 1
    data[start : start + size] = _make_inner(child, size, head)
    data += b"".join(pages)
    data[28:32] = struct.pack(">I", len(data) // size)
    data[92:96] = data[24:28]  # the size is valid for this change counter
    path.write_bytes(data)


def _find_root(path: Path, table: str) -> tuple[int, int]:
    """The size of a page, and the number of the first page of `table`."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    root = connection.execute(query, (table,)).fetchone() or (1,)
    connection.close()
    return size, root[0]


def _make_inner(child: int, size: int, head: bytes = b"") -> bytes:
    page = bytearray(size)
    page[: len(head)] = head
    cells = list(_make_cells(child))
    ends = size
    for number, cell in enumerate(cells):
        ends -= len(cell)
        page[ends : ends + len(cell)] = cell
        place = len(head) + 12 + 2 * number
        page[place : place + 2] = struct.pack(">H", ends)
    top = struct.pack(">BHHHBI", 5, 0, len(cells), ends, 0, child)
    page[len(head) : len(head) + 12] = top
    return bytes(page)


def _make_cells(child: int) -> Iterator[bytes]:
    for number in range(1, _FAN + 1):
        yield struct.pack(">IBB", child, 0x80 | number >> 7, number & 0x7F)
