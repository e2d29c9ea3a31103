"""The LIF neuron against a scalar loop and against snnTorch."""

import math

import pytest
import reference
import snntorch
import torch
from reference import DENOMINATORS, RESETS, SNNTORCH_RESETS

from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters, lif_scan, lif_step, reward_scan


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("beta", [0.3, 0.9, 1.0])
def test_scan_equals_the_scalar_loop(reset, beta):
    current = torch.randn(20, 7, dtype=torch.float64)
    start = torch.randn(7, dtype=torch.float64) * 2
    trace = lif_scan(current, start, LIFParameters(beta, 0.7, reset))
    for j in range(7):
        spikes, membranes = reference.lif_run(current[:, j].tolist(), beta, 0.7, reset, float(start[j]))
        assert trace.spikes[:, j].tolist() == spikes
        torch.testing.assert_close(trace.membrane[:, j].tolist(), membranes, rtol=1e-12, atol=1e-12)
    assert 0 < trace.spikes.mean() < 1


@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_same_spikes_and_membranes_as_snntorch_leaky(reset):
    leaky = snntorch.Leaky(beta=0.9, threshold=1.0, reset_mechanism=reset)
    current = torch.rand(25, 4, 50)
    mem, membrane = leaky.init_leaky(), torch.zeros(4, 50)
    fired = 0
    for step in current:
        theirs, mem = leaky(step, mem)
        ours, membrane = lif_step(step, membrane, LIFParameters(0.9, 1.0, reset))
        assert torch.equal(theirs, ours)
        if reset == "subtract":  # with zero, snnTorch's membrane is already reset when it is handed out
            assert torch.equal(mem, membrane)
        fired += int(ours.sum())
    assert fired > 100


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_same_spikes_and_membranes_as_sinabs_with_a_reset_at_once(beta):
    """Up to rounding: sinabs stores a time constant and takes its decay from it."""
    activation = pytest.importorskip("sinabs.activation")
    layers = pytest.importorskip("sinabs.layers")
    theirs = layers.LIF(
        tau_mem=-1 / math.log(beta), spike_threshold=1.0, norm_input=False, spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneSubtract(), record_states=True,
    )  # fmt: skip
    current = torch.rand(4, 25, 50)
    with torch.no_grad():
        spikes = theirs(current)
    ours = lif_scan(current.transpose(0, 1), torch.zeros(4, 50), LIFParameters(beta, 1.0, "immediate"))
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(ours.spikes.transpose(0, 1), spikes)
    after = (ours.membrane - ours.spikes).transpose(0, 1)  # sinabs hands its membrane out reset
    torch.testing.assert_close(after, theirs.recordings["v_mem"], rtol=1e-5, atol=1e-5)


def test_the_two_subtractions_differ_by_what_the_decay_leaves():
    """``immediate`` is ``subtract`` with ``β θ`` taken off, so at β = 1 both are one."""
    current, start = torch.randn(30, 200).double(), torch.randn(200).double()
    delayed, at_once = (lif_scan(current, start, LIFParameters(1.0, 0.75, reset)) for reset in RESETS[:2])
    assert torch.equal(delayed.spikes, at_once.spikes)
    torch.testing.assert_close(delayed.membrane, at_once.membrane)
    delayed, at_once = (lif_scan(current, start, LIFParameters(0.8, 0.75, reset)) for reset in RESETS[:2])
    left = 0.75 * (1 - 0.8) * (start > 0.75)
    torch.testing.assert_close(delayed.membrane[0] + left, at_once.membrane[0])
    assert not torch.equal(delayed.spikes, at_once.spikes)


def test_threshold_is_strict():
    p = LIFParameters(0.5, 1.0)
    assert lif_step(torch.tensor([1.0]), torch.zeros(1), p)[0] == 0
    assert lif_step(torch.tensor([1.0000001]), torch.zeros(1), p)[0] == 1


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_reward_scan_equals_the_scalar_loop(reset, denominator):
    p = LIFParameters(0.85, 0.6, reset, denominator)
    current, reward = torch.randn(2, 18, 9, dtype=torch.float64)
    start = torch.randn(9, dtype=torch.float64)
    membrane = lif_scan(current, start, p).membrane
    message, to_start = reward_scan(reward, current, membrane, start, p, 1e-6)
    for j in range(9):
        slow = reference.lif_reward(
            reward[:, j].tolist(), current[:, j].tolist(), 0.85, 0.6, reset, denominator, 1e-6, float(start[j])
        )
        torch.testing.assert_close(message[:, j].tolist(), slow, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(to_start, 0.85 * message[0])


def test_reward_never_grows_through_time():
    """The share handed back is at most β: |r_int| ≤ β |R| for increment, < |R| for inflow."""
    current = torch.randn(50, 1000, dtype=torch.float64)
    for denominator in DENOMINATORS:
        p = LIFParameters(0.9, 1.0, "subtract", denominator)
        membrane = lif_scan(current, torch.zeros(1000, dtype=torch.float64), p).membrane
        reward = torch.zeros_like(current)
        reward[-1] = 1.0
        message, _ = reward_scan(reward, current, membrane, torch.zeros(1000, dtype=torch.float64), p, 1e-6)
        handed = (0.9 * membrane[-2] * message[-1]).abs()
        assert handed.max() <= (0.9 if denominator == "increment" else 1.0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"beta": 0.0}, "beta"),
        ({"beta": 1.5}, "1.5"),
        ({"beta": float("nan")}, "nan"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": float("inf")}, "inf"),
        ({"reset": "substract"}, "did you mean 'subtract'"),
        ({"denominator": "inflows"}, "did you mean 'inflow'"),
        ({"floor": -0.5}, r"floor is a finite number of thresholds, 0 or more .*got -0\.5"),
        ({"floor": float("nan")}, "floor.*nan"),
        ({"floor": float("inf")}, "floor.*inf"),
        ({"floor": True}, "floor is one number, got True"),
        ({"floor": "1"}, "floor is one number, got '1'"),
        ({"floor": torch.ones(3)}, "floor is one number, got Tensor"),
        ({"margin": 0.0}, r"margin is a share of the threshold, above 0 and up to 1 .*got 0\.0"),
        ({"margin": -0.2}, r"margin.*-0\.2"),
        ({"margin": 1.01}, r"margin.*1\.01"),
        ({"margin": float("nan")}, "margin.*nan"),
        ({"margin": True}, "margin is one number, got True"),
        ({"margin": None}, "margin is one number, got None"),
    ],
)
def test_values_out_of_range_are_named(values, named):
    with pytest.raises(UserError, match=named):
        LIFParameters(**values)
