"""What reading one file of weights may cost: limits that grow with the file, up to a last one.

A few bytes can ask for much: a pickle may use one list a thousand times, or repeat an operation
that takes long. Every limit has a free part, so that small honest files are never refused, a part
for each byte of the file, and an absolute end. Together they keep any file of less than 1 MB under
2 seconds and 300 MB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecliptic.errors import UnsafeFileError

MAX_PICKLE = 32 << 20  # bytes; the pickle of bigG/14 with its optimizer has about 1 MB
MAX_OPCODES = 5_000_000  # operations of all pickles of a file; that of bigG/14 has about 100,000
FREE_OPCODES = 100_000
BYTES_PER_OPCODE = 2  # a view of a shared storage takes 25 operations and 50 bytes
MAX_ITEMS = 2_000_000  # values in all containers; shared containers count each time
FREE_ITEMS = 100_000
BYTES_PER_ITEM = 8  # a file of weights has more weights than numbers in lists
MAX_NAMES = 64 << 20  # bytes of all dotted names; those of bigG/14 with its optimizer: 1 MB
MAX_NAME = 1000  # characters of a name; TorchScript's mangled ones have about 100
MAX_TENSORS = 1_000_000  # each takes about 1 KB, whatever its size
FREE_TENSORS = 10_000
BYTES_PER_TENSOR = 32  # the shortest description of a view has 45 bytes
# Values of all tensors, each time one is used: an expanded view or a shared tensor stores few and
# asks a reader for many. Honest weights have at most one for each byte of the file; some use a
# matrix two or three times.
FREE_VALUES = 1 << 20
VALUES_PER_BYTE = 4
# Whole numbers as keys of dictionaries, each time one is set. Python does not mix their hashes, so
# an attacker can choose keys that are compared with all others: 20,000 of them take 0.3 s. Keys
# like that in optimizers: one per parameter, 1,500 for bigG/14.
MAX_NUMBER_KEYS = 20_000
TUPLE_KEY = 8  # a tuple of numbers counts as so many: its hash can be chosen completely


@dataclass
class Budget:
    """What is left to spend on one file; spending more raises `UnsafeFileError`."""

    opcodes: int
    items: int
    tensors: int
    number_keys: int
    values: int

    @classmethod
    def for_file(cls, size: int) -> "Budget":
        """The budget for a file of `size` bytes."""
        return cls(
            opcodes=min(MAX_OPCODES, FREE_OPCODES + size // BYTES_PER_OPCODE),
            items=min(MAX_ITEMS, FREE_ITEMS + size // BYTES_PER_ITEM),
            tensors=min(MAX_TENSORS, FREE_TENSORS + size // BYTES_PER_TENSOR),
            number_keys=MAX_NUMBER_KEYS,
            values=FREE_VALUES + VALUES_PER_BYTE * size,
        )

    def spend_key(self, cost: int) -> None:
        """Pay for hashing a key whose hash the file can choose."""
        self.number_keys -= cost
        if self.number_keys < 0:
            raise UnsafeFileError(
                f"its dictionaries have more than {MAX_NUMBER_KEYS} whole numbers as keys"
            )

    def spend_tensor(self) -> None:
        """Pay for one tensor."""
        self.tensors -= 1
        if self.tensors < 0:
            raise UnsafeFileError("it has more tensors than a file of its size can describe")

    def spend_values(self, count: int) -> None:
        """Pay for the values of tensors, stored or repeated."""
        if count > self.values:
            raise UnsafeFileError(
                f"it repeats few stored values to make {count}, but a file of its size may have "
                f"{self.values}; save copies of expanded and shared tensors, as x.clone() makes"
            )
        self.values -= count


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Add the name of the file to a refusal of its content."""
    try:
        yield
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path} is refused: {error}.") from error
