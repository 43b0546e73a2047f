"""SDXL's encoders at released sizes, random weights, against diffusers' own pipeline."""

import pytest

from benchmarks import conditioning

RELATIVE = 2e-5  # of the largest value


@pytest.mark.slow
@pytest.mark.parametrize(
    "prompts", [["a cat on a mat!"], ["", "a red fox in the snow", "word " * 60]]
)
def test_sdxl_at_full_size_is_diffusers(prompts: list[str]) -> None:
    assert conditioning.difference(prompts, tiny=False) <= RELATIVE


def test_the_benchmark_compares_like_with_like() -> None:
    assert conditioning.difference(["a cat!", "a dog"], tiny=True) <= RELATIVE
