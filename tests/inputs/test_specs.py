"""An impossible spec is refused, and equal specs are equal."""

from typing import Any

import pytest

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (ImageSpec, {"size": 0}, "size must be a whole number"),
        (ImageSpec, {"size": 224.0}, "size must be a whole number"),
        (ImageSpec, {"resize": "crop"}, "unknown resize 'crop'; use 'shortest' or 'squash'"),
        (ImageSpec, {"interpolation": "nearest"}, "use 'bicubic' or 'bilinear'"),
        (ImageSpec, {"mean": (0.5, 0.5)}, "mean must be three finite numbers"),
        (ImageSpec, {"mean": (0.5, 0.5, float("nan"))}, "mean must be three finite numbers"),
        (ImageSpec, {"std": 0.5}, "std must be three finite numbers"),
        (ImageSpec, {"std": "0.5"}, "std must be three finite numbers"),
        (ImageSpec, {"std": (0.5, 0.0, 0.5)}, "every std must be above 0"),
        (TokenizerSpec, {"merges": 2.0}, "merges must be a whole number"),
        (TokenizerSpec, {"merges": -1}, "merges must be 0 to"),
        (TokenizerSpec, {"context": "77"}, "context must be a whole number"),
        (TokenizerSpec, {"context": 2}, "context must be at least 3"),
        (TokenizerSpec, {"pad": 49408}, "outside the vocabulary"),
    ],
)
def test_impossible_specs_are_refused(spec: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(**fields)


def test_colours_are_a_tuple_of_floats_however_they_are_given() -> None:
    given: Any = [0, 0, 0]
    assert ImageSpec(mean=given) == ImageSpec(mean=(0.0, 0.0, 0.0))
    assert repr(ImageSpec(mean=given).mean) == "(0.0, 0.0, 0.0)"
