"""Time of one training step under each rule: ``python -m benchmarks.rules``, part of ``make bench``.

All rules train the same network in one process and take turns, a step each; compared are medians. Writes
``rules.json``, ``rules.md`` and ``rules.png`` to
``benchmarks/results``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.networks import PAPER
from benchmarks.plots import plot_rules
from benchmarks.record import arguments, folder_of, save
from benchmarks.turns import medians
from spikelfp import methods, models, nn, rewards, rules

NETWORKS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], int]] = {
    "ReLU 784-1000-1000-10": (lambda: models.mlp([784, 1000, 1000, 10]), (128, 1, 28, 28), 1),
    "ReLU LeNet": (lambda: models.lenet(), (128, 1, 28, 28), 1),
    "ReLU VGG-like, 32×32": (lambda: models.vgg_like(), (32, 3, 32, 32), 1),
    "LIF 784-1000-10, T 15": (lambda: models.lif_mlp([784, 1000, 10], **PAPER), (128, 1, 28, 28), 15),
    "LIF LeNet, T 10": (lambda: models.lif_lenet(**PAPER), (32, 1, 28, 28), 10),
}
RULES: dict[str, rules.Rule] = {
    "gradient": rules.Surrogate(),
    "ε": rules.Epsilon(),
    "0": rules.Zero(),
    "αβ": rules.AlphaBeta(),
    "z⁺z⁻": rules.ZPlusMinus(),
    "γ": rules.Gamma(),
}


def stepper(net: nn.Sequential, rule: rules.Rule, images: Tensor, labels: Tensor, steps: int) -> Callable[[], None]:
    """Make a function for a training step of ``net`` under ``rule``, with the optimiser."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    reward: rewards.Reward = rewards.SpikeSequence() if steps > 1 else rewards.Softmax()
    learns = isinstance(rule, rules.Feedback)
    method: methods.Method = methods.LFP(reward, rule) if learns else methods.GradientDescent(rule)

    def step() -> None:
        optimizer.zero_grad()
        with rules.using(net, rule):
            outputs = net(nn.constant(images, steps))
        method.backward(outputs, labels)
        optimizer.step()

    return step


def measure(name: str, rounds: int) -> dict[str, float]:
    """Measure median milliseconds of a step under each rule."""
    make, shape, steps = NETWORKS[name]
    torch.manual_seed(0)
    images, labels = torch.rand(shape), torch.randint(10, shape[:1])
    net = make()
    contenders = {rule: stepper(net, RULES[rule], images, labels, steps) for rule in RULES}
    return medians(contenders, rounds, name)


def markdown(table: dict[str, dict[str, float]], about: str) -> str:
    """Write the results as a Markdown table."""
    lines = [about, "", "| step | " + " | ".join(RULES) + " |", "|---" * (len(RULES) + 1) + "|"]
    for network, ms in table.items():
        lines.append(f"| {network} | " + " | ".join(f"{v:.1f} ms ({v / ms['ε']:.2f}×)" for v in ms.values()) + " |")
    lines += ["", "In brackets: times the ε step. Gradient: plain for ReLU, surrogate for LIF networks.", ""]
    return "\n".join(lines)


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="steps under each rule (default 20)")
    parser.add_argument("--only", choices=list(NETWORKS), action="append", help="networks to measure (default: all)")
    options = parser.parse_args(given)
    rounds = 2 if options.quick else options.rounds
    table = {name: measure(name, rounds) for name in options.only or NETWORKS}
    how = f"One training step; median of {rounds} in turns in one process"
    save("rules", how, table, markdown, plot_rules, folder=folder_of(options))


if __name__ == "__main__":
    main()
