"""Runs towers without gradients: the numbers of the reference, with less work."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.runtime.describing import Choice as Choice
    from ecliptic.runtime.kernels.choosing import KernelMode as KernelMode
    from ecliptic.runtime.kernels.machine import (
        processor as processor,
        processor_facts as processor_facts,
    )
    from ecliptic.runtime.precisions import (
        DTYPES as DTYPES,
        NUMERICS as NUMERICS,
        Numerics as Numerics,
        PrecisionName as PrecisionName,
        find_numerics as find_numerics,
    )
    from ecliptic.runtime.quantising.searching import (
        find_float8 as find_float8,
        quantise as quantise,
    )
    from ecliptic.runtime.reducing import Reduced as Reduced, check_place as check_place
    from ecliptic.runtime.runtime import Runtime as Runtime

__getattr__, __dir__ = lazy_names(__name__)
