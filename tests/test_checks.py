"""The checks that every part makes: numbers, arrays and tensors alike."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ecliptic.checks import check_count, check_finite, is_finite
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.bool, torch.int64])
def test_every_dtype_can_be_asked(dtype: torch.dtype) -> None:
    assert is_finite(torch.ones(2, dtype=dtype))


def test_counts_are_whole_numbers_from_the_least() -> None:
    assert check_count("batch_size", np.int64(3)) == 3
    for wrong in (1.0, True, "1", None):
        with pytest.raises(ConfigError, match="batch_size must be a whole number, got"):
            check_count("batch_size", wrong)
    with pytest.raises(ConfigError, match="limit must be at least 2, got 1"):
        check_count("limit", 1, least=2)


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("sdlx", ["sd1", "sdxl"]) == "did you mean 'sdxl'?"
    assert did_you_mean("nothing like it", ["sd1", "sdxl"]) == ""
    assert did_you_mean(7, ["sd1"]) == ""
