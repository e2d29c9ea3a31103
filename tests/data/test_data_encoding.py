import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import data, nn
from spikelfp.errors import ShapeError, UnknownNameError, UserError

ALL = ["constant", "delta", "latency", "rate"]
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def sixteenths(shape: list[int], seed: int) -> torch.Tensor:
    """Values k/16 with k in 0..16: exact in float32, and 0 and 1 among them often."""
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(seed)) / 16


def test_the_registry_holds_them():
    assert list(data.encodings) == ALL
    with pytest.raises(UnknownNameError, match="unknown encoding 'latncy': did you mean 'latency'"):
        data.encode("latncy", torch.rand(1, 2), 3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(3,), (2, 1, 8, 8), (0, 1, 8, 8)])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_shape_type_and_range(name, shape, steps):
    x = data.encode(name, torch.rand(shape), steps)
    assert x.shape == (steps, *shape)
    assert x.dtype == torch.float32
    assert ((x >= 0) & (x <= 1)).all()


@pytest.mark.parametrize("name", ["delta", "latency", "rate"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_spikes_are_float32_whatever_the_images_are(name, dtype):
    x = data.encode(name, torch.rand(2, 3).to(dtype), 4)
    assert x.dtype == torch.float32
    assert ((x == 0) | (x == 1)).all()


def test_constant_copies_nothing():
    images = torch.rand(2, 3)
    x = data.constant(images, 5)
    assert x.stride() == (0, 3, 1)
    assert x.data_ptr() == images.data_ptr()
    assert all(torch.equal(step, images) for step in x)
    assert data.constant(images.double(), 5).dtype == torch.float64


def test_rate_draws_every_pixel_at_every_step_by_itself():
    images = torch.rand(3, 4)
    torch.manual_seed(0)
    x = data.rate(images, 6)
    torch.manual_seed(0)
    reference = torch.bernoulli(torch.stack([images] * 6))
    assert torch.equal(x, reference)
    assert not torch.equal(data.rate(images, 6), reference)


def test_rate_has_the_pixels_as_its_mean():
    images = torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]])
    torch.manual_seed(0)
    mean = data.rate(images, 20_000).mean(0)
    assert mean[0, 0] == 0
    assert mean[0, 4] == 1
    # five standard deviations of the mean of 20,000 draws
    assert ((mean - images).abs() <= 5 * (images * (1 - images) / 20_000).sqrt() + 1e-6).all()


@settings(deadline=None, max_examples=40)
@given(shape=shapes, steps=st.integers(1, 40), threshold=st.sampled_from([0.01, 0.3]), seed=st.integers(0, 999))
def test_latency_follows_its_formula(shape, steps, threshold, seed):
    images = sixteenths(shape, seed)
    x = data.latency(images, steps, threshold=threshold).reshape(steps, -1)
    for pixel, value in enumerate(images.flatten().tolist()):
        expected = [0.0] * steps
        if value >= threshold:
            expected[round((1 - value) * (steps - 1))] = 1.0
        assert x[:, pixel].tolist() == expected


def test_latency_uses_every_step_and_spares_black_pixels():
    images = (torch.arange(256) / 255)[None]
    x = data.latency(images, 25)
    assert (x.sum(2)[:, 0] > 0).all()
    assert x[:, 0, 0].sum() == 0
    assert x[0, 0, 255] == 1
    assert x[24, 0, 3] == 1
    assert x.sum(0)[0].tolist() == [0, 0, 0] + [1] * 253  # 1/255 and 2/255 lie below the default threshold
    assert data.latency(images, 25, threshold=1 / 512).sum() == 255


def test_latency_of_an_image_does_not_depend_on_its_batch():
    images = sixteenths([6, 5], 0) * 0.75
    together = data.latency(images, 9)
    for index in range(6):
        assert torch.equal(data.latency(images[index : index + 1], 9), together[:, index : index + 1])


