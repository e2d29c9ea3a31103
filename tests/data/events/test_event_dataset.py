import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from toy_recordings import BINS, COUNT, PIPELINES, WINDOW, Toy, frames_of

from spikelfp.data import batches
from spikelfp.data.events.augmentation import augmentations, parse_augmentations
from spikelfp.data.events.cache import binned
from spikelfp.data.events.dataset import EventDataset
from spikelfp.data.loader import Sequences
from spikelfp.errors import DataError, UserError


def padded(recordings, pipeline, indices) -> tuple[torch.Tensor, list[int]]:
    """``[T, B, …]`` and the steps of each, recording by recording."""
    each = [torch.from_numpy(frames_of(recordings, index, pipeline.binning)) for index in indices]
    values = torch.zeros(max(map(len, each)), len(each), *each[0].shape[1:])
    for sample, frames in enumerate(each):
        values[: len(frames), sample] = frames
    return values, [len(frames) for frames in each]


def dense(sequences: Sequences) -> torch.Tensor:
    return sequences.values.to_dense() if sequences.values.is_sparse else sequences.values


def make(tmp_path, pipeline=WINDOW, n=12, in_memory=False, **options) -> EventDataset:
    return EventDataset(binned(Toy(n), pipeline, cache_dir=tmp_path, in_memory=in_memory), 3, **options)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_batches_are_the_recordings_padded(tmp_path, pipeline, in_memory, sparse):
    recordings = Toy()
    data = make(tmp_path, pipeline, in_memory=in_memory, sparse=sparse)
    for indices in ([5, 0, 11, 5], [3], list(range(12)), [-1, 2]):
        sequences, labels = data.__getitems__(indices)
        values, lengths = padded(recordings, pipeline, [index % 12 for index in indices])
        assert sequences.values.dtype == torch.float32
        assert sequences.values.is_sparse == sparse
        assert torch.equal(dense(sequences), values)
        if len(set(lengths)) == 1:
            assert sequences.lengths is None
        else:
            assert sequences.lengths.tolist() == lengths
        assert labels.tolist() == [index % 12 % 3 for index in indices]
    if sparse:
        assert sequences.values.is_coalesced()
        slow = values.to_sparse().coalesce()
        assert torch.equal(sequences.values.indices(), slow.indices())
        assert torch.equal(sequences.values.values(), slow.values())


def test_what_it_says_of_itself(tmp_path):
    data = make(tmp_path)
    steps = data.store.steps
    assert (
        repr(data)
        == f"EventDataset(12 recordings of {steps.min()} to {steps.max()} steps of (2, 4, 5), 3 classes, levels=4)"
    )
    batch, _ = data.__getitems__(list(range(12)))
    most, least = steps.max(), steps.min()
    assert repr(batch) == f"Sequences({most} steps of 12 samples of (2, 4, 5), lengths {least} to {most}, float32, cpu)"
    assert (len(data), data.shape, data.levels) == (12, (2, 4, 5), 4)
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == [index % 3 for index in range(12)]
    assert make(tmp_path, BINS).levels == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_a_single_sample(tmp_path, sparse):
    values, label = make(tmp_path, COUNT, sparse=sparse)[7]
    assert torch.equal(values.to_dense(), torch.from_numpy(frames_of(Toy(), 7, COUNT.binning)))
    assert (label.shape, int(label)) == (torch.Size([]), 1)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_empty_batch(tmp_path, sparse):
    sequences, labels = make(tmp_path, sparse=sparse).__getitems__([])
    assert tuple(sequences.values.shape) == (1, 0, 2, 4, 5)
    assert len(sequences) == len(labels) == 0


def test_an_index_out_of_range(tmp_path):
    data = make(tmp_path).subset(torch.arange(4))
    for index in (4, -5):
        with pytest.raises(IndexError):
            data.__getitems__([0, index])
        with pytest.raises(IndexError):
            data[index]


def test_subsets(tmp_path):
    data = make(tmp_path)
    some = data.subset(torch.tensor([9, 1, 4])).subset(torch.tensor([2, 0]))
    assert some.labels.tolist() == [1, 0]
    sequences, _ = some.__getitems__([1, 0])
    assert torch.equal(sequences.values, padded(Toy(), WINDOW, [9, 4])[0])
    assert some.store is data.store


