"""Collections of pictures that are indexed once and searched by words and pictures.

Names are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.library.filling.given import (
        has_pictures as has_pictures,
        may_lose as may_lose,
    )
    from ecliptic.library.filling.parts import AddSummary as AddSummary
    from ecliptic.library.filling.places import is_gone as is_gone
    from ecliptic.library.filling.rejected import RejectedPicture as RejectedPicture
    from ecliptic.library.finding.duplicates import (
        DuplicateGroup as DuplicateGroup,
        unchanged_file as unchanged_file,
    )
    from ecliptic.library.finding.hits import LibraryHits as LibraryHits
    from ecliptic.library.finding.queries import LibraryQuery as LibraryQuery
    from ecliptic.library.health import (
        check_library as check_library,
        repair_library as repair_library,
    )
    from ecliptic.library.library import Library as Library

__getattr__, __dir__ = lazy_names(__name__)