@settings(deadline=None, max_examples=40)
@given(
    shape=shapes,
    threshold=st.sampled_from([0.0625, 0.25, 0.5]),
    off=st.booleans(),
    seed=st.integers(0, 999),
)
def test_delta_of_a_series_follows_its_formula(shape, threshold, off, seed):
    series = sixteenths(shape, seed) - 0.5
    spikes = data.delta_series(series, threshold=threshold, off_spike=off)
    assert spikes.shape == series.shape
    flat, flat_spikes = series.reshape(len(series), -1), spikes.reshape(len(series), -1)
    for pixel in range(flat.shape[1]):
        previous = 0.0
        for t in range(len(flat)):
            change = flat[t, pixel].item() - previous
            expected = 1 if change >= threshold else -1 if off and change <= -threshold else 0
            assert flat_spikes[t, pixel] == expected
            previous = flat[t, pixel].item()


def test_delta_of_a_still_image_spikes_at_its_onset_only():
    images = torch.tensor([[0.0, 0.09, 0.1, 1.0, -0.5]])
    assert data.delta(images, 3).tolist() == [[[0, 0, 1, 1, 0]], [[0] * 5], [[0] * 5]]
    assert data.delta(images, 2, threshold=0.5, off_spike=True).tolist() == [[[0, 0, 0, 1, -1]], [[0] * 5]]
    assert torch.equal(data.encode("delta", images, 2, threshold=0.05), data.delta(images, 2, threshold=0.05))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [0, -3, 2.5])
def test_steps_below_one_are_refused(name, steps):
    with pytest.raises(UserError, match=f"steps must be a whole number of at least 1, got {steps}"):
        data.encode(name, torch.rand(2, 3), steps)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_located(name, value):
    images = torch.rand(4, 2, 3)
    images[2, 1, 0] = images[3, 0, 0] = value
    with pytest.raises(ShapeError, match=rf"the value at \[2, 1, 0\] is {value}"):
        data.encode(name, images, 3)


def test_nan_in_a_series_is_located():
    series = torch.zeros(4, 2)
    series[3, 1] = float("nan")
    with pytest.raises(ShapeError, match=r"must be finite: the value at \[3, 1\] is nan"):
        data.delta_series(series)


@pytest.mark.parametrize("name", ["latency", "rate"])
@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_values_outside_the_unit_interval_are_refused(name, value):
    images = torch.rand(2, 3)
    images[1, 2] = value
    with pytest.raises(ShapeError, match=rf"must be in \[0, 1\]: the value at \[1, 2\] is {value}"):
        data.encode(name, images, 3)


@pytest.mark.parametrize("name", ALL)
def test_integer_images_are_refused(name):
    with pytest.raises(ShapeError, match=r"floating point, got torch.uint8: scale them to \[0, 1\] first"):
        data.encode(name, torch.ones(2, 3, dtype=torch.uint8), 3)


@pytest.mark.parametrize("threshold", [0.0, -0.1, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold):
    with pytest.raises(UserError, match=f"delta threshold must be positive, got {threshold}"):
        data.delta(torch.rand(2, 3), 3, threshold=threshold)
    with pytest.raises(UserError, match=f"latency threshold must lie between 0 and 1, got {threshold}"):
        data.latency(torch.rand(2, 3), 3, threshold=threshold)


def test_a_series_without_steps_is_refused():
    with pytest.raises(ShapeError, match=r"at least one step, got shape \[0, 3\]"):
        data.delta_series(torch.rand(0, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ALL)
def test_sequences_stay_on_the_device(name):
    images = sixteenths([3, 4], 0)
    x = data.encode(name, images.cuda(), 5)
    assert x.is_cuda
    if name != "rate":
        assert torch.equal(x.cpu(), data.encode(name, images, 5))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("images", [np.zeros((2, 3), np.float32), [[0.0]], torch.zeros(2, 3).to_sparse()])
def test_images_that_are_no_dense_tensor(name, images):
    with pytest.raises(ShapeError, match="images to encode are a dense tensor"):
        data.encode(name, images, 3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", ["3", None, True, 2.5])
def test_steps_that_are_none(name, steps):
    with pytest.raises(UserError, match=f"steps must be a whole number of at least 1, got {steps!r}"):
        data.encode(name, torch.rand(2, 3), steps)


def test_a_constant_sequence_takes_steps_of_numpy_and_dense_tensors():
    assert nn.constant(torch.zeros(2, 3), np.int64(4)).shape == (4, 2, 3)
    with pytest.raises(UserError, match="constant takes a dense tensor"):
        nn.constant(torch.zeros(2, 3).to_sparse(), 4)
