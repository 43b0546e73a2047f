"""Many short texts in two arrays, which workers receive quickly and which hold millions."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class TextList(Sequence[str]):
    """Texts that are never changed; file names that are not UTF-8 are kept as they are."""

    def __init__(self, texts: Iterable[str]) -> None:
        buffer, ends = bytearray(), [0]
        for text in texts:
            buffer += text.encode(errors="surrogateescape")
            ends.append(len(buffer))
        self._bytes = bytes(buffer)
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, stop = self._ends[index % len(self)], self._ends[index % len(self) + 1]
        return self._bytes[start:stop].decode(errors="surrogateescape")


class TextRows(Sequence[tuple[str, ...]]):
    """Rows of texts, each row of any length."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        starts = [0]
        self._texts = TextList(self._flatten(rows, starts))
        self._starts = np.array(starts, np.int64)

    @staticmethod
    def _flatten(rows: Iterable[Sequence[str]], starts: list[int]) -> Iterable[str]:
        for row in rows:
            starts.append(starts[-1] + len(row))
            yield from row

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | Sequence[tuple[str, ...]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, stop = self._starts[index], self._starts[index + 1]
        return tuple(self._texts[start:stop])
