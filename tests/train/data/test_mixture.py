"""Orders are permutations without a pattern, and shares of a mixture are kept."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import ConfigError
from ecliptic.train.data.mixture import CYCLE, Mixture
from ecliptic.train.data.permutation import mix, permute

COUNTS = [1, 2, 3, 5, 1000, 65_536, 100_003]


@pytest.mark.parametrize("count", COUNTS)
def test_an_order_has_every_number_once(count: int) -> None:
    order = permute(np.arange(count), count, 7, 1)
    assert np.array_equal(np.sort(order), np.arange(count))
    parts = [permute(np.array([i]), count, 7, 1)[0] for i in range(0, count, count // 5 + 1)]
    assert parts == order[:: count // 5 + 1].tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3000), st.integers(0, 2**64), st.integers(0, 100))
def test_any_length_and_key_give_a_permutation(count: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(count), count, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(count))


def test_neighbours_are_no_neighbours_afterwards() -> None:
    count = 100_003
    orders = [permute(np.arange(count), count, 0, epoch) for epoch in range(2)]
    for order in orders:
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.01
        assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.01
        steps = np.abs(np.diff(order)).mean() / count
        assert abs(steps - 1 / 3) < 0.01
    assert abs(np.corrcoef(*orders)[0, 1]) < 0.01


def test_every_part_of_a_key_counts() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (0,), (0, 0, 0), (-1, 0)]
    assert len({mix(*key) for key in keys}) == len(keys)


@settings(deadline=None, max_examples=10)
@given(
    st.lists(st.tuples(st.integers(2, 40), st.floats(0.05, 3)), min_size=1, max_size=4),
    st.integers(1, 30),
    st.integers(0, 9),
)
def test_shares_are_kept_and_every_epoch_has_each_example_once(
    sources: list[tuple[int, float]], batch: int, seed: int
) -> None:
    lengths, weights = [n for n, _ in sources], [w for _, w in sources]
    mixture = Mixture(lengths, weights, batch, seed, held_out=0.2)
    rows = [mixture.rows(step) for step in range(CYCLE + 3)]
    assert all(len(row) == batch for row in rows)
    for source, weight in enumerate(weights):
        own = [row for batch_rows in rows for row in batch_rows if row.source == source]
        expected = weight / sum(weights) * batch * len(rows)
        assert abs(len(own) - expected) <= 2 + 3
        held = set(mixture.held_out(source).tolist())
        assert len(held) == mixture.held[source] == round(0.2 * lengths[source])
        assert not held & {row.index for row in own}
        epochs = defaultdict[int, list[int]](list)
        for row in own:
            epochs[row.epoch].append(row.index)
        last = max(epochs, default=0)
        for epoch, seen in epochs.items():
            assert len(set(seen)) == len(seen) <= mixture.trained[source]
            if epoch < last:
                assert len(seen) == mixture.trained[source]


def test_what_is_held_out_is_the_same_for_every_seed() -> None:
    held = [set(Mixture([50], [1.0], 5, seed, 0.3).held_out(0).tolist()) for seed in range(5)]
    assert all(one == held[0] for one in held)
    assert len(held[0]) == 15


def test_replacements_stay_in_the_source_and_the_epoch_and_out_of_what_is_held() -> None:
    mixture = Mixture([40, 9], [1, 1], 6, 3, held_out=0.25)
    held = [set(mixture.held_out(source).tolist()) for source in range(2)]
    for row in mixture.rows(2):
        found = [mixture.replace(row, attempt) for attempt in range(1, 10)]
        assert found == [mixture.replace(row, attempt) for attempt in range(1, 10)]
        assert all((r.source, r.epoch) == (row.source, row.epoch) for r in found)
        assert not {r.index for r in found} & held[row.source]
        assert len({r.index for r in found}) > 4


@pytest.mark.parametrize(
    ("lengths", "weights", "held", "message"),
    [
        ([], [], 0.0, "nothing to train on"),
        ([3], [0.0], 0.0, "must be above 0"),
        ([3, 0], [1.0, 1.0], 0.0, "source 1 of data.sources has no example"),
        ([1], [1.0], 0.9, "lower data.held_out"),
    ],
)
def test_mixtures_of_nothing_are_refused(
    lengths: list[int], weights: list[float], held: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Mixture(lengths, weights, 4, 0, held)
