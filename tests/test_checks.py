"""The checks that all parts share, for numbers, arrays and tensors."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ecliptic.checks import check_choice, check_count, check_finite, is_finite, rows_not_finite
from ecliptic.errors import ConfigError, NumericalError, ShapeError, did_you_mean

FINITE = [0, 1.5, [1.0, 2], (), np.zeros(3), np.zeros(0), torch.zeros(2), torch.tensor([1, 2])]
NOT = [math.nan, -math.inf, [1.0, math.inf], np.array([1, np.nan]), torch.tensor([1.0, math.nan])]


@pytest.mark.parametrize("values", FINITE, ids=str)
def test_what_is_finite_passes(values: Any) -> None:
    assert is_finite(values)
    check_finite(values, "the values", "look at them.")


@pytest.mark.parametrize("values", NOT, ids=str)
def test_what_is_not_is_named_with_the_way_out(values: Any) -> None:
    assert not is_finite(values)
    with pytest.raises(NumericalError, match=r"^the values must be finite, .*; look at th"):
        check_finite(values, "the values", "look at them.")
    with pytest.raises(ShapeError):
        check_finite(values, "the values", "look at them.", ShapeError)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_first_value_that_is_not_finite_is_named(dtype: torch.dtype) -> None:
    bad = torch.ones(2, 3, dtype=dtype).requires_grad_()
    with torch.no_grad():
        bad[1, 2] = math.inf
    with pytest.raises(
        NumericalError, match=r"but 1 of 6 values are NaN or infinity, the first at \[1, 2\];"
    ):
        check_finite(bad, "the vectors of 'a cat'", "use milder weights.")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.int64]
)
def test_every_dtype_can_be_asked(dtype: torch.dtype) -> None:
    assert is_finite(torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_whole_number_beyond_every_float_is_not_finite(digits: int) -> None:
    with pytest.raises(NumericalError, match="must be finite"):
        check_finite(10**digits, "the value", "use a smaller one.")


def test_counts_are_whole_numbers_from_the_least() -> None:
    assert check_count("batch_size", np.int64(3)) == 3
    for wrong in (1.0, True, "1", None):
        with pytest.raises(ConfigError, match="batch_size must be a whole number, got"):
            check_count("batch_size", wrong)
    with pytest.raises(ConfigError, match="limit must be at least 2, got 1"):
        check_count("limit", 1, least=2)


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("sdlx", ["sd1", "sdxl"]) == "did you mean 'sdxl'?"
    assert did_you_mean("vit-b-32", ["ViT-S-32", "ViT-B-32"]) == "did you mean 'ViT-B-32'?"
    assert did_you_mean("nothing like it", ["sd1", "sdxl"]) == ""
    assert did_you_mean(7, ["sd1"]) == ""


def test_choices_are_listed_and_the_nearest_is_offered() -> None:
    check_choice("family", "sdxl", {"sd1": 1, "sdxl": 2})
    message = r"^family must be one of sd1, sdxl, got 'sdlx'; did you mean 'sdxl'\?$"
    with pytest.raises(ConfigError, match=message):
        check_choice("family", "sdlx", ["sd1", "sdxl"])
    with pytest.raises(ConfigError, match=r"^size must be one of a, b, got 7\.$"):
        check_choice("size", 7, iter(["a", "b"]))


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_rows_that_are_not_finite_are_numbered(make: Any) -> None:
    rows = [[0.0, 1.0], [math.nan, 0.0], [1.0, 2.0], [0.0, -math.inf], [math.inf, math.nan]]
    assert rows_not_finite(make(rows)) == [1, 3, 4]
    assert rows_not_finite(make([[[1.0], [math.inf]], [[0.0], [0.0]]])) == [0]
    assert rows_not_finite(make(rows)[:0]) == []
    assert rows_not_finite(make(rows)[:, :0]) == []
