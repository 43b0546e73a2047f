"""`load` and `Clip`: from a name to vectors; batching, caching, fingerprints.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.engine.batches import (
        is_out_of_memory as is_out_of_memory,
        numerical_error as numerical_error,
    )
    from ecliptic.engine.cache import EmbeddingCache as EmbeddingCache
    from ecliptic.engine.card import Card as Card
    from ecliptic.engine.clip import Clip as Clip
    from ecliptic.engine.doctor import Diagnosis as Diagnosis, Stage as Stage, diagnose as diagnose
    from ecliptic.engine.embedded import (
        DataSource as DataSource,
        Measure as Measure,
        ModelReport as ModelReport,
        report_mini as report_mini,
    )
    from ecliptic.engine.embedding import Embedding as Embedding, embed_items as embed_items
    from ecliptic.engine.image_lists import Images as Images, image_items as image_items
    from ecliptic.engine.images import Encoded as Encoded, ImageEncoder as ImageEncoder
    from ecliptic.engine.implementations import (
        OTHERS as OTHERS,
        Implementation as Implementation,
        ours as ours,
    )
    from ecliptic.engine.loading import (
        MINI as MINI,
        Precision as Precision,
        load as load,
        open_checkpoint as open_checkpoint,
        resolve_device as resolve_device,
    )
    from ecliptic.engine.progress import progress_bar as progress_bar
    from ecliptic.engine.quantising import (
        MIN_COSINES as MIN_COSINES,
        find_float8_layers as find_float8_layers,
        find_quantisation as find_quantisation,
        search_note as search_note,
    )
    from ecliptic.engine.rejects import Rejects as Rejects
    from ecliptic.engine.sources.counting import (
        count_items as count_items,
        count_lines as count_lines,
    )
    from ecliptic.engine.sources.folders import (
        IMAGE_SUFFIXES as IMAGE_SUFFIXES,
        LeftOutWarning as LeftOutWarning,
        image_files as image_files,
    )
    from ecliptic.engine.sources.items import (
        Item as Item,
        Kind as Kind,
        escape_surrogates as escape_surrogates,
        image_item as image_item,
        text_item as text_item,
    )
    from ecliptic.engine.sources.lines import (
        STDIN as STDIN,
        open_text as open_text,
        read_lines as read_lines,
    )
    from ecliptic.engine.sources.read import line_items as line_items, read_items as read_items
    from ecliptic.engine.sources.tables import (
        Columns as Columns,
        check_columns as check_columns,
        is_table as is_table,
        name_row as name_row,
        read_rows as read_rows,
        row_item as row_item,
    )
    from ecliptic.engine.sources.tars import is_tar as is_tar, tar_has_end as tar_has_end
    from ecliptic.engine.vectors import (
        Comparable as Comparable,
        Vectors as Vectors,
        check_vectors_path as check_vectors_path,
        given_vectors as given_vectors,
        load_vectors as load_vectors,
        save_vectors as save_vectors,
    )
    from ecliptic.runtime import DTYPES as DTYPES

__getattr__, __dir__ = lazy_names(__name__)
