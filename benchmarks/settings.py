"""Settings of threads: each contender runs in the setting that was fastest in a short trial.

OpenMP threads that wait for work may spin (as it comes) or sleep (passive). Which is faster depends on the contender,
the network and the machine, and so does the number of threads; a setting that suits one contender may halve the speed
of another. With one thread nothing waits.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch

ROUNDS = 3
"""Turns of each setting that count in a trial."""


class Setting(NamedTuple):
    """Number of threads, and whether they sleep while they wait."""

    threads: int
    passive: bool = False

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads > 1)}{', passive' * self.passive}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process in this setting."""
        others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        policy = {"OMP_WAIT_POLICY": "PASSIVE"} if self.passive else {}
        return others | {"OMP_NUM_THREADS": str(self.threads)} | policy


def settings() -> list[Setting]:
    """One thread, and as many as torch takes here (``OMP_NUM_THREADS``, else the cores), as they come and passive."""
    most = torch.get_num_threads()
    return [Setting(1)] + ([Setting(most), Setting(most, passive=True)] if most > 1 else [])


class Tried(Protocol):
    """Process of a contender."""

    def ready(self) -> dict[str, Any]:
        """Wait until the process is ready, and return its first answer; further calls return the same."""

    def close(self) -> None:
        """End the process."""


P = TypeVar("P", bound=Tried)


class Chosen(NamedTuple, Generic[P]):
    """Process in the fastest setting, and ``about``: ``setting`` and the ``trial_ms`` of every setting."""

    process: P
    setting: Setting
    about: dict[str, Any]


def fastest(start: Callable[[Setting], P], trial: Callable[[P], list[float]], among: list[Setting]) -> Chosen[P]:
    """Start a process in each of the settings, let them take turns, and keep the fastest; the others end.

    Args:
        start: a contender's process in a setting.
        trial: seconds of some of its steps. Called once to warm up, then :data:`ROUNDS` times; medians are compared.
        among: the settings; one alone is not tried, nor waited for.
    """
    processes: dict[Setting, P] = {}
    times: dict[Setting, list[float]] = {setting: [] for setting in among}
    with ExitStack() as unless_chosen:
        for setting in among:  # they load side by side
            processes[setting] = start(setting)
            unless_chosen.callback(processes[setting].close)
        tried = list(processes.values()) if len(among) > 1 else []
        for process in tried:
            process.ready()
        for turn in range(ROUNDS + 1 if tried else 0):
            for setting, process in processes.items():
                seconds = trial(process)
                times[setting] += seconds if turn else []
        medians = {setting: statistics.median(seconds) for setting, seconds in times.items() if seconds}
        best = min(medians, key=medians.__getitem__, default=among[0])
        unless_chosen.pop_all()
        for setting, process in processes.items():
            if setting != best:
                process.close()
    said = {"setting": str(best), "trial_ms": {str(setting): 1e3 * median for setting, median in medians.items()}}
    return Chosen(processes[best], best, said)
