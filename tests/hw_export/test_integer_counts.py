"""What a run does, counted by hand on networks small enough for it."""

from __future__ import annotations

import pytest
import torch

from hw_export.integer import Arithmetic, IntegerNetwork, IntegerSimulator
from hw_export.integer.network import IntegerConv, IntegerDense, IntegerFlatten, IntegerLIF, IntegerPool
from spikelfp.errors import UserError

NONE = torch.zeros(1, dtype=torch.int64)


def chain(*layers, shape, shapes) -> IntegerNetwork:
    return IntegerNetwork(tuple(layers), 4, 1, shape, shapes)


def relay() -> IntegerNetwork:
    """Two inputs, two neurons that hand them on, one neuron behind: a 1 goes through in the step it comes."""
    return chain(
        IntegerDense("a", torch.tensor([[5, 0], [-1, 5]]), torch.zeros(2, dtype=torch.int64)),
        IntegerLIF("first", 1.0, torch.tensor(4), "zero"),
        IntegerDense("b", torch.tensor([[0, 5]]), NONE),
        IntegerLIF("second", 1.0, torch.tensor(4), "zero"),
        shape=(2,),
        shapes=((2,), (2,), (1,), (1,)),
    )


def test_a_relay_of_spikes():
    # three steps, two samples: (1, 0), (0, 1), (1, 1) and nothing
    x = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[1, 1], [0, 0]]])
    run = IntegerSimulator(relay(), Arithmetic(16)).run(x)
    assert run.spikes["first"][:, 0].tolist() == [[1, 0], [0, 0], [1, 1]]  # −1, then −1 + 5, which is no more than 4
    assert run.spikes["second"][:, 0].tolist() == [[0], [0], [1]]
    first, second = run.counts.layers["first"], run.counts.layers["second"]
    assert first.spikes == 3 / 2
    assert first.synaptic_operations == (2 * 2 + 2 * 1) / 2  # the first input has two weights, the second one
    assert first.membrane_updates == 3 * 2
    assert first.dense_operations == 3 * 4
    assert first.bytes_touched == (6 / 2) * 4 / 8 + 6 * 2 * 16 / 8
    assert second.synaptic_operations == 1 / 2  # the weight of the other spikes is 0
    assert run.counts.spikes == 4 / 2
    assert run.counts.synaptic_operations == 7 / 2
    assert run.counts.membrane_updates == 9
    assert run.counts.dense_operations == 12 + 6
    assert run.counts.bytes_touched == first.bytes_touched + second.bytes_touched


def test_an_input_of_three_is_three_events():
    x = torch.tensor([[[3, 0]], [[-2, 1]]])
    run = IntegerSimulator(relay(), Arithmetic(16)).run(x)
    assert run.counts.layers["first"].synaptic_operations == 2 * 3 + 2 * 2 + 1


def test_event_by_event_the_state_is_touched_at_each():
    x = torch.tensor([[[2, 1]]])
    run = IntegerSimulator(relay(), Arithmetic(12, by_event=True, decay="none")).run(x)
    first = run.counts.layers["first"]
    assert run.spikes["first"].tolist() == [[[2, 0]]]
    assert first.synaptic_operations == 2 * 2 + 1
    assert first.membrane_updates == 2
    assert first.bytes_touched == 5 * 4 / 8 + (2 + 5) * 2 * 12 / 8


def test_a_crossbar_updates_every_row_at_every_event():
    """Five rows; the three events of inputs come to the first layer, its spikes and those of the last to the last."""
    x = torch.tensor([[[2, 1]]])
    run = IntegerSimulator(relay(), Arithmetic(12, by_event=True, decay="none", crossbar=True)).run(x)
    first, second = run.counts.layers["first"], run.counts.layers["second"]
    assert run.spikes["first"].tolist() == [[[2, 0]]]
    assert first.synaptic_operations == 3 * 5
    assert second.synaptic_operations == (2 + second.spikes) * 5
    assert run.counts.membrane_updates == 5
    with pytest.raises(UserError, match="crossbar takes by_event"):
        Arithmetic(12, crossbar=True)


