"""Time of a training step of recurrent networks, compared with snnTorch's RLeaky: ``python -m benchmarks.recurrent``.

As :mod:`benchmarks.step`, with one thread for everyone and with as many as there are. Writes ``recurrent.json``,
``recurrent.md`` and ``recurrent.png`` to ``benchmarks/results``.
"""

from __future__ import annotations

import torch

from benchmarks.contenders import FLOOR, OURS, SNNTORCH
from benchmarks.networks import RECURRENT, Network
from benchmarks.plots import plot_steps
from benchmarks.record import arguments, folder_of, save
from benchmarks.settings import Setting, settings
from benchmarks.starting_weights import with_start
from benchmarks.tables import markdown
from benchmarks.turns import Result, measure

NAMES = (OURS, "spikelfp, surrogate", SNNTORCH, FLOOR)


def run(
    networks: dict[str, Network], threads: list[int], rounds: int, steps: int
) -> dict[str, tuple[Network, dict[str, Result]]]:
    """Measure each network and number of threads; return the results of each contender.

    Raises:
        RuntimeError: when our own step cannot run.
    """
    table: dict[str, tuple[Network, dict[str, Result]]] = {}
    for label, network in networks.items():
        for count in threads:
            among = [setting for setting in settings() if setting.threads == count] or [Setting(count)]
            name = f"{label}, {count} thread{'s' * (count > 1)}"
            table[name] = network, measure(with_start(network), rounds, steps, name, NAMES, among=among)
            if "skipped" in table[name][1][OURS]:
                raise RuntimeError(f"{OURS} did not run on {name}: {table[name][1][OURS]['skipped']}")
    return table


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each contender (default 8)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (default 3)")
    parser.add_argument("--only", choices=list(RECURRENT), action="append", help="networks to measure (default: all)")
    options = parser.parse_args(given)
    rounds, steps = (2, 1) if options.quick else (options.rounds, options.steps)
    threads = sorted({1, torch.get_num_threads()})
    table = run({name: RECURRENT[name] for name in options.only or RECURRENT}, threads, rounds, steps)
    networks = {name: network for name, (network, _) in table.items()}
    save(
        "recurrent",
        f"One training step of a recurrent network, β 0.9; median of {rounds * steps} in turns",
        {name: results for name, (_, results) in table.items()},
        lambda results, about: markdown(results, networks, about),
        plot_steps,
        folder=folder_of(options),
    )


if __name__ == "__main__":
    main()
