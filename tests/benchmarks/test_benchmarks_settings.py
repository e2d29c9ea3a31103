"""Every contender is measured in the setting of its threads in which it is fastest, and the tables say which."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import tables, turns
from benchmarks.contenders import CONVOLUTIONS, FLOOR, OURS, SNNTORCH
from benchmarks.process import Absent
from benchmarks.settings import ROUNDS, Setting, fastest, settings
from benchmarks.turns import measure

TINY = {"kind": "mlp", "sizes": [784, 8, 10], "steps": 2, "batch": 4}
ONE, TWO, PASSIVE = Setting(1), Setting(2), Setting(2, passive=True)
SECONDS = {ONE: 3.0, TWO: 2.0, PASSIVE: 4.0}


class Fake:
    """A process whose steps take so long; the first one, longer."""

    def __init__(self, setting, broken=()):
        self.setting, self.broken, self.asked, self.open = setting, broken, 0, True

    def ready(self):
        if self.setting in self.broken:
            raise Absent("it is broken")
        return {"threads": self.setting.threads}

    def step(self):
        self.asked += 1
        return [SECONDS[self.setting] if self.asked > 1 else 100.0]

    def close(self):
        self.open = False


@pytest.fixture
def made():
    return []


def choose(made, among, **options):
    def start(setting):
        made.append(Fake(setting, **options))
        return made[-1]

    return fastest(start, Fake.step, among)


def test_the_fastest_is_kept_and_the_others_end(made):
    chosen = choose(made, [ONE, TWO, PASSIVE])
    assert chosen.setting == TWO
    assert chosen.process is made[1]
    assert [process.open for process in made] == [False, True, False]
    assert {process.asked for process in made} == {1 + ROUNDS}  # the first turn is a warm-up
    trials = {"1 thread": 3e3, "2 threads": 2e3, "2 threads, passive": 4e3}
    assert chosen.about == {"setting": "2 threads", "trial_ms": trials}


def test_one_setting_is_not_tried(made):
    chosen = choose(made, [ONE])
    assert chosen.about == {"setting": "1 thread", "trial_ms": {}}
    assert (made[0].asked, made[0].open) == (0, True)


def test_all_end_when_one_cannot_run(made):
    with pytest.raises(Absent, match="it is broken"):
        choose(made, [ONE, TWO, PASSIVE], broken=[TWO])
    assert [process.open for process in made] == [False, False, False]


def test_a_setting_is_that_of_the_process_alone(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # as importing spikelfp leaves it
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OTHER", "stays")
    environments = [setting.environment() for setting in (ONE, TWO, PASSIVE)]
    assert [each["OMP_NUM_THREADS"] for each in environments] == ["1", "2", "2"]
    assert [each.get("OMP_WAIT_POLICY") for each in environments] == [None, None, "PASSIVE"]
    assert {each["OTHER"] for each in environments} == {"stays"}


def test_as_many_threads_as_torch_takes(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert settings() == [Setting(1), Setting(4), Setting(4, passive=True)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert settings() == [Setting(1)]


def test_processes_run_in_their_settings(monkeypatch):
    monkeypatch.setattr(turns, "settings", lambda: [ONE, TWO])
    results = measure(TINY, 1, 2, "tiny", [FLOOR])[FLOOR]
    assert results["trial_ms"].keys() == {"1 thread", "2 threads"}
    assert results["setting"] == min(results["trial_ms"], key=results["trial_ms"].get)
    assert f"{results['threads']} thread" in results["setting"]  # what torch says there


def test_the_short_table_has_multiples_of_our_time():
    ours = {"ms": 10.0, "grown_mb": 34.6}
    results = {OURS: ours, SNNTORCH: {"ms": 42.0}, FLOOR: {"ms": 5.0}, CONVOLUTIONS: {"skipped": "none"}}
    lenet = {OURS: ours, FLOOR: {"ms": 40.0}, CONVOLUTIONS: {"ms": 20.0}}
    lines = tables.short({"784-1000-10": results, "LeNet (A.6.4), T 25": lenet})
    assert lines[2:4] == [
        "| 784-1000-10 | 10.0 ms, 35 MB | – | 4.2× | – | – | 2.00 |",
        "| LeNet, T 25 | 10.0 ms, 35 MB | – | – | – | – | **0.25** (0.50 of its convolutions) |",
    ]


def test_tables_say_which():
    row = {"setting": "2 threads", "threads": 2}
    lines = tables.settings_of(
        {"net": {"a": row, "b": {"skipped": "no"}}, "other": {"c": row | {"setting": "1 thread"}}}
    )
    assert lines[2:] == ["|  | a | c |", "|---|---|---|", "| net | 2 threads | – |", "| other | – | 1 thread |", ""]
    assert tables.settings_of({"net": {"a": {"ms": 1.0}}}) == []  # measured before settings were chosen
