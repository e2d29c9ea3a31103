"""The benchmark of a step: a table with ratios from a tiny network, whoever is missing named with the reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import starting_weights, tables, turns
from benchmarks.contenders import CONTENDERS, CONVOLUTIONS, FLOOR, LFPROP, OURS, RECOMPUTED, SNNTORCH, VARIABLES
from benchmarks.plots import plot_steps
from benchmarks.record import save
from benchmarks.settings import Setting
from benchmarks.starting_weights import with_start
from benchmarks.turns import Worker, measure
from spikelfp import models, nn
from spikelfp.analysis import spike_rates

TINY = {
    "kind": "mlp",
    "sizes": [784, 24, 20, 10],
    "steps": 4,
    "batch": 8,
    "start": {"how": "scaled", "rate": 0.2},
    "goals": {SNNTORCH: 1e-6, LFPROP: 2.0, FLOOR: 1e-6},
    "memory_goals": {SNNTORCH: 0.0},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two rounds of the tiny network; the interpreter of the published code does not exist."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "settings", lambda: [Setting(1)])
        patch.setenv(VARIABLES[CONTENDERS[LFPROP]], "/nowhere/python")
        folder = tmp_path_factory.mktemp("start")
        names = [OURS, RECOMPUTED, SNNTORCH, LFPROP, FLOOR, CONVOLUTIONS]
        return measure(with_start(TINY, folder), 2, 2, "tiny", names)


def test_times_memory_and_versions(results):
    for name in (OURS, RECOMPUTED, SNNTORCH, FLOOR):
        result = results[name]
        low, high = result["ms_quartiles"]
        assert 0 < low <= result["ms"] <= high
        assert result["steps"] == 4
        assert 0 <= result["grown_mb"] < result["peak_mb"]
        assert result["threads"] == 1
    assert results[SNNTORCH]["versions"].keys() == {"snntorch"}


def test_ratios_are_against_our_step(results):
    assert tables.ratio(results, SNNTORCH) == results[SNNTORCH]["ms"] / results[OURS]["ms"]
    assert tables.ratio(results, FLOOR) == results[OURS]["ms"] / results[FLOOR]["ms"]
    assert tables.ratio(results, LFPROP) is None


def test_contenders_start_at_the_same_rates_and_stay_there(results):
    ours = results[OURS]["rates"]
    assert ours[:2] == pytest.approx([0.2, 0.2], abs=0.05)
    for name in (RECOMPUTED, SNNTORCH):
        assert results[name]["rates"] == pytest.approx(ours, abs=1e-3)
    for name in (OURS, SNNTORCH):
        assert results[name]["rates_after"] == pytest.approx(results[name]["rates"], abs=1e-2)
    assert "rates" not in results[FLOOR]


def test_missing_contenders_have_a_reason(results):
    assert "/nowhere/python: No such file" in results[LFPROP]["skipped"]
    assert "SPIKELFP_BENCH_LFPROP" in results[LFPROP]["skipped"]
    assert results[CONVOLUTIONS]["skipped"] == "ValueError: a network without convolutions"


def test_results_are_written(results, tmp_path, capsys):
    networks = {"tiny": TINY}
    save("step", "How", {"tiny": results}, lambda t, a: tables.markdown(t, networks, a), plot_steps, folder=tmp_path)
    assert json.loads((tmp_path / "step.json").read_text())["networks"]["tiny"] == json.loads(json.dumps(results))
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "step.md").read_text()
    assert text == capsys.readouterr().out.removesuffix("\n")
    lines = text.splitlines()
    for table in [line for line in lines if set(line) == {"|", "-"}]:
        head = lines[lines.index(table) - 1]
        assert head.count("|") == table.count("|")
    assert "How" in lines[0]
    assert f"| tiny | {results[OURS]['ms']:.1f} ms |" in text
    assert f"{tables.ratio(results, SNNTORCH):.2f}× (goal ≥ 1e-06×, met)" in text
    assert f"{tables.ratio(results, FLOOR):.2f}× (goal ≤ 1e-06×, not met)" in text
    assert f"* {LFPROP}: /nowhere/python" in text
    assert "| tiny | 1 thread | 1 thread | 1 thread | 1 thread |" in text


def test_convolutions_of_a_lenet_are_bounds():
    worker = Worker(CONTENDERS[CONVOLUTIONS], {"kind": "lenet", "steps": 2, "batch": 2}, Setting(1))
    try:
        assert "torch" in worker.ready()["versions"]
        assert len(worker.steps(3)["seconds"]) == 3
        assert worker.rates() is None
    finally:
        worker.close()


def test_the_start_is_made_once(tmp_path, monkeypatch):
    first = starting_weights.start_file(TINY, tmp_path)
    monkeypatch.setattr(starting_weights, "make", None)  # would fail
    assert starting_weights.start_file(TINY, tmp_path) == first
    saved = torch.load(first, weights_only=True)
    assert saved["images"].shape == (8, 1, 28, 28)
    assert [tuple(p.shape) for p in saved["parameters"][::2]] == [(24, 784), (20, 24), (10, 20)]


def test_scaling_reaches_the_rate_in_a_lenet():
    net = models.lif_lenet()
    x = nn.constant(torch.rand(4, 1, 28, 28), 4)
    reached = starting_weights.scale_to(net, x, 0.1)
    assert reached == pytest.approx([0.1] * 3, abs=0.01)
    assert list(spike_rates(net, x).values())[:-1] == pytest.approx(reached, abs=1e-3)


def test_training_that_stays_too_active_is_an_error(monkeypatch):
    network = TINY | {"start": {"how": "trained", "lr": 1e-6, "epochs": 1, "at_most": -1.0}}
    with pytest.raises(RuntimeError, match=r"above -1\.0"):
        starting_weights.make(network)


def test_a_start_must_be_known():
    with pytest.raises(ValueError, match="'guessed'"):
        starting_weights.make(TINY | {"start": {"how": "guessed"}})
