"""Time of a training step with the default floor and margin beside the paper's rule: ``python -m benchmarks.margin``.

With a margin, neurons near their threshold get messages as those that fired do: more of them than there are spikes. Two
copies of a network, one under each rule, train on the same batches in one process and take turns, a step each: first
with new weights, then after :data:`UPDATES` updates. Compared are medians. Writes ``margin.json`` and ``margin.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.epochs import settings_for
from benchmarks.networks import PAPER
from benchmarks.record import arguments, folder_of, save
from benchmarks.turns import medians
from spikelfp import TemporalTrainer, data, models, nn, rewards

UPDATES, ROUNDS = 250, 30
"""Updates between the two measurements, and steps of each network in one."""
BATCH, BATCHES, STEPS = 128, 15, 15
RULES: dict[str, dict[str, float]] = {"the paper's rule": PAPER, "floor 1, margin 0.6": {}}
TIMES = ("new", "trained")

Network = Callable[..., nn.Sequential]


def batches(part: Dataset[Any]) -> Iterator[tuple[Any, Tensor]]:
    """Yield :data:`BATCHES` batches again and again; they are made before, so that no step waits for its own."""
    torch.manual_seed(0)
    loader = DataLoader(part, batch_size=BATCH, shuffle=True, drop_last=True)
    return cycle(list(islice(loader, BATCHES)))


def measure(name: str, make: Network, part: Dataset[Any], quick: bool) -> dict[str, dict[str, float]]:
    """Measure median milliseconds of a step under each rule, with new weights and with trained ones."""
    trainers = {}
    for rule, own in RULES.items():
        torch.manual_seed(0)
        trainers[rule] = TemporalTrainer(make(**own), reward=rewards.CountSoftmax(), steps=STEPS)
    feeds = {rule: batches(part) for rule in RULES}

    def step(rule: str) -> None:
        trainers[rule].train_step(*next(feeds[rule]))

    calls = {rule: lambda rule=rule: step(rule) for rule in RULES}
    found = {TIMES[0]: medians(calls, 2 if quick else ROUNDS, f"{name}, new")}
    for _ in range(2 if quick else UPDATES):
        for rule in RULES:
            step(rule)
    found[TIMES[1]] = medians(calls, 2 if quick else ROUNDS, f"{name}, trained")
    return found


def markdown(table: dict[str, dict[str, dict[str, float]]], about: str) -> str:
    """Write the results as a Markdown table."""
    paper, ours = RULES
    lines = [about, "", f"| step | weights | {paper} | {ours} | ratio |", "|---|---|---|---|---|"]
    for network, of_times in table.items():
        for when, ms in of_times.items():
            before, now = ms[paper], ms[ours]
            lines.append(f"| {network} | {when} | {before:.1f} ms | {now:.1f} ms | {now / before:.2f}× |")
    return "\n".join([*lines, ""])


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", help="folder that holds mnist/ (default: $SPIKELFP_DATA)")
    options = parser.parse_args(given)
    settings = settings_for(options.data_dir)
    images = data.load(settings["data"], data_dir=settings["data_dir"])
    pixels = images.shape[-1] * images.shape[-2]
    networks: dict[str, Network] = {
        f"{pixels}-1000-10, T {STEPS}": lambda **own: models.lif_mlp([pixels, 1000, 10], **own),
        f"{pixels}-512-10, recurrent, T {STEPS}": lambda **own: models.lif_rnn([pixels, 512, 10], **own),
    }
    table = {name: measure(name, make, images.train, options.quick) for name, make in networks.items()}
    how = f"One training step, batch {BATCH}; new weights and after {UPDATES} updates; median of {ROUNDS} in turns"
    save("margin", how, table, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
