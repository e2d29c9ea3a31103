"""Scales of weights, against searches and integrals that are slow and plain."""

import math

import pytest
import torch

from spikelfp.errors import UnknownNameError, UserError
from spikelfp.functional.grid import largest
from spikelfp.quantized import (
    CLIPS,
    FINE_MARGIN,
    MEAN_MULTIPLES,
    PERCENTILE,
    check_weights,
    choose_scale,
    threshold_scale,
)


def squared_error(weight: torch.Tensor, scale: float, bits: int) -> float:
    """``Σ (w − s q)²``, weight by weight."""
    top = 2 ** (bits - 1) - 1
    return sum((w - scale * max(-top, min(top, round(w / scale)))) ** 2 for w in weight.flatten().tolist())


def heavy(*shape: int) -> torch.Tensor:
    """Few large values, many near 0."""
    return torch.distributions.StudentT(3.0).sample(shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("draw", [torch.randn, torch.rand, heavy])
def test_mse_is_as_good_as_a_fine_search(bits, draw):
    weight = draw(40, 50)
    top = weight.abs().max().item() / largest(bits)
    best = min(squared_error(weight, top * step / 300, bits) for step in range(2, 301))
    found = choose_scale(weight, bits)
    assert squared_error(weight, found, bits) <= 1.04 * best
    assert found <= top * (1 + 1e-6)


def test_one_outlier_does_not_spoil_the_scale():
    weight = torch.randn(10_000)
    alone = choose_scale(weight, 2)
    weight[0] = 60.0
    assert choose_scale(weight, 2) == pytest.approx(alone, rel=0.2)
    assert choose_scale(weight, 2, "max") == 60


@pytest.mark.parametrize("bits", MEAN_MULTIPLES)
def test_the_multiples_of_the_mean_have_the_least_error_for_normal_weights(bits):
    top, mean = largest(bits), math.sqrt(2 / math.pi)

    def density(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def error(multiple):
        """``E (w − s q)²`` less ``E w²``, by the integrals of ``1``, ``w`` over each step of the positive half."""
        step, total = multiple * mean, 0.0
        for q in range(1, top + 1):
            low, high = (q - 0.5) * step, (q + 0.5) * step if q < top else math.inf
            share = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
            total += (q * step) ** 2 * share - 2 * q * step * (density(low) - (density(high) if q < top else 0))
        return total

    chosen = MEAN_MULTIPLES[bits]
    aside = 1.05 if bits == 2 else 1.03  # 1.5 stands for 1.534
    assert error(chosen) < min(error(chosen * aside), error(chosen / aside))


def test_mean_max_and_percentile_by_their_definitions():
    weight = heavy(30, 100)
    assert choose_scale(weight, 2, "mean") == pytest.approx(1.5 * weight.abs().mean().item())
    assert choose_scale(weight, 4, "max") == pytest.approx(weight.abs().max().item() / 7)
    clipped = (weight.abs() > 7 * choose_scale(weight, 4, "percentile") * (1 + 1e-6)).sum()
    assert clipped == round(weight.numel() * (1 - PERCENTILE / 100))


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("power_of_two", [False, True])
def test_each_channel_gets_the_scale_it_has_alone(clip, power_of_two):
    weight = heavy(6, 4, 3, 3) * torch.logspace(-3, 3, 6).reshape(6, 1, 1, 1)
    scales = choose_scale(weight, 4, clip, per_channel=True, power_of_two=power_of_two)
    assert scales.shape == (6, 1, 1, 1)
    for own, scale in zip(weight, scales, strict=True):
        assert scale.item() == pytest.approx(choose_scale(own, 4, clip, power_of_two=power_of_two), rel=1e-6)


def test_a_silent_channel_gets_the_largest_scale_of_the_others():
    weight = torch.randn(3, 5)
    weight[1] = 0
    scales = choose_scale(weight, 4, per_channel=True).flatten()
    assert scales[1] == scales[[0, 2]].max()


def test_sparse_weights_are_not_all_clipped_by_percentile():
    weight = torch.zeros(100, 100)
    weight[3, 4] = 2.0
    assert choose_scale(weight, 2, "percentile") == 2


@pytest.mark.parametrize("clip", CLIPS)
def test_powers_of_two(clip):
    weight = torch.randn(50, 20)
    free, found = choose_scale(weight, 4, clip), choose_scale(weight, 4, clip, power_of_two=True)
    mantissa, _ = math.frexp(found)
    assert mantissa == 0.5
    below = 2.0 ** math.floor(math.log2(free))
    assert found in (below, 2 * below)
    if clip == "max":
        assert found == 2 * below
    if clip == "mse":
        errors = {scale: squared_error(weight, scale, 4) for scale in (below, 2 * below)}
        assert found == min(errors, key=errors.get)


def test_the_threshold_is_a_whole_number_of_steps_and_the_margin():
    for free in (0.9, 0.2, 0.03, 0.0007):
        steps, scale = threshold_scale(free, 0.7)
        assert steps * scale + FINE_MARGIN * scale == pytest.approx(0.7)
        assert steps == 1 or abs(0.7 / free - FINE_MARGIN - steps) <= 0.5
    assert threshold_scale(5.0, 0.7)[0] == 1


def test_what_is_refused():
    with pytest.raises(UserError, match="the weights of layer '3' are all zero"):
        choose_scale(torch.zeros(3, 4), 4, what="weights of layer '3'")
    for bad in (math.nan, math.inf):
        with pytest.raises(UserError, match="not finite"):
            check_weights(torch.tensor([1.0, bad]))
    for bits in (1, 17, 2.5):
        with pytest.raises(UserError, match=f"from 2 to 16, got {bits}"):
            choose_scale(torch.ones(3), bits)
    with pytest.raises(UnknownNameError, match="did you mean 'mse'"):
        choose_scale(torch.ones(3), 4, "mes")


def test_in_training_no_tenth_of_a_bias_step_equals_a_threshold():
    """β = 0.9 makes membranes of tenths, hundredths, … of the 64th of a step that a bias is."""
    assert (FINE_MARGIN * 64) % 1 == 49 / 128
    for digits in range(7):
        assert (FINE_MARGIN * 64 * 10**digits) % 1 != 0
