"""Time of a simulation in whole numbers beside the float forward pass: ``python -m benchmarks.integer``.

Both run the same network, the one quantised to 8 bits in the generic arithmetic, the other as it is under
``torch.no_grad()``, in one process and by turns; compared are medians. Writes ``integer.json`` and ``integer.md`` to
``benchmarks/results``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import arguments, folder_of, save
from benchmarks.starting_weights import scale_to
from benchmarks.tables import rows
from benchmarks.turns import medians
from hw_export.integer import IntegerSimulator
from spikelfp import models, nn

GREY = 255
"""Grey levels of a pixel above 0, the factor that makes inputs in [0, 1] whole numbers."""

NETWORKS: dict[str, dict[str, Any]] = {
    "784-1000-10, T 15, batch 256, pixels": {"make": lambda: models.lif_mlp([784, 1000, 10], reset="zero")},
    "784-1000-10, T 15, batch 256, spikes": {
        "make": lambda: models.lif_mlp([784, 1000, 10], reset="zero"),
        "spikes": True,
    },
    "784-1000-1000-10, T 15, batch 256, pixels": {
        "make": lambda: models.lif_mlp([784, 1000, 1000, 10], reset="zero"),
    },
    "LeNet, T 15, batch 64, pixels": {"make": lambda: models.lif_lenet(reset="zero"), "batch": 64},
}
FLOAT = "float forward"
"""Contender that the others are compared with."""


def contenders(network: dict[str, Any], steps: int) -> dict[str, Callable[[], object]]:
    """Make the forward pass and the simulation of a network with hidden spike rates of one tenth."""
    torch.manual_seed(0)
    images = torch.randint(0, GREY + 1, (network.get("batch", 256), 1, 28, 28)) * (torch.rand(1, 1, 28, 28) < 0.5)
    net = network["make"]().eval()
    if network.get("spikes"):
        scale, whole = 1, (torch.rand(steps, *images.shape) < images / GREY).float()
    else:
        scale, whole = GREY, nn.constant(images.float(), steps)
    real = whole if scale == 1 else nn.constant(images / GREY, steps)
    scale_to(net, real[:, :32], 0.1)
    simulator = IntegerSimulator(net, input_scale=scale, input_shape=(1, 28, 28))
    return {FLOAT: lambda: _forward(net, real), "integers": lambda: simulator.run(whole)}


@torch.no_grad()
def _forward(net: nn.Sequential, x: Tensor) -> Tensor:
    return net(x)


def measure(name: str, rounds: int, steps: int = 15) -> dict[str, float]:
    """Measure median milliseconds of each contender."""
    return medians(contenders(NETWORKS[name], steps), rounds, name)


def markdown(table: dict[str, dict[str, float]], about: str) -> str:
    """Write the results as a Markdown table."""
    names = list(next(iter(table.values())))
    body = [[network, *(f"{v:.1f} ms ({v / ms[FLOAT]:.2f}×)" for v in ms.values())] for network, ms in table.items()]
    told = (
        "In brackets: times the float forward pass. The simulation checks its inputs, and counts, as it does for users."
    )
    return "\n".join([about, "", *rows(["run", *names], body), told, ""])


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="runs of each contender (default 30)")
    parser.add_argument("--only", choices=list(NETWORKS), action="append", help="networks to measure (default: all)")
    options = parser.parse_args(given)
    rounds = 2 if options.quick else options.rounds
    table = {name: measure(name, rounds) for name in options.only or NETWORKS}
    save("integer", f"One run; median of {rounds} in turns in one process", table, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
