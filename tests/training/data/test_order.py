"""The order of samples as a pure function: permutations, whatever the number of readers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.training.data.order import LANES, Order, Schedule, epoch_order, readers_of_a_lane, share

SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=60)
SEED = st.integers(0, 2**32)


@given(SIZES, SEED, st.integers(0, 50), st.integers(1, 80))
def test_an_epoch_is_a_permutation(sizes: list[int], seed: int, epoch: int, lanes: int) -> None:
    assert sorted(epoch_order(sizes, seed, epoch, lanes)) == list(range(sum(sizes)))


@given(SIZES, SEED, st.integers(1, 7), st.integers(1, 40))
def test_any_number_of_readers_sees_the_same_batches(
    sizes: list[int], seed: int, readers: int, batch_size: int
) -> None:
    order = Order(sizes, seed)
    batch = order.samples(3 * batch_size, batch_size)
    parts = [share(batch, reader, readers) for reader in range(readers)]
    joined = [parts[i % readers][i // readers] for i in range(batch_size)]
    assert joined == batch


@given(SIZES, SEED, st.integers(1, 200))
def test_every_sample_once_an_epoch_with_batches_over_its_end(sizes: list[int], seed: int, batch_size: int) -> None:
    order = Order(sizes, seed)
    batches = -(-2 * order.rows // batch_size)
    seen = [sample for i in range(batches) for sample in order.samples(i * batch_size, batch_size)]
    for epoch in range(2):
        rows = [row for e, row in seen if e == epoch]
        assert sorted(rows) == list(range(order.rows))
    assert [epoch for epoch, _ in seen] == sorted(epoch for epoch, _ in seen)


def test_epochs_differ_and_seeds_differ() -> None:
    a, b, c = epoch_order([64] * 20, 0, 0), epoch_order([64] * 20, 0, 1), epoch_order([64] * 20, 1, 0)
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_batch_mixes_row_groups_and_readers_hardly_read_twice() -> None:
    groups, rows, readers = 600, 64, 4
    order = epoch_order([rows] * groups, 3, 0)
    of_group = order // rows
    most = [Counter(of_group[i : i + 256]).most_common(1)[0][1] for i in range(0, len(order) - 256, 256)]
    assert np.mean(most) < 6  # a full permutation has 3.6, one group at a time 60
    reads = sum(len(np.unique(of_group[reader::readers])) for reader in range(readers))
    assert reads < 1.2 * groups
    open_groups = [len({*of_group[i : i + LANES]}) for i in range(0, len(order), LANES * 8)]
    assert max(open_groups) <= LANES + 1


@pytest.mark.parametrize(
    ("batch_size", "readers", "times"), [(4, 1, 1), (256, 4, 1), (12, 3, 3), (4, 3, 1), (6, 4, 2), (96, 12, 3)]
)
def test_readers_that_do_not_divide_the_lanes_read_row_groups_more_than_once(
    batch_size: int, readers: int, times: int
) -> None:
    assert readers_of_a_lane(batch_size, readers) == times
    rows, of_group = 64, epoch_order([64] * 240, 3, 0) // 64
    numbers = np.arange(240 * rows)
    reads = sum(len(np.unique(of_group[numbers % batch_size % readers == k])) for k in range(readers)) / 240
    assert times <= reads < 1.3 * times


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6), SEED, st.integers(0, 3000))
def test_streams_are_met_in_proportion(rows: list[int], seed: int, step: int) -> None:
    schedule = Schedule(tuple(rows), seed)
    streams = schedule.streams(np.arange(step + 1))
    assert schedule.stream(step) == streams[-1]
    assert schedule.earlier(step)[streams[-1]] == (streams[:-1] == streams[-1]).sum()
    counts = np.bincount(streams, minlength=len(rows))
    wanted = (step + 1) * np.array(rows) / sum(rows)
    assert np.abs(counts - wanted).max() < 2 + np.log2(step + 2)
