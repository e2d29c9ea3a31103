"""Markdown tables of the step benchmark; ``python -m benchmarks.tables`` prints the short one of the documents."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from benchmarks.contenders import CONTENDERS, CONVOLUTIONS, FLOOR, LFPROP, OURS, SNNTORCH
from benchmarks.networks import Network
from benchmarks.record import RESULTS
from benchmarks.turns import Result

Table = dict[str, dict[str, Result]]
FLOORS = (FLOOR, CONVOLUTIONS)
PEERS = {
    LFPROP: "lfprop 1.0.0",
    SNNTORCH: "snnTorch",
    "norse, surrogate": "norse",
    "spikingjelly, surrogate": "spikingjelly",
}
"""Columns of the short table."""


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty line."""
    return [_row(head), "|---" * len(head) + "|", *map(_row, body), ""]


def spread(values: Sequence[float], digits: int) -> str:
    """Write the mean of some values ± their standard deviation; one value alone, and – for none."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def between(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    """Put lines between two marks of a page, in place of what stands there."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + "\n" + "\n".join(lines) + "\n" + end + after


def ratio(results: dict[str, Result], name: str) -> float | None:
    """Return the time of a peer as a multiple of ours; for dense products, ours as a multiple of theirs."""
    if "ms" not in results.get(name, {}):
        return None
    peer, ours = results[name]["ms"], results[OURS]["ms"]
    return ours / peer if name in FLOORS else peer / ours


def memory_ratio(results: dict[str, Result], name: str) -> float | None:
    """Return the memory of ``name`` for the network as a multiple of ours."""
    if "ms" not in results.get(name, {}) or not results[OURS]["grown_mb"]:
        return None
    return results[name]["grown_mb"] / results[OURS]["grown_mb"]


def markdown(table: Table, networks: dict[str, Network], about: str) -> str:
    """Write times, ratios with goals, memory, spike rates, versions, and contenders that did not run."""
    names = [name for name in CONTENDERS if any("ms" in results.get(name, {}) for results in table.values())]
    lines = [about, ""]
    lines += rows(["step", *names], [[n, *(_time(r, name) for name in names)] for n, r in table.items()])
    lines += ["In brackets: times our LFP step; for dense products, our LFP step as a multiple of them.", ""]
    lines += _goals(table, networks)
    lines += ["Most memory, in MB, beyond what the process held before the network was built (in brackets: in all):"]
    lines += [
        "",
        *rows(["step", *names], [[n, *(_memory(r.get(name, {})) for name in names)] for n, r in table.items()]),
    ]
    spiking = [name for name in names if any(r.get(name, {}).get("rates") for r in table.values())]
    lines += ["Spikes per neuron and step, layer by layer, of the weights that all start from:", ""]
    lines += rows(
        ["network", *spiking], [[n, *(_rates(r.get(name, {})) for name in spiking)] for n, r in table.items()]
    )
    lines += settings_of(table)
    versions = {k: v for r in table.values() for name in r for k, v in r[name].get("versions", {}).items()}
    lines += ["Versions: " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".", ""]
    return "\n".join(lines + absent(table))


def short(table: Table) -> list[str]:
    """Write the table of README and docs/performance.md: our time and memory, and multiples of our time."""
    body = []
    for network, results in table.items():
        times = [ratio(results, name) for name in PEERS]
        dense, convolutions = (ratio(results, name) for name in FLOORS)
        floor = "–" if dense is None else f"**{dense:.2f}**" if dense < 1 else f"{dense:.2f}"
        floor += "" if convolutions is None else f" ({convolutions:.2f} of its convolutions)"
        ours = f"{results[OURS]['ms']:.1f} ms, {results[OURS]['grown_mb']:.0f} MB"
        peers = ["–" if peer is None else f"{peer:.1f}×" for peer in times]
        body.append([network.replace(" (A.6.4)", ""), ours, *peers, floor])
    return rows(["step", OURS, *PEERS.values(), "ours / its dense products alone"], body)


def _goals(table: Table, networks: dict[str, Network]) -> list[str]:
    head, columns = ["step"], []
    for key, measured, what in (("goals", ratio, ""), ("memory_goals", memory_ratio, ", memory")):
        goals = {network: networks[network].get(key, {}) for network in table}
        for name in CONTENDERS:
            if any(name in goal for goal in goals.values()):
                head.append((f"ours / {name}" if name in FLOORS else f"{name} / ours") + what)
                columns.append([_against(measured(r, name), goals[n].get(name), name) for n, r in table.items()])
    body = [list(cells) for cells in zip(table, *columns, strict=True)]
    return ["Ratios within this run, beside their goals:", "", *rows(head, body)] if columns else []


def settings_of(table: Table) -> list[str]:
    """Write the setting of threads in which each contender was fastest and was measured."""
    names = list(dict.fromkeys(name for results in table.values() for name, r in results.items() if "setting" in r))
    if not names:
        return []
    body = [[label, *(r.get(name, {}).get("setting", "–") for name in names)] for label, r in table.items()]
    return [
        "Threads of each, the fastest setting in a trial (passive: they sleep while they wait):",
        "",
        *rows(["", *names], body),
    ]


def absent(table: Table) -> list[str]:
    """Write a line for each contender that did not run, with the reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for network, results in table.items():
        for name, result in results.items():
            if "skipped" in result:
                reasons.setdefault((name, result["skipped"]), []).append(network)
    every = len(table)
    lines = [
        f"* {name}{'' if len(where) == every else ' (' + '; '.join(where) + ')'}: {why}"
        for (name, why), where in reasons.items()
    ]
    return ["Did not run:", "", *lines, ""] if lines else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _time(results: dict[str, Result], name: str) -> str:
    times = ratio(results, name)
    return "–" if times is None else f"{results[name]['ms']:.1f} ms" + ("" if name == OURS else f" ({times:.2f}×)")


def _against(times: float | None, goal: float | None, name: str) -> str:
    if times is None or goal is None:
        return "–" if times is None else f"{times:.2f}×"
    met = times <= goal if name in FLOORS else times >= goal
    return f"{times:.2f}× (goal {'≤' if name in FLOORS else '≥'} {goal:g}×, {'met' if met else 'not met'})"


def _memory(result: Result) -> str:
    if "peak_mb" not in result:
        return "–"
    return f"{'' if result['grown_exact'] else '≥ '}{result['grown_mb']:.0f} ({result['peak_mb']:.0f})"


def _rates(result: Result) -> str:
    rates = result.get("rates")
    return " · ".join(f"{100 * rate:.2f} %" for rate in rates) if rates else "–"


if __name__ == "__main__":
    print("\n".join(short(json.loads((RESULTS / "step.json").read_text())["networks"])))
