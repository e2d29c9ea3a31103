"""Contenders in processes of their own that take turns, a few steps each.

A machine whose speed drifts is then the same for all; compared are medians. Each runs in the setting of its threads in
which it is fastest (:mod:`benchmarks.settings`).
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
"""One contender: ``ms`` and ``ms_quartiles`` of a step, ``peak_mb``, ``grown_mb``, ``rates``, ``setting`` of its
threads and ``trial_ms`` of every setting; or ``skipped``."""

WARM_UP = 3
"""Steps of each contender that are not counted."""
LEAST = 3
"""Turns that each contender has, however short the time."""
TRIAL = 2
"""Most steps of a turn in the trial of a setting."""

console = Console(stderr=True)


class Worker(Process):
    """The process of a contender's steps (``worker.py``); raises :class:`Absent` once it has ended."""

    def __init__(self, module: str, network: Network, setting: Setting) -> None:
        super().__init__("worker.py", module, network, setting)

    def steps(self, count: int) -> Result:
        """Seconds of each of ``count`` steps, and the most memory held so far: in all, and since before the network."""
        return self.ask(count)

    def rates(self) -> Result | None:
        """Mean spikes per neuron and step of each layer: ``rates`` with the weights of the start, ``rates_after`` with
        those of now; ``None`` for what does not spike. To be asked last: it takes memory of its own.
        """
        return self.ask("rates")


class Turns:
    """Processes by name, each left out from the moment it fails, with the reason in ``results``.

    start: makes each, in the setting that was chosen for it (:func:`benchmarks.settings.fastest`).
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
        """The answers of those that still run, one after the other."""
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
    """Median milliseconds, memory and spike rates of each of the contenders ``names``; why, for those that cannot run.

    network: as :func:`benchmarks.start.with_start` gives it. rounds: turns of each, of ``steps`` steps; no further one
    begins when ``seconds`` have passed and each had :data:`LEAST`. among: settings of threads (default: all).
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
    """Median milliseconds of each of the ``contenders``, functions in this process that are called by turns."""
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
