"""Examples in tar files, which are read at any place."""

from ecliptic.train.data.archives.tars import (
    TarExamples as TarExamples,
    Tars as Tars,
    expand as expand,
    open_tars as open_tars,
    split_name as split_name,
)
