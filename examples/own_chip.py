"""Add your own chip: its arithmetic, its limits and its file in one class; then export a trained network for it.

    python examples/own_chip.py
    spikelfp train --data digits --hidden 100 --reset zero --out runs/beads
    hw-export build runs/beads --plugin examples/own_chip.py --target abacus --cores 4
    hw-export verify exports/beads-abacus --plugin examples/own_chip.py

The chip is made up: cores of 64 neurons with weights of 6 bits, each with a membrane of 16 bits, a leak that is a shift
and a threshold of its own. Its file is text that a firmware could read line by line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hw_export.build import build, read_export
from hw_export.integer import Arithmetic, EnergyModel, IntegerDense, IntegerNetwork, code_of, spread
from hw_export.targets import TARGETS, Chip, Limit, Violation, check_codes, rebuild
from hw_export.targets.limits import BiasRange, Blocks, EventsPerStep, Kinds, Thresholds, WeightRange, above
from hw_export.verify import verify_chip
from spikelfp.errors import DataError
from spikelfp.files import write_text
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

FILE = "program.txt"


@dataclass(frozen=True)
class Cores(Limit):
    """Limit of cores of 64 neurons, each for one layer."""

    cores: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        needed = sum(-(-network.shape_of(layer)[0] // 64) for layer in network.neurons)
        yield from above(None, "cores needed", needed, self.cores, "use fewer --hidden, or a board of more --cores")

    def __str__(self) -> str:
        return f"{self.cores} cores of 64 neurons"


@TARGETS.register("abacus")
class Abacus(Chip):
    """``program.txt``: for each neuron a line of its leak, its threshold, its bias and its weights.

    Args:
        cores: cores on the board
    """

    summary = "Abacus, a chip that is made up: text for its firmware, 6-bit weights, shift leak, reset to zero"
    bits = (2, 3, 4, 5, 6)
    default_bits = 6
    per_neuron = True
    sources = ("examples/own_chip.py",)
    energy = EnergyModel(
        taken="by counting beads", source="examples/own_chip.py", synaptic_operation_pj=2.0, spike_pj=1.0
    )
    arithmetic = Arithmetic(16, decay="shift", decay_bits=4, fires=">=", resets=frozenset({"zero"}))

    def __init__(self, cores: int = 16) -> None:
        self.cores = cores
        self.limits = (
            Kinds((IntegerDense,)), Blocks(), WeightRange(-32, 31), BiasRange(-2048, 2047), Thresholds(2**15 - 1),
            EventsPerStep(16), Cores(cores),
        )  # fmt: skip

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        program: dict[str, Any] = {}
        for weights, neurons in zip(network.products, network.neurons, strict=True):
            shape = network.shape_of(neurons)
            leak = spread(code_of(neurons, self.arithmetic, shape), shape)
            constants = torch.stack([leak, spread(neurons.threshold, shape), weights.bias], 1)
            program[neurons.name] = torch.cat([constants, weights.weight.to(torch.int64)], 1)
        return program

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        rows = [row for layer in self.prepare(network).values() for row in layer.tolist()]
        write_text(folder / FILE, "".join(" ".join(map(str, row)) + "\n" for row in rows))

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        if not (folder / FILE).exists():
            raise DataError(f"there is no {folder / FILE}")
        rows = [list(map(int, line.split())) for line in (folder / FILE).read_text().splitlines()]
        tensors, codes = {}, {}
        for layer in facts["layers"]:
            if layer["kind"] == "dense":
                count = layer["shape"][0]
                content, rows = torch.tensor(rows[:count]), rows[count:]
                tensors |= {f"{layer['name']}.weight": content[:, 3:], f"{layer['name']}.bias": content[:, 2]}
            elif layer["kind"] == "neurons":
                tensors[f"{layer['name']}.threshold"] = content[:, 1]
                codes[layer["name"]] = content[:, 0]
        network = rebuild(facts, tensors)
        check_codes(network, self.arithmetic, codes)
        return network


def main(epochs: int = 6) -> float:
    """Train, export for the chip, and compare every spike; return the accuracy in the chip's arithmetic."""
    with tempfile.TemporaryDirectory() as scratch:
        run, export = Path(scratch) / "run", Path(scratch) / "export"
        train(RunConfig(data="digits", hidden=(60,), epochs=epochs, steps=10, reset="zero"), run, progress=False)
        manifest = build(run, export, target="abacus", cores=4)
        result = verify_chip(Abacus(cores=4), export, manifest, read_export(export)[2])
        print(f"{result.simulator}: {result.status}, {sum(layer.spikes for layer in result.layers)} spikes")
        energy, accuracy = manifest["chip"]["energy"], manifest["chip"]["accuracy"]
        print(f"accuracy {accuracy:.3f} on the chip, {manifest['accuracy']['float']:.3f} before")
        print(f"{energy['nanojoule']:.3g} nJ a sample at least; not published: {', '.join(energy['not_published'])}")
        return accuracy if result.status == "identical" else 0.0


if __name__ == "__main__":
    main()
