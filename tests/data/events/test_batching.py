"""Sparse sequences become batches, dense or sparse, of the same values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_recordings import pack

from spikelfp.data.events import Sensor, SparseFrames
from spikelfp.data.events.batching import PackedFrames, batch_dense, batch_sparse
from spikelfp.errors import DataError, ShapeError


def sequence(random: np.random.Generator, sensor: Sensor, steps: int, levels: int, share: float) -> SparseFrames:
    places = np.flatnonzero(random.random(steps * sensor.size) < share)
    counts = random.integers(1, levels + 1, len(places))
    return SparseFrames(places.astype(np.uint32), counts.astype(np.uint16), steps)


def plain(sequences: list[SparseFrames], length: int, sensor: Sensor, levels: int) -> torch.Tensor:
    """A batch, element by element."""
    values = torch.zeros(length, len(sequences), sensor.size)
    for b, frames in enumerate(sequences):
        for place, count in zip(frames.places.tolist(), frames.counts.tolist(), strict=True):
            values[place // sensor.size, b, place % sensor.size] = float(np.float32(count) / np.float32(levels))
    return values.view(length, len(sequences), *sensor.shape)


def whole(indices: torch.Tensor, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    made = torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True, check_invariants=True)
    return made.to_dense()


@given(
    st.sampled_from([Sensor(3, 4, 2), Sensor(5, 2, 1), Sensor(7), Sensor(1), Sensor(67, 2, 2)]),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.sampled_from([1, 3, 65535]),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_batches_equal_plain(sensor, lengths, levels, share, longer, seed, threads):
    random = np.random.default_rng(seed)
    sequences = [sequence(random, sensor, steps, levels, share) for steps in lengths]
    rows = random.integers(0, len(sequences), 4)
    chosen = [sequences[row] for row in rows]
    length = max(one.steps for one in chosen) + longer
    expected = plain(chosen, length, sensor, levels)
    packed, before = pack(sequences), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = batch_dense(packed, rows, sensor.size, levels, torch.full(expected.shape, torch.nan))
        indices, values = batch_sparse(packed, rows, sensor.shape, levels, length)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out, expected)
    assert torch.equal(whole(indices, values, expected.shape), expected)
    assert indices.dtype == torch.int64
    assert torch.equal(indices, expected.to_sparse().indices())


def test_large_batches_on_threads():
    """More than one piece of work for each thread."""
    random, sensor = np.random.default_rng(0), Sensor(34, 34, 2)
    sequences = [sequence(random, sensor, 10 + each % 3, 2, 0.05) for each in range(40)]
    rows = random.permutation(40)
    expected = plain([sequences[row] for row in rows], 12, sensor, 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(batch_dense(pack(sequences), rows, sensor.size, 2, torch.empty(12, 40, 2312)),
                           expected.view(12, 40, 2312))  # fmt: skip
        indices, values = batch_sparse(pack(sequences), rows, sensor.shape, 2)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(
        torch.sparse_coo_tensor(indices, values, expected.shape, check_invariants=True).to_dense(), expected
    )


def test_no_samples():
    packed, none = pack([SparseFrames(np.zeros(1, np.uint32), np.ones(1, np.uint16), 2)]), np.empty(0, np.int64)
    assert batch_dense(packed, none, 3, 1, torch.empty(1, 0, 3)).shape == (1, 0, 3)
    indices, values = batch_sparse(packed, none, (3,), 1)
    assert indices.shape == (3, 0)
    assert values.shape == (0,)


def test_mapped_files(tmp_path):
    """What a cache hands in: read-only maps of files."""
    sensor, random = Sensor(4, 3, 2), np.random.default_rng(1)
    sequences = [sequence(random, sensor, 3, 1, 0.3) for _ in range(3)]
    arrays = []
    for name, array in zip(PackedFrames._fields, pack(sequences), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
        arrays.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    mapped = PackedFrames(*arrays)
    rows = np.array([2, 0])
    expected = plain([sequences[2], sequences[0]], 3, sensor, 1)
    assert torch.equal(batch_dense(mapped, rows, sensor.size, 1, torch.empty(3, 2, 2, 3, 4)), expected)
    indices, values = batch_sparse(mapped, rows, sensor.shape, 1)
    assert torch.equal(
        torch.sparse_coo_tensor(indices, values, expected.shape, check_invariants=True).to_dense(), expected
    )


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.empty(2, 1, 3), "too short for a sequence of 3"),
        (torch.empty(3, 2, 3), "1 sequences of 3 elements"),
        (torch.empty(3, 1, 4), "1 sequences of 3 elements"),
        (torch.empty(3, 1, 3, dtype=torch.float64), "contiguous float32"),
        (torch.empty(3, 3, 2).transpose(1, 2), "contiguous float32"),
        (torch.empty(3, 3), "contiguous float32"),
    ],
)
def test_refused_outputs(out, message):
    packed = pack([SparseFrames(np.zeros(1, np.uint32), np.ones(1, np.uint16), 3)])
    with pytest.raises(ShapeError, match=message):
        batch_dense(packed, np.zeros(1, np.int64), 3, 1, out)


@pytest.mark.parametrize("places", [[3, 1], [2, 9], [7, 2, 8]])
def test_damaged_places(places):
    packed = pack([SparseFrames(np.array(places, np.uint32), np.ones(len(places), np.uint16), 3)])
    rows = np.zeros(1, np.int64)
    with pytest.raises(DataError, match="do not rise, or lie after the last step"):
        batch_sparse(packed, rows, (3,), 1)
    if places != [3, 1]:  # within a step the order makes no difference to a dense batch
        with pytest.raises(DataError, match="do not rise, or lie after the last step"):
            batch_dense(packed, rows, 3, 1, torch.empty(3, 1, 3))


def test_too_short_sparse_batch():
    packed = pack([SparseFrames(np.zeros(1, np.uint32), np.ones(1, np.uint16), 3)])
    with pytest.raises(ShapeError, match="batch of 2 steps is too short for a sequence of 3"):
        batch_sparse(packed, np.zeros(1, np.int64), (3,), 1, 2)
