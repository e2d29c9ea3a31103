"""Contenders in their own processes, which take turns of a few steps each.

So a machine that changes its speed is the same for all; medians are compared. Each contender runs in the setting of
threads in which it is fastest (:mod:`benchmarks.settings`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.contenders import CONTENDERS
from benchmarks.networks import Network
from benchmarks.process import Absent, Process
from benchmarks.settings import Chosen, Setting, fastest, settings

Result = dict[str, Any]
"""Results of a contender: ``ms`` and ``ms_quartiles`` of a step, ``peak_mb``, ``grown_mb``, ``rates``, ``setting`` of
its threads and ``trial_ms`` of every setting; or ``skipped``."""

WARM_UP = 3
"""Steps of each contender that are not counted."""
LEAST = 3
"""Turns that each contender has at least."""
TRIAL = 2
"""Most steps of a turn in the trial of a setting."""

console = Console(stderr=True)


class Worker(Process):
    """Process of a contender's steps (``worker.py``); raises :class:`Absent` once it has ended."""

    def __init__(self, module: str, network: Network, setting: Setting) -> None:
        super().__init__("worker.py", module, network, setting)

    def steps(self, count: int) -> Result:
        """Run ``count`` steps; return the seconds of each, and the memory held at most, in all and for the network."""
        return self.ask(count)

    def rates(self) -> Result | None:
        """Measure mean spikes per neuron and step of each layer: ``rates`` at the start, ``rates_after`` now.

        ``None`` for a contender that does not spike. To be called last, because it takes memory.
        """
        return self.ask("rates")


class Turns:
    """Processes by name. One that fails is left out from then on, with the reason in ``results``.

    Args:
        start: functions that start each process in its fastest setting (:func:`benchmarks.settings.fastest`).
    """

    def __init__(self, start: dict[str, Callable[[], Chosen[Any]]]) -> None:
        self.processes: dict[str, Any] = {}
        self.results: dict[str, Result] = {name: {} for name in start}
        for name, make in start.items():
            chosen = self._attempt(name, make)
            if chosen is not None:
                self.processes[name], self.results[name] = chosen.process, chosen.about
        for name, about in self.each(lambda process: process.ready()):
            self.results[name] = about | self.results[name]

    def each(self, ask: Callable[[Any], Any]) -> list[tuple[str, Any]]:
        """Ask each process that still runs, one after the other, and return the answers by name."""
        answers = [(name, self._attempt(name, lambda p=p: ask(p))) for name, p in list(self.processes.items())]
        return [(name, answer) for name, answer in answers if name in self.processes]

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.close()

    def _attempt(self, name: str, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Absent as absent:
            self.processes.pop(name, None)
            self.results[name] = {"skipped": str(absent)}
            return None


def measure(
    network: Network,
    rounds: int,
    steps: int,
    label: str,
    names: Sequence[str] = tuple(CONTENDERS),
    seconds: float = float("inf"),
    among: Sequence[Setting] | None = None,
) -> dict[str, Result]:
    """Measure milliseconds, memory and spike rates of contenders; note the reason for those that cannot run.

    Args:
        network: as :func:`benchmarks.starting_weights.with_start` returns it.
        rounds: most turns of each contender.
        steps: steps of a turn.
        label: text of the progress bar.
        names: contenders.
        seconds: time after which no turn begins, once each contender had :data:`LEAST`.
        among: settings of threads to try; by default all.
    """

    def start(name: str) -> Chosen[Worker]:
        module, tried = CONTENDERS[name], min(steps, TRIAL)
        return fastest(
            lambda setting: Worker(module, network, setting),
            lambda worker: worker.steps(tried)["seconds"],
            settings() if among is None else list(among),
        )

    turns = Turns({name: (lambda name=name: start(name)) for name in names})
    times: dict[str, list[float]] = {name: [] for name in names}
    try:
        turns.each(lambda worker: worker.steps(WARM_UP))
        begin = time.monotonic()
        for turn in track(range(rounds), description=label, console=console, transient=True):
            if turn >= LEAST and time.monotonic() - begin > seconds:
                break
            for name, answer in turns.each(lambda worker: worker.steps(steps)):
                times[name] += answer.pop("seconds")
                turns.results[name] |= answer
        for name, rates in turns.each(lambda worker: worker.rates()):
            turns.results[name] |= rates or {}
    finally:
        turns.close()
    for name in turns.processes:
        quartiles = [second * 1e3 for second in statistics.quantiles(times[name], n=4)]
        turns.results[name] |= {"ms": quartiles[1], "ms_quartiles": [quartiles[0], quartiles[2]]}
        turns.results[name]["steps"] = len(times[name])
    return turns.results


def medians(contenders: dict[str, Callable[[], object]], rounds: int, description: str) -> dict[str, float]:
    """Measure median milliseconds of functions in this process, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
        call()
    for _ in track(range(rounds), description=description, console=console, transient=True):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) * 1e3 for name, seconds in times.items()}
