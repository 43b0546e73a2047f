"""The tables of a library, and what became of the pictures of one call of `add`."""

from dataclasses import dataclass, field

from ecliptic.index import KeyedTable, Store
from ecliptic.library.filling.rejected import RejectedPicture, RejectedPictures


@dataclass
class AddSummary:
    """What became of the pictures of one call of `add`."""

    added: int = 0
    changed: int = 0  # whose content, or cells of a table, are others than before
    moved: int = 0  # files with the content of a file that is gone; not embedded again
    copied: int = 0  # files with the content of another file; not embedded again
    unchanged: int = 0
    rejected: list[RejectedPicture] = field(default_factory=list)
    rejected_before: int = 0  # files that are as they were when they were rejected
    gone: list[str] = field(default_factory=list)  # ids of files that are no longer there
    away: list[str] = field(default_factory=list)  # the same, but perhaps a disk is not connected
    removed: int = 0  # of these, with `prune`
    interrupted: bool = False  # by Ctrl-C; what was embedded is stored

    @property
    def seen(self) -> int:
        """The number of pictures that were looked at."""
        done = self.added + self.changed + self.moved + self.copied + self.unchanged
        return done + len(self.rejected) + self.rejected_before


@dataclass
class LibraryParts:
    """The tables of a library, for the modules that work on them."""

    store: Store
    thumbnails: KeyedTable
    rejects: RejectedPictures
