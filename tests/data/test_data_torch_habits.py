"""Data sets in torch's DataLoader, Subset, random_split and ConcatDataset; arrays of one's own."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from spikelfp import data
from spikelfp.data.samples import labels_of
from spikelfp.errors import DataError, ShapeError, UserError

STATIC = data.load("digits").train.subset(torch.arange(20))
UNEQUAL = data.arrays(
    torch.arange(6 * 4 * 2).view(6, 4, 2).float(), [0, 1, 2, 0, 1, 2], sequences=True, lengths=[1, 2, 3, 4, 4, 2]
)


@pytest.mark.parametrize("workers", [0, 1])
def test_static_data_comes_in_plain_batches(workers):
    loader = DataLoader(STATIC, batch_size=8, num_workers=workers)
    batches = list(loader)
    assert [type(x) for x, _ in batches] == [torch.Tensor] * 3
    assert [tuple(x.shape) for x, _ in batches] == [(8, 1, 8, 8), (8, 1, 8, 8), (4, 1, 8, 8)]
    assert torch.equal(torch.cat([x for x, _ in batches]), STATIC.values(STATIC.images))
    assert torch.equal(torch.cat([y for _, y in batches]), STATIC.labels)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["itself", "subset", "concatenated"])
def test_sequences_come_time_first_with_their_lengths(kind, workers):
    dataset = {"itself": UNEQUAL, "subset": Subset(UNEQUAL, range(6)), "concatenated": ConcatDataset([UNEQUAL])}[kind]
    (first, y), _ = list(DataLoader(dataset, batch_size=4, num_workers=workers))
    assert isinstance(first, data.Sequences)
    assert first.values.shape == (4, 4, 2)
    assert first.lengths.tolist() == [1, 2, 3, 4]
    assert y.tolist() == [0, 1, 2, 0]
    for sample in range(4):
        steps, _ = UNEQUAL[sample]
        assert torch.equal(first.values[: len(steps), sample], steps)
        assert not first.values[len(steps) :, sample].any()


def test_parts_by_random_split_are_fetched_whole(monkeypatch):
    one, other = random_split(STATIC, [0.5, 0.5], generator=torch.Generator().manual_seed(0))
    calls = []
    original = data.ArrayDataset.__getitems__
    monkeypatch.setattr(
        data.ArrayDataset, "__getitems__", lambda self, indices: calls.append(len(indices)) or original(self, indices)
    )
    x, y = next(iter(DataLoader(one, batch_size=10)))
    assert calls == [10]
    assert torch.equal(y, STATIC.labels[torch.tensor(one.indices)])
    assert torch.equal(labels_of(other), STATIC.labels[torch.tensor(other.indices)])
    assert x.shape == (10, 1, 8, 8)


def test_subsets_are_augmented_by_epoch_too():
    whole = data.Augmented(STATIC)
    part = Subset(whole, range(5, 15))
    (x, y), *_ = data.batches(part, 10, seed=1, epoch=2, shuffle=False)
    expected, labels = whole.at_epoch(1, 2).__getitems__(range(5, 15))
    assert torch.equal(x, expected)
    assert torch.equal(y, labels)
    assert torch.equal(labels_of(part), STATIC.labels[5:15])


def test_a_pair_still_unpacks_and_computes_as_a_tensor():
    x, y = STATIC.__getitems__([0, 1])
    assert type(x + 0) is torch.Tensor
    assert type(x[0]) is torch.Tensor
    assert torch.equal(y, STATIC.labels[:2])


def test_collate_pads_samples_of_ones_own():
    samples = [(torch.ones(2, 3), 1), (torch.full((4, 3), 2.0), 0)]
    x, y = next(iter(DataLoader(samples, batch_size=2, collate_fn=data.collate)))
    assert x.lengths.tolist() == [2, 4]
    assert x.values[:, 0].sum(1).tolist() == [3, 3, 0, 0]
    assert y.tolist() == [1, 0]
    with pytest.raises(ShapeError, match="steps of one shape"):
        data.collate([(torch.ones(2, 3), 1), (torch.ones(2, 4), 0)])
    with pytest.raises(ShapeError, match="is a pair"):
        data.collate([torch.ones(2, 3)])


def test_samples_that_make_no_batch_are_named():
    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return object(), 1

    with pytest.raises(DataError, match=r"these samples \(object, int\) cannot be put together"):
        next(iter(data.batches(Pictures(), 2, seed=0, epoch=0)))
    unequal = [(torch.ones(n, 3), 0) for n in (1, 2)]
    with pytest.raises(DataError, match=r"collate_fn=data\.collate"):
        next(iter(data.batches(unequal, 2, seed=0, epoch=0)))


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_arrays_of_every_dtype_keep_their_values(dtype, as_tensor):
    values = np.arange(12).reshape(4, 3).__mod__(2).astype(dtype)
    made = data.arrays(torch.from_numpy(values) if as_tensor else values, [0, 1, 0, 1])
    x, _ = made.__getitems__(range(4))
    assert x.dtype == torch.float32
    assert np.array_equal(x.numpy(), values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.bool_])
def test_labels_of_every_integer_dtype(dtype):
    labels = np.array([0, 1, 1, 0]).astype(dtype)
    for given in (labels, torch.from_numpy(labels), labels.tolist()):
        made = data.arrays(np.ones((4, 2)), given)
        assert made.labels.dtype == torch.int64
        assert made.labels.tolist() == [0, 1, 1, 0]


def test_forms_are_told_apart():
    ones = np.ones
    assert data.arrays(ones((4, 5)), [0] * 4).shape == (5,)
    assert data.arrays(ones((4, 1, 6, 6)), [0] * 4).shape == (1, 6, 6)
    assert data.arrays(ones((4, 6, 6)), [0] * 4, sequences=False).shape == (6, 6)
    assert data.arrays(ones((4, 7, 5)), [0] * 4, sequences=True).shape == (5,)
    assert data.arrays(ones((4, 7, 2, 6, 6)), [0] * 4).shape == (2, 6, 6)
    listed = data.arrays([ones((2, 5)), ones((3, 5))], [0, 1])
    assert isinstance(listed, data.SequenceArrays)
    assert listed.lengths.tolist() == [2, 3]
    assert repr(listed) == "SequenceArrays(2 sequences, 2 to 3 steps of shape (5,), labels up to 1)"


def test_what_lies_behind_a_sequence_counts_for_nothing():
    values = torch.ones(2, 3, 1)
    values[0, 1:] = float("nan")
    made = data.arrays(values, [0, 1], lengths=[1, 3])
    x, _ = made.__getitems__([0, 1])
    assert x.values[:, :, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]
    x, _ = made.subset(torch.tensor([0])).__getitems__([0])
    assert x.values.shape == (1, 1, 1)
    assert x.lengths is None


@pytest.mark.parametrize(
    ("make", "error", "named"),
    [
        (lambda: data.arrays(np.ones((4, 5, 6)), [0] * 4), ShapeError, "say sequences=True or sequences=False"),
        (lambda: data.arrays(np.ones((7, 4, 5)), [0] * 4, sequences=True), DataError, "time first"),
        (lambda: data.arrays(np.ones((4, 5)), [0] * 3), DataError, "4 samples but 3 labels"),
        (lambda: data.arrays(np.ones(4), [0] * 4), ShapeError, r"X\[:, None\]"),
        (lambda: data.arrays(np.ones((0, 5)), []), DataError, "no samples"),
        (lambda: data.arrays([[1.0, float("nan")]], [0]), DataError, "sample 0 holds NaN"),
        (lambda: data.arrays(torch.full((1, 2, 3), torch.inf), [0], sequences=True), DataError, "sample 0 holds NaN"),
        (lambda: data.arrays(np.ones((2, 3)), [0.0, 1.0], targets="classes"), DataError, "integers"),
        (lambda: data.arrays(np.ones((2, 3)), np.eye(2), targets="classes"), DataError, r"y\.argmax\(1\)"),
        (lambda: data.arrays(np.ones((2, 3)), 2 * np.eye(2, dtype=int)), DataError, r"y\.argmax\(1\)"),
        (
            lambda: data.arrays(np.ones((2, 3)), np.eye(2, dtype=int), targets="values"),
            DataError,
            r"y\.astype\(float\)",
        ),
        (lambda: data.arrays(np.ones((2, 3)), np.ones((2, 3, 1))), DataError, r"y\.reshape"),
        (lambda: data.arrays(np.ones((2, 3)), [0.0, np.inf]), DataError, "targets of sample 1 hold NaN or infinity"),
        (lambda: data.arrays(np.ones((2, 3)), [0.0, 1.0], classes=3), DataError, "classes=3"),
        (lambda: data.arrays(np.ones((2, 3)), [0, 1], targets="clases"), UserError, "did you mean 'classes'"),
        (
            lambda: data.arrays(np.ones((2, 4, 1)), np.ones((2, 4), int), sequences=True),
            DataError,
            r'targets="labels" or targets="steps"',
        ),
        (
            lambda: data.arrays(np.ones((2, 4, 1)), [[0, 1, -1, 0], [2, 1, 0, 0]], lengths=[3, 4]),
            DataError,
            "label -1 at index 0, step 2",
        ),
        (lambda: data.arrays(np.ones((2, 3)), [[0], [1]]), DataError, r"y\[:, 0\]"),
        (lambda: data.arrays(np.ones((2, 3)), ["cat", "dog"]), DataError, "return_inverse"),
        (lambda: data.arrays(np.ones((2, 3)), [0, -1]), DataError, "label -1"),
        (lambda: data.arrays(np.ones((2, 3)), [0, 5], classes=3), DataError, "label 5 at index 1"),
        (lambda: data.arrays(np.full((2, 3), 7, np.uint8), [0, 1]), UserError, "scale=1/255"),
        (lambda: data.arrays(np.array([["a"]]), [0]), DataError, "inputs are numbers"),
        (lambda: data.arrays([[1.0], [1.0, 2.0]], [0, 1]), DataError, "rows of one length"),
        (lambda: data.arrays(torch.eye(2).to_sparse(), [0, 1]), DataError, "to_dense"),
        (lambda: data.arrays(np.ones((2, 3, 1)), [0, 1], lengths=[1, 4]), ShapeError, "1 to 3, got 1 to 4"),
        (lambda: data.arrays(np.ones((2, 3, 1)), [0, 1], lengths=[1]), ShapeError, "for each of 2 sequences"),
        (lambda: data.arrays(np.ones((2, 3)), [0, 1], sequences=True), ShapeError, r"X\[\.\.\., None\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(make, error, named):
    with pytest.raises(error, match=named) as found:
        make()
    assert "\n" not in str(found.value)


def test_targets_by_their_dtype_and_shape():
    x = np.ones((3, 2))
    values = data.arrays(x, np.array([0.5, 1.0, 2.0]))
    assert (values.kind, values.labels.dtype, values.labels.tolist()) == ("values", torch.float32, [[0.5], [1], [2]])
    assert data.arrays(x, torch.ones(3, 4).double()).labels.shape == (3, 4)
    sets = data.arrays(x, np.array([[0, 1], [1, 1], [0, 0]]))
    assert (sets.kind, sets.labels.dtype) == ("labels", torch.int64)
    assert data.arrays(x, np.array([[True, False]] * 3)).kind == "labels"
    _, y = values.subset(torch.tensor([2, 0])).__getitems__([0, 1])
    assert y.tolist() == [[2], [0.5]]


def test_a_class_of_every_step_ends_with_its_sequence():
    steps = [torch.ones(2, 1), torch.ones(4, 1)]
    made = data.arrays(steps, [[1, 0], [2, 1, 0, 3]])
    assert made.kind == "steps"
    assert made[0][1].tolist() == [1, 0]
    x, y = made.__getitems__([1, 0])
    assert (x.lengths.tolist(), y.tolist()) == ([4, 2], [[2, 1, 0, 3], [1, 0, 0, 0]])
    assert made.__getitems__([0])[1].tolist() == [[1, 0]]
    padded = data.arrays(np.ones((2, 3, 1)), [[1, 7, -9], [0, 1, 2]], lengths=[1, 3], targets="steps")
    assert padded.__getitems__([0])[1].tolist() == [[1]]


def test_values_of_sequences():
    made = data.arrays(np.ones((2, 3, 1)), np.array([0.5, 2.0]), sequences=True)
    x, y = made.__getitems__([0, 1])
    assert (tuple(x.values.shape), y.tolist()) == ((3, 2, 1), [[0.5], [2]])


def test_labels_of_other_data_sets():
    pairs = TensorDataset(torch.ones(3, 2), torch.tensor([2, 1, 0]))
    assert labels_of(Subset(pairs, [2, 0])).tolist() == [0, 2]
    assert labels_of([(1, 2)]) is None


def test_a_fetched_batch_is_a_plain_tensor_in_files_and_copies():
    images, _ = data.load("digits").train.__getitems__(range(3))
    file = io.BytesIO()
    torch.save(images, file)
    file.seek(0)
    for made in (
        torch.load(file, weights_only=True),
        copy.deepcopy(images),
        pickle.loads(pickle.dumps(images)),
        images + 0,
    ):
        assert type(made) is torch.Tensor
        assert torch.equal(made, images)
