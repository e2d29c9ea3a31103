"""Layers that hear of each other, or of the inputs, some steps later."""

from __future__ import annotations

import torch
from references import integer_nets

from hw_export.integer import Arithmetic, IntegerSimulator


def test_each_layer_may_be_late():
    """With a latency, aligned spikes are those of a chip without, as long as nothing fires of itself."""
    network = integer_nets.dense("zero", 0.9)
    network = network.with_parameters(
        {name: torch.zeros_like(value) for name, value in network.parameters().items() if name.endswith("bias")}
    )
    x = integer_nets.inputs(8, (9,), 3, high=3)
    plain = IntegerSimulator(network, Arithmetic(24)).run(x)
    simulator = IntegerSimulator(network, Arithmetic(24, latency=3))
    late, chip = simulator.run(x), simulator.run(x, aligned=False)
    for k, (name, spikes) in enumerate(plain.spikes.items()):
        assert torch.equal(spikes, late.spikes[name])
        assert len(chip.spikes[name]) == 8 + 3 * k
        assert torch.equal(chip.spikes[name][3 * k :], spikes)
        assert not chip.spikes[name][: 3 * k].any()


def test_inputs_may_be_late_too():
    """Biases work for ``input_latency`` steps more in every layer: as if so many steps of no input came first."""
    network, x = integer_nets.dense("zero", 0.9), integer_nets.inputs(8, (9,), 3, high=3)
    given = torch.cat([torch.zeros(2, 3, 9), x])
    for latency in (0, 1):
        late = IntegerSimulator(network, Arithmetic(24, input_latency=2, latency=latency))
        chip, waited = (
            late.run(x, aligned=False),
            IntegerSimulator(network, Arithmetic(24, latency=latency)).run(given, aligned=False),
        )
        aligned = late.run(x)
        for k, (name, spikes) in enumerate(chip.spikes.items()):
            assert len(spikes) == 8 + 2 + k * latency
            assert torch.equal(spikes, waited.spikes[name])
            assert torch.equal(aligned.spikes[name], spikes[-8:])
            assert torch.equal(aligned.states[name], waited.states[name])
        assert aligned.counts == waited.counts
        assert not torch.equal(aligned.outputs, IntegerSimulator(network, Arithmetic(24)).run(x).outputs)
