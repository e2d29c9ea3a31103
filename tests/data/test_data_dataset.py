import pickle

import pytest
import torch

from spikelfp.data import ArrayDataset
from spikelfp.errors import DataError


def labels(n: int) -> torch.Tensor:
    return torch.arange(n) % 3


def test_uint8_images_are_scaled_to_the_unit_interval_when_fetched():
    images = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    data = ArrayDataset(images, labels(256), scale=1 / 255)
    x, y = data.__getitems__(list(range(256)))
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.min() == 0
    assert x.max() == 1
    torch.testing.assert_close(x.flatten(), torch.arange(256) / 255)
    assert data.images.dtype == torch.uint8


def test_a_batch_equals_its_samples_one_by_one():
    data = ArrayDataset(torch.rand(7, 2, 3), labels(7), scale=0.5)
    x, y = data.__getitems__([4, 0, 4, -1])
    for row, index in enumerate([4, 0, 4, 6]):
        one_x, one_y = data[index]
        assert torch.equal(x[row], one_x)
        assert torch.equal(one_x, data.images[index] * 0.5)
        assert y[row] == one_y == data.labels[index]
    assert one_y.shape == ()


def test_an_empty_batch_keeps_the_sample_shape():
    x, y = ArrayDataset(torch.rand(7, 2, 3), labels(7)).__getitems__([])
    assert x.shape == (0, 2, 3)
    assert y.shape == (0,)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_writing_into_a_batch_leaves_the_data_alone():
    data = ArrayDataset(torch.ones(3, 2), labels(3))
    data.__getitems__([0, 1])[0].zero_()
    data[2][0].zero_()
    assert torch.equal(data.images, torch.ones(3, 2))


def test_an_index_outside_is_refused():
    data = ArrayDataset(torch.ones(3, 2), labels(3))
    with pytest.raises(IndexError):
        data[3]
    assert len(list(data)) == len(data) == 3


def test_it_can_be_sent_to_another_process():
    data = pickle.loads(pickle.dumps(ArrayDataset(torch.rand(3, 2), labels(3), 0.5, classes=3)))
    assert (len(data), data.scale, data.classes) == (3, 0.5, 3)


@pytest.mark.parametrize(("bad", "index"), [(-1, 4), (10, 2)])
def test_a_label_outside_the_classes_is_named_with_its_index(bad, index):
    y = labels(6)
    y[index] = bad
    y[5] = 99
    with pytest.raises(DataError, match=rf"label {bad} at index {index} is outside 0 to 9"):
        ArrayDataset(torch.rand(6, 2), y, classes=10)


def test_without_classes_only_negative_labels_are_refused():
    assert len(ArrayDataset(torch.rand(1, 2), torch.tensor([1000]))) == 1
    with pytest.raises(DataError, match=r"label -2 at index 0 is outside 0 or more"):
        ArrayDataset(torch.rand(1, 2), torch.tensor([-2]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_sample_that_is_not_finite_is_named(bad):
    images = torch.rand(6, 2, 2)
    images[3, 1, 0] = images[5, 0, 0] = bad
    with pytest.raises(DataError, match=r"sample 3 holds NaN or infinity \(2 of 6"):
        ArrayDataset(images, labels(6))


@pytest.mark.parametrize(
    ("images", "y", "message"),
    [
        (torch.rand(5, 2), labels(4), "5 images but 4 labels"),
        (torch.rand(0, 2), labels(0), r"no sample: their shape is \[0, 2\]"),
        (torch.rand(2, 0), labels(2), r"no sample: their shape is \[2, 0\]"),
        (torch.tensor(1.0), labels(1), r"no sample: their shape is \[\]"),
        (torch.ones(2, 2, dtype=torch.int32), labels(2), "floating point tensor, got torch.int32"),
        ([[1.0]], labels(1), "floating point tensor, got list"),
        (torch.rand(2, 2), labels(2).int(), "int64 tensor of shape .N., got torch.int32"),
        (torch.rand(2, 2), labels(2)[:, None], r"int64 tensor .* of shape \[2, 1\]"),
        (torch.rand(2, 2), [0, 1], "int64 tensor .* got list"),
    ],
)
def test_wrong_tensors_are_refused(images, y, message):
    with pytest.raises(DataError, match=message):
        ArrayDataset(images, y)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_useless_scale_is_refused(scale):
    with pytest.raises(DataError, match="scale must be positive and finite"):
        ArrayDataset(torch.rand(2, 2), labels(2), scale=scale)