@pytest.mark.parametrize("kernels", ["torch", "numba"])
def test_a_neuron_that_leaves_its_range_at_several_events_of_a_step_counts_once(kernels, monkeypatch):
    """Range −8 to 7; the first neuron loses 5 an event, the second 1, in steps of 4, 0 and 10 events."""
    monkeypatch.setenv("SPIKELFP_KERNELS", kernels)
    network = chain(
        IntegerDense("a", torch.tensor([[-5], [-1]]), torch.zeros(2, dtype=torch.int64)),
        IntegerLIF("n", 1.0, torch.tensor(6), "zero"),
        shape=(1,),
        shapes=((2,), (2,)),
    )
    x = torch.tensor([[[4]], [[0]], [[10]]])
    run = IntegerSimulator(network, Arithmetic(4, by_event=True, decay="none")).run(x)
    assert run.states["n"].tolist() == [[-8, -8]]
    assert run.saturated == {"n": 3}


def test_the_latency_of_a_chip_costs_steps():
    run = IntegerSimulator(relay(), Arithmetic(16, latency=4)).run(torch.zeros(3, 1, 2))
    assert [counts.membrane_updates for counts in run.counts.layers.values()] == [3 * 2, (3 + 4) * 1]


def test_inputs_that_come_late_cost_steps_in_every_layer():
    run = IntegerSimulator(relay(), Arithmetic(16, latency=4, input_latency=2)).run(torch.zeros(3, 1, 2))
    assert [counts.membrane_updates for counts in run.counts.layers.values()] == [(3 + 2) * 2, (3 + 2 + 4) * 1]
    assert run.counts.dense_operations == 5 * 4 + 9 * 2


def test_the_current_of_a_synapse_is_read_and_written():
    x = torch.tensor([[[1, 0]], [[0, 0]]])
    first = IntegerSimulator(relay(), Arithmetic(16, synapse=1)).run(x).counts.layers["first"]
    assert first.synaptic_operations == 2
    assert first.membrane_updates == 2 * 2
    assert first.bytes_touched == 2 * 4 / 8 + 4 * 2 * (16 + 16) / 8


@pytest.mark.parametrize(("place", "reached"), [((0, 0), 4), ((0, 1), 6), ((1, 1), 9), ((2, 3), 6), ((3, 3), 4)])
def test_the_border_of_a_convolution(place, reached):
    """A 3 × 3 kernel with a border of one: a corner is seen from four places, an edge from six, the rest from nine."""
    network = chain(
        IntegerConv("c", torch.ones(1, 1, 3, 3, dtype=torch.int32), NONE, (1, 1), (1, 1), (1, 1), 1),
        IntegerLIF("n", 1.0, torch.tensor(1), "zero"),
        shape=(1, 4, 4),
        shapes=((1, 4, 4), (1, 4, 4)),
    )
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, place[0], place[1]] = 1
    counts = IntegerSimulator(network, Arithmetic(16)).run(x).counts
    assert counts.synaptic_operations == reached
    assert counts.dense_operations == 16 * 9


@pytest.mark.parametrize(("kind", "passed"), [("sum", 3), ("max", 1)])
def test_behind_a_pool_its_value_counts(kind, passed):
    """Three spikes in one window: their sum reaches the weights three times, their largest once."""
    network = chain(
        IntegerPool("p", kind, (2, 2), (2, 2)),
        IntegerFlatten("f"),
        IntegerDense("w", torch.tensor([[2, 2], [1, 1], [0, 1]]), torch.zeros(3, dtype=torch.int64)),
        IntegerLIF("n", 1.0, torch.tensor(9), "zero"),
        shape=(1, 2, 4),
        shapes=((1, 1, 2), (2,), (3,), (3,)),
    )
    x = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).view(1, 1, 1, 2, 4)
    assert IntegerSimulator(network, Arithmetic(16)).run(x).counts.synaptic_operations == passed * 2
