"""Names arrive when they are used, and a name that is not there is named."""

import pytest

import ecliptic
from ecliptic.lazy import arriving_later


def test_a_name_comes_from_the_module_that_defines_it() -> None:
    fetch = arriving_later("ecliptic.inputs", {"ImageSpec": "specs"})
    assert fetch("ImageSpec") is ecliptic.ImageSpec
    assert ecliptic.load.__module__ == "ecliptic.engine.loading"


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match=r"module 'ecliptic' has no attribute 'laod'"):
        _ = ecliptic.laod  # type: ignore[attr-defined]