def test_labels_outside_the_classes(tmp_path):
    with pytest.raises(DataError, match="label 2 at index 2 is outside 0 to 1"):
        EventDataset(binned(Toy(), BINS, cache_dir=tmp_path), 2)


def test_a_cache_that_was_damaged_while_it_is_used(tmp_path):
    data = make(tmp_path)
    with open(data.store.folder / "places.bin", "r+b") as file:
        file.write(b"\xff" * 64)
    for sparse in (False, True):
        with pytest.raises(DataError, match="cache may be damaged"):
            EventDataset(data.store, 3, sparse=sparse).__getitems__([0])


def test_a_batch_shares_nothing_with_the_cache(tmp_path):
    data = make(tmp_path)
    data.__getitems__([1])[0].values.fill_(7)
    assert torch.equal(data.__getitems__([1])[0].values, padded(Toy(), WINDOW, [1])[0])


def all_batches(data, workers, epoch=1, **options):
    loaded = list(batches(data, 5, seed=3, epoch=epoch, workers=workers, **options))
    for sequences, _ in loaded:
        assert isinstance(sequences, Sequences)
    return [(dense(sequences), sequences.lengths, labels) for sequences, labels in loaded]


def assert_same(left, right):
    assert len(left) == len(right)
    for (values, lengths, labels), (values_, lengths_, labels_) in zip(left, right, strict=True):
        assert torch.equal(values, values_)
        assert (lengths is None) == (lengths_ is None)
        assert lengths is None or torch.equal(lengths, lengths_)
        assert torch.equal(labels, labels_)


ALL = "shift=1,flip-x,flip-y,polarity,roll-time=1,drop=0.2,noise=0.05,jitter=1"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("pipeline", "sparse"), [(BINS, False), (WINDOW, True)], ids=["bins", "window-sparse"])
def test_four_workers_give_what_none_give(tmp_path, pipeline, sparse):
    data = make(tmp_path, pipeline, 23, sparse=sparse, augmentations=parse_augmentations(ALL))
    alone = all_batches(data, 0)
    assert_same(alone, all_batches(data, 4))
    assert_same(alone, all_batches(data, 0))
    order = torch.cat([labels for *_, labels in alone])
    assert not torch.equal(order, data.labels)
    assert torch.equal(order.sort().values, data.labels.sort().values)


def test_an_empty_slice_of_a_rank_comes_out_of_a_worker(tmp_path):
    data = make(tmp_path, n=11)
    for workers in (0, 2):
        parts = [all_batches(data, workers, rank=rank, world_size=2) for rank in range(2)]
        assert [len(labels) for *_, labels in parts[0]] == [2, 2, 0]
        assert [len(labels) for *_, labels in parts[1]] == [3, 3, 1]


