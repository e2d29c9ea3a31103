"""Statistics of spikes against loops over the trains."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import analysis, models, nn
from spikelfp.analysis import SpikeStatistics
from spikelfp.errors import ShapeError, UserError


def by_hand(spikes, mask):
    """The statistics, one train after the other."""
    steps, samples, neurons = spikes.shape
    rates, silent, saturated, firsts, gaps, cvs = [], 0, 0, [], [], []
    counted = int(mask.sum())
    for n in range(neurons):
        total, full = 0, True
        for b in range(samples):
            times = [t + 1 for t in range(steps) if mask[t, b] and spikes[t, b, n] > 0]
            total += sum(float(spikes[t, b, n]) for t in range(steps) if mask[t, b])
            full &= len(times) == int(mask[:, b].sum())
            firsts += times[:1]
            own = [late - early for early, late in pairwise(times)]
            gaps += own
            if len(own) > 1:
                mean = sum(own) / len(own)
                cvs.append(math.sqrt(sum((gap - mean) ** 2 for gap in own) / len(own)) / mean)
        rates.append(total / counted)
        silent, saturated = silent + (total == 0), saturated + full

    def mean(values):
        return sum(values) / len(values) if values else math.nan

    return rates, silent / neurons, saturated / neurons, mean(firsts), mean(gaps), mean(cvs)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.1, 0.5, 0.9]))
def test_statistics_are_those_of_each_train(seed, steps, samples, neurons, rate):
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(steps, samples, neurons, generator=generator) < rate).float()
    spikes[..., 0] = seed % 3  # silent, saturated, or two spikes a step
    lengths = torch.randint(1, steps + 1, (samples,), generator=generator)
    mask = torch.arange(steps).unsqueeze(1) < lengths
    for own in (None, mask):
        found = SpikeStatistics.of(spikes, own)
        wanted = by_hand(spikes, torch.ones(steps, samples, dtype=torch.bool) if own is None else own)
        assert found.rates.tolist() == pytest.approx(wanted[0])
        values = (found.silent, found.saturated, found.first_spike, found.interval, found.cv)
        assert values == pytest.approx(wanted[1:], nan_ok=True, abs=1e-7)


def test_a_clock_has_no_variation():
    spikes = torch.zeros(12, 1, 1)
    spikes[2::3] = 1
    found = SpikeStatistics.of(spikes)
    assert (found.first_spike, found.interval, found.cv, found.rate) == (3, 3, 0, pytest.approx(1 / 3))


def test_every_layer_that_fires_is_measured():
    net = models.models["lif-mlp"]((6,), 3, hidden=(5,))
    x = torch.rand(7, 4, 6)
    found = analysis.spike_statistics(net, x)
    assert list(found) == list(analysis.record(net, x))
    rates = analysis.spike_rates(net, x)
    assert {name: each.rate for name, each in found.items()} == pytest.approx(rates, abs=1e-6)
    assert next(iter(found.values())).rates.shape == (5,)


@pytest.mark.parametrize(
    ("spikes", "mask"),
    [
        (torch.ones(3, 2), None),
        (torch.ones(3, 0, 2), None),
        (torch.ones(3, 2, 2), torch.ones(3, 2)),
        (torch.ones(3, 2, 2), torch.ones(2, 2, dtype=torch.bool)),
        (torch.ones(3, 2, 2), torch.zeros(3, 2, dtype=torch.bool)),
    ],
)
def test_other_shapes_are_refused(spikes, mask):
    with pytest.raises(ShapeError):
        SpikeStatistics.of(spikes, mask)


def test_rates_of_short_numbers_are_exact():
    net = nn.Sequential(nn.Linear(4, 300), nn.LIF()).bfloat16()
    x = torch.rand(7, 5, 4).bfloat16()
    spikes = analysis.record(net, x)["1"].double()
    assert 0 < spikes.sum() < spikes.numel()
    assert analysis.spike_rates(net, x) == {"1": float(spikes.sum()) / spikes.numel()}


@pytest.mark.parametrize(
    ("spikes", "said"),
    [
        (-torch.ones(3, 2, 2), "negative"),
        (torch.full((3, 2, 2), 0.5), "fractions"),
        (torch.full((3, 2, 2), torch.nan), "NaN"),
        (torch.ones(3, 2, 2).numpy(), "got ndarray"),
        (torch.ones(3, 2, 2).to_sparse(), "dense"),
    ],
)
def test_what_counts_no_spikes_is_refused(spikes, said):
    with pytest.raises(UserError, match=said):
        SpikeStatistics.of(spikes)


def test_inputs_that_make_no_spikes_are_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF())
    with pytest.raises(UserError, match="NaN"):
        analysis.spike_rates(net, torch.full((3, 2, 4), torch.nan))
    with pytest.raises(ShapeError, match="no spikes to count"):
        analysis.spike_rates(net, torch.ones(3, 0, 4))
