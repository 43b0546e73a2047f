"""Tar files: their members, read at any place, and the examples in them."""

from ecliptic.train.data.archives.tar_members import (
    Member as Member,
    TarFile as TarFile,
    TruncatedTarWarning as TruncatedTarWarning,
)
from ecliptic.train.data.archives.tars import (
    TarExamples as TarExamples,
    Tars as Tars,
    expand as expand,
    open_tars as open_tars,
    split_name as split_name,
)
