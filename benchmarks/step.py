"""Time, memory and spike rates of one training step, with the peers that are installed: ``make bench``.

Every contender runs in its own process, from the same weights and images (:mod:`benchmarks.starting_weights`);
they take turns (:mod:`benchmarks.turns`). Writes ``step.json``, ``step.md`` and ``step.png`` to ``benchmarks/results``.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contenders import CONTENDERS, CONVOLUTIONS, OURS, RECOMPUTED
from benchmarks.networks import NETWORKS, Network
from benchmarks.plots import plot_steps
from benchmarks.record import arguments, folder_of, save
from benchmarks.starting_weights import with_start
from benchmarks.tables import markdown
from benchmarks.turns import Result, measure

NAMES = tuple(name for name in CONTENDERS if name != RECOMPUTED)


def run(
    networks: dict[str, Network], rounds: int, steps: int, names: Sequence[str] = NAMES
) -> dict[str, dict[str, Result]]:
    """Measure each network and contender; raise :class:`RuntimeError` when our own step cannot run."""
    table: dict[str, dict[str, Result]] = {}
    for label, network in networks.items():
        taking_part = [name for name in names if name != CONVOLUTIONS or network["kind"] == "lenet"]
        table[label] = measure(with_start(network), rounds, steps, label, taking_part)
        if "skipped" in table[label][OURS]:
            raise RuntimeError(f"{OURS} did not run on {label}: {table[label][OURS]['skipped']}")
    return table


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each contender (default 8)")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn (default 5)")
    parser.add_argument("--only", choices=list(NETWORKS), action="append", help="networks to measure (default: all)")
    others = f"contenders beside ours (default: all but {RECOMPUTED})"
    parser.add_argument("--against", choices=list(CONTENDERS), action="append", help=others)
    options = parser.parse_args(given)
    rounds, steps = (2, 1) if options.quick else (options.rounds, options.steps)
    chosen = {name: NETWORKS[name] for name in options.only or NETWORKS}
    names = [name for name in CONTENDERS if name == OURS or name in (options.against or NAMES)]
    how = f"One training step, batch 128, β 0.9; median of {rounds * steps} in turns"
    table = run(chosen, rounds, steps, names)
    save("step", how, table, lambda table, about: markdown(table, chosen, about), plot_steps, folder=folder_of(options))


if __name__ == "__main__":
    main()
