"""Sequences are lengthened by whole chunks, and by insides where start and end are shared."""

import itertools

import pytest
import torch

from ecliptic.diffusion.emphasis.extending import common_length, extend
from ecliptic.errors import ShapeError

EMPTY = torch.tensor([100.0, *[50.0] * 75, 200.0])[:, None]  # (77, 1)


def make(whole: int, insides: int) -> torch.Tensor:
    x = torch.arange(77 * whole + 75 * insides, dtype=torch.float32)[:, None]
    return x + 1000


PAIRS = list(itertools.combinations(itertools.product((1, 2, 3), (0, 2)), 2))


@pytest.mark.parametrize("sizes", PAIRS)
def test_any_two_lengths_have_a_common_one(sizes: tuple[tuple[int, int], ...]) -> None:
    parts = [make(*size) for size in sizes]
    length = common_length(map(len, parts), 77)
    assert length == 77 * max(w for w, _ in sizes) + 75 * max(i for _, i in sizes)
    for part, (whole, insides) in zip(parts, sizes, strict=True):
        found = extend(part, length, EMPTY)
        assert len(found) == length
        kept = found[found[:, 0] >= 1000]
        torch.testing.assert_close(kept, part)
        added = found[found[:, 0] < 1000][:, 0]
        more = (length - len(part) - 75 * (max(i for _, i in sizes) - insides)) // 77
        assert (added == 100).sum() == (added == 200).sum() == more
        assert whole + more == max(w for w, _ in sizes)


def test_whole_chunks_are_appended_and_insides_come_before_the_end() -> None:
    torch.testing.assert_close(extend(make(1, 0), 154, EMPTY), torch.cat([make(1, 0), EMPTY]))
    wanted = torch.cat([make(1, 0)[:-1], EMPTY[1:-1], make(1, 0)[-1:]])
    torch.testing.assert_close(extend(make(1, 0), 152, EMPTY), wanted)
    assert extend(make(1, 0)[:0], 152, EMPTY)[-1] == 200


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="77 tokens cannot be lengthened to 100"):
        extend(make(1, 0), 100, EMPTY)
    with pytest.raises(ShapeError, match="cannot be lengthened to 77"):
        extend(make(1, 1), 77, EMPTY)
    with pytest.raises(ShapeError, match="empty=None"):
        extend(make(1, 0), 154, None)
    assert common_length([5, 9], 77) == 9
