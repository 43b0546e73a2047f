"""Vectors on disk that can be searched; knows no CLIP. Names are imported when first used."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.index.answers import (
        Hits as Hits,
        NearPairs as NearPairs,
        Repaired as Repaired,
        SearchPlan as SearchPlan,
        SearchResult as SearchResult,
        StoreProblem as StoreProblem,
        Written as Written,
    )
    from ecliptic.index.batches import RefusedRow as RefusedRow
    from ecliptic.index.columns import (
        ColumnType as ColumnType,
        ColumnValue as ColumnValue,
        check_column_types as check_column_types,
        fit as fit,
        read_text as read_text,
    )
    from ecliptic.index.filters.parsing import (
        parse_filter as parse_filter,
        print_filter as print_filter,
    )
    from ecliptic.index.filters.tree import (
        And as And,
        Compare as Compare,
        Filter as Filter,
        Not as Not,
        Or as Or,
    )
    from ecliptic.index.formats.reading import open_vectors as open_vectors
    from ecliptic.index.formats.source import VectorSource as VectorSource
    from ecliptic.index.formats.writing import (
        WrittenVectors as WrittenVectors,
        vector_outputs as vector_outputs,
        write_vectors as write_vectors,
    )
    from ecliptic.index.lance.checking import (
        find_problems as find_problems,
        repair_table as repair_table,
    )
    from ecliptic.index.lance.keyed import KeyedTable as KeyedTable
    from ecliptic.index.lance.store import (
        check_store as check_store,
        repair_store as repair_store,
    )
    from ecliptic.index.memory import MemoryStore as MemoryStore
    from ecliptic.index.opening import open_store as open_store
    from ecliptic.index.schema import (
        RowBlock as RowBlock,
        StoreRow as StoreRow,
        StoreSchema as StoreSchema,
    )
    from ecliptic.index.store import Store as Store

__getattr__, __dir__ = lazy_names(__name__)
