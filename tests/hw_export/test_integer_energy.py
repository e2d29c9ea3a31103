"""Estimates of energy: sums of counts times published figures, and no number where nothing is published."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hw_export.integer.energy import PRICES, EnergyModel, estimate
from hw_export.targets import TARGETS, Chip
from spikelfp.errors import UserError

CHIPS = [name for name in TARGETS if issubclass(TARGETS[name], Chip)]


def energy_model(name: str) -> EnergyModel:
    model = TARGETS[name].energy
    assert model is not None
    return model


@dataclass
class Counts:
    """What a run of a network counts, per sample."""

    synaptic_operations: float = 1000
    membrane_updates: float = 200
    spikes: float = 50
    bytes_touched: float = 4000


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_of_ours_says_where_its_figures_are_from(name):
    model = energy_model(name)
    assert any(f"{year}" in model.source for year in range(2014, 2025))
    assert "doi:" in model.source or "arXiv:" in model.source


def test_loihi_by_hand():
    """23.6 pJ a synaptic operation, 81 a neuron, 1.7 a spike: 23.6 + 16.2 + 0.085 nJ."""
    found = estimate(Counts(), energy_model("loihi"))
    assert found.total_nj == pytest.approx(39.885)
    assert dict(found.parts_nj) == pytest.approx(
        {"synaptic_operations": 23.6, "membrane_updates": 16.2, "spikes": 0.085}
    )
    assert found.missing == ()
    assert str(found) == (
        "39.88 nJ per sample (synaptic operations 23.6, membrane updates 16.2, spikes 0.085)"
    )  # fmt: skip


def test_generic_by_hand():
    """An add a synaptic operation; a multiplication and three adds a neuron; 10 pJ for eight bytes."""
    found = estimate(Counts(), energy_model("generic"))
    parts = {"synaptic_operations": 0.1, "membrane_updates": 0.2 * (3.1 + 0.3), "bytes_touched": 500 * 10 / 1000}
    assert dict(found.parts_nj) == pytest.approx(parts)
    assert found.total_nj == pytest.approx(5.78)


@pytest.mark.parametrize("target", ["speck", "xylo"])
def test_without_a_published_figure_there_is_no_number(target):
    found = estimate(Counts(), energy_model(target))
    assert found.total_nj is None
    assert not found.parts_nj
    assert found.missing == tuple(PRICES)
    assert str(found).startswith("no energy per operation is published (synaptic operations, ")
    assert " nJ" not in str(found)


def test_what_is_not_published_makes_the_total_a_lower_bound():
    found = estimate(Counts(), energy_model("tinyodin"))
    assert found.total_nj == pytest.approx(12.7)
    assert found.missing == ("membrane_updates",)
    assert str(found) == ("at least 12.7 nJ per sample (synaptic operations 12.7; not published: membrane updates)")
    assert estimate(Counts(membrane_updates=0), energy_model("tinyodin")).missing == ()


counted = st.floats(0, 1e12)
price = st.none() | st.just(0.0) | st.floats(1e-3, 1e4)


@given(numbers=st.tuples(counted, counted, counted, counted), prices=st.tuples(price, price, price, price))
def test_the_total_is_the_sum_of_count_times_figure(numbers, prices):
    model = EnergyModel("by hand", "a paper", *prices)
    found = estimate(Counts(*numbers), model)
    total, missing = 0.0, []
    for name, number, one in zip(PRICES, numbers, prices, strict=True):
        if one is None:
            missing += [name] * (number > 0)
        elif one > 0:
            total += number * one * 1e-12
            assert found.parts_nj[name] == pytest.approx(number * one * 1e-12 / 1e-9)
        else:
            assert name not in found.parts_nj
    assert list(found.missing) == missing
    assert (found.total_nj is None) == (not any(prices))
    assert found.total_nj is None or found.total_nj == pytest.approx(total / 1e-9)


def test_counts_may_be_tensors_of_one_number():
    counts = SimpleNamespace(**{name: torch.tensor(value) for name, value in vars(Counts()).items()})
    assert estimate(counts, energy_model("loihi")).total_nj == pytest.approx(39.885)


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        (Counts(spikes=-1), "spikes must be a finite number from 0 on, got -1"),
        (Counts(bytes_touched=float("nan")), "bytes_touched must be a finite .* got nan"),
        (Counts(spikes=torch.ones(3)), "spikes must be one number per sample, got Tensor: take its mean"),
        (Counts(spikes=None), "spikes must be one number per sample, got NoneType"),
        (SimpleNamespace(spikes=1), "SimpleNamespace has no 'synaptic_operations'"),
    ],
)
def test_impossible_counts_are_named(counts, named):
    with pytest.raises(UserError, match=named):
        estimate(counts, energy_model("loihi"))


def test_impossible_figures_are_named():
    with pytest.raises(UserError, match=r"spike_pj must be a finite number from 0 on, or None where .*: -1"):
        replace(energy_model("loihi"), spike_pj=-1.0)
    with pytest.raises(UserError, match="where they are published"):
        EnergyModel("by hand", " ")


def test_a_chip_without_published_figures_has_no_number():
    found = estimate(Counts(spikes=0), None)
    assert (found.total_nj, dict(found.parts_nj)) == (None, {})
    assert found.missing == ("synaptic_operations", "membrane_updates", "bytes_touched")
