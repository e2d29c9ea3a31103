from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset

from spikelfp.data import ArrayDataset, EpochSampler, batches
from spikelfp.errors import ShapeError, UserError

DATA = ArrayDataset(torch.arange(23 * 2).reshape(23, 2).float(), torch.arange(23) % 5, scale=0.5)


def same(left, right) -> bool:
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 50),
    batch_size=st.integers(1, 60),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    seed=st.integers(-5, 5),
)
def test_shards_together_are_the_whole_batches(n, batch_size, world_size, drop_last, shuffle, seed):
    batch_size = max(batch_size, world_size)
    drop_last = drop_last and n >= batch_size
    settings = {"shuffle": shuffle, "drop_last": drop_last}
    whole = list(EpochSampler(n, batch_size, seed, 3, **settings))
    shards = [
        EpochSampler(n, batch_size, seed, 3, rank=r, world_size=world_size, **settings) for r in range(world_size)
    ]
    assert [len(shard) for shard in shards] == [len(whole)] * world_size
    joined = [list(chain(*slices)) for slices in zip(*shards, strict=True)]
    assert joined == whole
    for slices in zip(*shards, strict=True):
        lengths = [len(part) for part in slices]
        assert max(lengths) - min(lengths) <= 1

    order = list(chain(*whole))
    kept = n - n % batch_size if drop_last else n
    assert len(order) == kept
    assert len(set(order)) == kept
    assert set(order) <= set(range(n))
    if not shuffle:
        assert order == list(range(kept))
    assert all(len(batch) == batch_size for batch in whole[: n // batch_size])


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 50), batch_size=st.integers(2, 20), start=st.integers(0, 60), rank=st.integers(0, 1))
def test_resuming_gives_the_batches_that_were_left(n, batch_size, start, rank):
    whole = list(EpochSampler(n, batch_size, 1, 2, rank=rank, world_size=2))
    start = min(start, len(whole))
    resumed = EpochSampler(n, batch_size, 1, 2, start=start, rank=rank, world_size=2)
    assert list(resumed) == whole[start:]
    assert len(resumed) == len(whole) - start


def test_seed_and_epoch_both_count_and_do_not_mix():
    def order(seed, epoch):
        return tuple(chain(*EpochSampler(100, 10, seed, epoch)))

    orders = {order(seed, epoch) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36
    assert order(2, 3) == order(2, 3)
    assert order(torch.tensor(2).numpy()[()], 3) == order(2, 3)  # numpy's integers are the same seeds


def test_the_order_is_the_one_that_older_checkpoints_rely_on():
    assert list(EpochSampler(8, 3, seed=0, epoch=1)) == [[5, 0, 3], [7, 2, 6], [4, 1]]


def test_batches_hold_the_samples_of_their_indices():
    loader = batches(DATA, 5, seed=0, epoch=0)
    assert len(loader) == 5
    for (x, y), indices in zip(loader, EpochSampler(23, 5, 0, 0), strict=True):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert torch.equal(x, DATA.images[indices] * 0.5)
        assert torch.equal(y, DATA.labels[indices])
    assert same(loader, loader)


def test_a_whole_batch_is_fetched_at_once(monkeypatch):
    calls = []
    original = ArrayDataset.__getitems__

    def counting(self, indices):
        calls.append(len(indices))
        return original(self, indices)

    monkeypatch.setattr(ArrayDataset, "__getitems__", counting)
    list(batches(DATA, 10, seed=0, epoch=0))
    assert calls == [10, 10, 3]


def test_workers_change_nothing():
    arguments = {"seed": 4, "epoch": 2, "start": 1, "rank": 1, "world_size": 2}
    assert same(batches(DATA, 6, workers=2, **arguments), batches(DATA, 6, workers=0, **arguments))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_neither_read_nor_changed(workers):
    torch.manual_seed(0)
    first = list(batches(DATA, 6, seed=0, epoch=0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert same(batches(DATA, 6, seed=0, epoch=0, workers=workers), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_resuming_in_the_middle_of_an_epoch():
    whole = list(batches(DATA, 4, seed=0, epoch=7))
    assert same(batches(DATA, 4, seed=0, epoch=7, start=2), whole[2:])
    assert list(batches(DATA, 4, seed=0, epoch=7, start=6)) == []


def test_an_empty_slice_is_an_empty_batch():
    parts = [list(batches(DATA, 11, seed=0, epoch=0, rank=rank, world_size=3))[-1] for rank in range(3)]
    assert [len(x) for x, _ in parts] == [0, 0, 1]
    assert parts[0][0].shape == (0, 2)


def test_other_data_sets_are_put_together_by_torch():
    plain = TensorDataset(DATA.images, DATA.labels)
    for dataset in (plain, Subset(plain, range(23))):
        for (x, y), indices in zip(batches(dataset, 5, seed=0, epoch=0), EpochSampler(23, 5, 0, 0), strict=True):
            assert torch.equal(x, DATA.images[indices])
            assert torch.equal(y, DATA.labels[indices])
    x, _ = next(iter(batches(Subset(DATA, [7, 8]), 2, seed=0, epoch=0, shuffle=False)))
    assert torch.equal(x, DATA.images[7:9] * 0.5)


def test_other_data_sets_cannot_build_an_empty_slice():
    with pytest.raises(ShapeError, match="empty slice of the last batch"):
        list(batches(TensorDataset(DATA.images), 11, seed=0, epoch=0, world_size=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"epoch": -1}, "epoch must be 0 or more, got -1"),
        ({"start": -1}, "start must be 0 to 6 batches, got -1"),
        ({"start": 7}, "start must be 0 to 6 batches, got 7"),
        ({"world_size": 0}, "world size must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be 0 to 1, got 2"),
        ({"rank": -1}, "rank must be 0 to 0, got -1"),
        ({"world_size": 5}, "batch size 4 is below the world size 5"),
        ({"batch_size": 24, "drop_last": True}, "23 samples make no full batch of 24"),
        ({"workers": -1}, "workers must be 0 or more, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    arguments = {"batch_size": 4, "seed": 0, "epoch": 0} | changes
    with pytest.raises(UserError, match=message):
        batches(DATA, **arguments)


def test_no_samples_are_refused():
    with pytest.raises(UserError, match="at least one sample, got 0"):
        EpochSampler(0, 4, 0, 0)
