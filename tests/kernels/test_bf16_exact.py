"""Three bfloat16 parts make up a float32 weight to the last bit; products of spikes with them are exact."""

import pytest
import torch

from spikelfp.errors import ShapeError, UserError
from spikelfp.kernels import bf16_exact

LARGEST, SMALLEST = torch.finfo(torch.float32).max, 2.0**-149


def whole(parts):
    return parts.low.float() + parts.middle.float() + parts.high.float()


def random_bits(count):
    """Float32 numbers of every sign, exponent and fraction alike: any 32 bits."""
    bits = torch.randint(-(2**31), 2**31, (count,), dtype=torch.int64).to(torch.int32)
    return bits.view(torch.float32)


def test_the_parts_add_up_to_the_last_bit():
    x = random_bits(300_000)
    x = x[torch.isfinite(x) & (x.abs() >= 2.0**-110)]
    assert len(x) > 200_000
    parts = bf16_exact.split(x)
    assert all(part.dtype == torch.bfloat16 for part in parts)
    assert torch.equal(whole(parts), x)
    assert torch.equal(sum(part.double() for part in parts), x.double())  # whatever the order of the sum


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, -(2.0**-110) * (2 - 2.0**-23), LARGEST, -LARGEST, 1 + 2.0**-23])
def test_single_values(value):
    x = torch.tensor([value])
    assert torch.equal(whole(bf16_exact.split(x)), x)


def test_below_the_smallest_bfloat16_number_bits_are_lost():
    x = random_bits(300_000)
    x = x[x.abs() < 2.0**-110]
    x = torch.cat([x, torch.tensor([SMALLEST, 2.0**-133, -(2.0**-126)])])
    lost = (whole(bf16_exact.split(x)).double() - x.double()).abs()
    assert lost.max() < 2.0**-133
    assert lost[-3] == SMALLEST
    assert not lost[-2:].any()
    assert (lost > 0).any()


def test_infinity_and_nan_stay_what_no_sum_gives():
    assert whole(bf16_exact.split(torch.tensor([float("inf"), float("nan")]))).isnan().all()


def exact_product(spikes, weight):
    """In double precision: 24-bit weights, a few hundred of them of like size, add up without rounding."""
    return spikes.double() @ weight.double()


def spikes_and_weights():
    return (torch.rand(37, 200) < 0.2).float(), torch.randn(200, 23)


@pytest.mark.parametrize("made", [bf16_exact.split, lambda w: w], ids=["parts", "weights"])
def test_products_are_those_of_float32_weights(made):
    spikes, weight = spikes_and_weights()
    found = bf16_exact.matmul(spikes, made(weight))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact_product(spikes, weight), rtol=1e-6, atol=1e-5)


def test_one_spike_a_row_picks_its_weights_exactly():
    weight = torch.randn(50, 8) * torch.logspace(-20, 20, 50).unsqueeze(1)
    assert torch.equal(bf16_exact.matmul(torch.eye(50), weight), weight)


@pytest.mark.gpu
def test_products_on_cuda():
    spikes, weight = spikes_and_weights()
    found = bf16_exact.matmul(spikes.cuda(), weight.cuda()).cpu()
    torch.testing.assert_close(found.double(), exact_product(spikes, weight), rtol=1e-5, atol=1e-4)
    assert torch.equal(bf16_exact.matmul(torch.eye(200, device="cuda"), weight.cuda()).cpu(), weight)


def test_what_does_not_fit():
    with pytest.raises(UserError, match="float64"):
        bf16_exact.split(torch.zeros(2).double())
    with pytest.raises(ShapeError, match=r"\(3, 4\) and \(5, 2\)"):
        bf16_exact.matmul(torch.zeros(3, 4), torch.zeros(5, 2))