class Doubled(Dataset):
    """Another data set around it, which asks for batches in the worker."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return (self.data[index][0] * 2).sum(), self.data[index][1]

    def __getitems__(self, indices):
        sequences, labels = self.data.__getitems__(indices)
        return sequences.values * 2, labels


def test_wrapped_in_another_data_set_it_gives_sequences_in_workers_too(tmp_path):
    data = make(tmp_path)
    for workers in (0, 1):
        [(values, _)] = batches(Doubled(data), 12, seed=0, epoch=0, shuffle=False, workers=workers)
        assert torch.equal(values, 2 * padded(Toy(), WINDOW, range(12))[0])
    for values, _ in DataLoader(torch.utils.data.Subset(data, [4]), batch_size=None, num_workers=1):
        assert torch.equal(values, padded(Toy(), WINDOW, [4])[0][:, 0])


def test_pickled_it_maps_the_same_files(tmp_path):
    data = make(tmp_path, n=3000, augmentations=parse_augmentations("flip-x"))
    content = pickle.dumps(data.subset(torch.arange(10)))
    assert len(content) < 5000 < data.store.places.nbytes
    again = pickle.loads(content).plain()
    assert torch.equal(again.__getitems__([3])[0].values, padded(Toy(3000), WINDOW, [3])[0])


@pytest.mark.slow
def test_workers_that_are_started_afresh_map_the_same_files(tmp_path):
    data = make(tmp_path, n=40)
    loader = batches(data, 40, seed=0, epoch=0, shuffle=False, workers=1)
    loader = DataLoader(
        data, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    [(sequences, _)] = loader
    assert torch.equal(sequences.values, padded(Toy(40), WINDOW, range(40))[0])


def test_augmentations_are_those_of_the_epoch_and_the_recording(tmp_path):
    data = make(tmp_path, augmentations=parse_augmentations("flip-x,flip-y"))
    plain = padded(Toy(), WINDOW, range(12))[0]
    assert torch.equal(data.__getitems__(range(12))[0].values, plain)  # outside of an epoch
    epochs = [data.at_epoch(0, epoch).__getitems__(range(12))[0].values for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])
    seen = set()
    for epoch in epochs:
        for sample in range(12):
            ways = {
                dims: plain[:, sample].flip(dims) if dims else plain[:, sample] for dims in ((), (2,), (3,), (2, 3))
            }
            matching = [dims for dims, way in ways.items() if torch.equal(way, epoch[:, sample])]
            assert matching
            seen.update(matching)
    assert seen == {(), (2,), (3,), (2, 3)}
    some = data.subset(torch.tensor([7, 2])).at_epoch(0, 1)
    for place, index in enumerate([7, 2]):
        length = some[place][0].shape[0]
        assert torch.equal(some[place][0], epochs[1][:length, index])
    assert torch.equal(data.at_epoch(0, 1).plain().__getitems__(range(12))[0].values, plain)


def test_skipped_recordings_do_not_change_the_draws_of_the_others(tmp_path):
    chosen = parse_augmentations("noise=0.3")
    whole = EventDataset(binned(Toy(), BINS, cache_dir=tmp_path), augmentations=chosen).at_epoch(5, 6)
    store = binned(Toy(bad=(0, 3)), BINS, cache_dir=tmp_path, skip_bad=True)
    part = EventDataset(store, augmentations=chosen).at_epoch(5, 6)
    for row, index in enumerate(store.kept.tolist()):
        assert torch.equal(part[row][0], whole[index][0])


def test_augmentations_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="shift must be less than 4"):
        make(tmp_path, augmentations=(augmentations["shift"](4),))
    with pytest.raises(UserError, match="both draw"):
        make(tmp_path, augmentations=parse_augmentations("shift-time=1,roll-time=1"))


def test_random_batches_of_random_recordings(tmp_path):
    random = np.random.default_rng(0)
    for seed, pipeline in enumerate(PIPELINES * 3):
        recordings = Toy(9, seed=seed)
        data = EventDataset(binned(recordings, pipeline, in_memory=True), sparse=bool(seed % 2))
        indices = random.integers(0, 9, random.integers(1, 20)).tolist()
        assert torch.equal(dense(data.__getitems__(indices)[0]), padded(recordings, pipeline, indices)[0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("sparse", [False, True])
def test_torchs_loader_hands_out_sequences(tmp_path, workers, sparse):
    events = make(tmp_path, sparse=sparse)
    expected, labels = events.__getitems__(range(12))
    for dataset in (events, Subset(events, range(12))):
        if sparse and workers and dataset is not events:
            continue  # sparse tensors do not come through a pipe by themselves
        x, y = next(iter(DataLoader(dataset, batch_size=12, num_workers=workers)))
        assert isinstance(x, Sequences)
        assert torch.equal(dense(x), dense(expected))
        assert x.lengths.tolist() == expected.lengths.tolist()
        assert torch.equal(y, labels)


def test_single_samples_are_put_together_time_first(tmp_path):
    events = make(tmp_path)
    x, _ = next(iter(DataLoader(ConcatDataset([events, events]), batch_size=12)))
    expected, _ = events.__getitems__(range(12))
    assert torch.equal(x.values, expected.values)
    assert x.lengths.tolist() == expected.lengths.tolist()


def test_subsets_are_augmented_by_epoch(tmp_path):
    events = make(tmp_path, augmentations=parse_augmentations("drop=0.5"))
    (part, _), *_ = batches(Subset(events, [3, 5]), 2, seed=1, epoch=2, shuffle=False)
    assert torch.equal(part.values, events.at_epoch(1, 2).__getitems__([3, 5])[0].values)
    assert not torch.equal(part.values, events.__getitems__([3, 5])[0].values)
