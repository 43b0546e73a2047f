"""Reads vectors from `.npy` files: one array of shape (N, E), in float16, float32 or float64."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.index.formats.source import as_float32, check_vectors
from ecliptic.storage import map_npy


class ArrayFile:
    """A `.npy` file; its bytes are read when they are used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape = self.map().shape  # (N, E)

    def map(self) -> NDArray[Any]:
        """The vectors, (N, E) in the dtype of the file.

        Raises:
            StorageError: the file is damaged, cannot be opened, or holds no vectors.
        """
        try:
            rows = map_npy(self.path)
        except CorruptFileError as error:
            raise StorageError(
                f"{self.path} cannot be read as vectors ({error}); write or fetch it again."
            ) from None
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}.") from None
        check_vectors(self.path, rows.shape, rows.dtype)
        return rows

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """The vectors from a row to another, in float32."""
        return as_float32(self.map()[start:stop])
