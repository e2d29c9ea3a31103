"""The benchmark of the README's first table: its columns, its runs, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import mnist
from benchmarks.record import RESULTS
from benchmarks.trained.table import Section
from spikelfp.training.config import RunConfig

HELD = RESULTS / "mnist.json"


def test_a_row_for_each_network_and_a_column_for_each_method():
    def network(title, **scores):
        rows = {
            key: {
                "name": mnist.COLUMNS[key].name,
                "command": "--data digits",
                "runs": [{"finished": True, "scores": [0.1, one], "spike_rates": {"1": 0.5, "3": 0.9}} for one in own],
            }
            for key, own in scores.items()
        }
        return {"title": title, "about": "chosen elsewhere", "rows": rows}

    table = {"a": network("A", lfp=[0.5, 0.7], paper=[], surrogate=[0.55]), "b": network("B", lfp=[0.25])}
    lines = mnist.accuracies(table)
    assert lines[0] == "| network | LFP | LFP, the paper's rule | surrogate gradient |"
    assert lines[2:4] == ["| A | 0.6000 ± 0.1414 | – | 0.5500 |", "| B | 0.2500 | – | – |"]
    page = mnist.into_page(f"x\n{mnist.BEGIN}old\n{mnist.END}y\n", table)
    assert "old" not in page
    assert page.endswith(f"\n{mnist.END}y\n")
    assert "| LFP | 0.5000, 0.7000 | 50.0 % |" in mnist.markdown(table, "How")  # of hidden layers alone


@pytest.mark.parametrize("section", mnist.SECTIONS.values(), ids=mnist.SECTIONS)
def test_every_run_is_one_that_the_command_takes(section):
    for each in (section, mnist.shortened(section)):
        for row in each.rows.values():
            config = RunConfig(**each.options | row.options)
            assert config.flat.data == each.options["data"]
            assert config.flat.method == row.options.get("method", "lfp")


def test_it_runs(tmp_path, capsys):
    options = {"data": "digits", "hidden": (4,), "steps": 2, "epochs": 1, "batch_size": 500}
    tiny = Section("tiny", "one epoch", options, {"lfp": mnist.COLUMNS["lfp"]})
    mnist.main(["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "1"], {"tiny": tiny})
    (run,) = json.loads((tmp_path / "mnist.json").read_text())["networks"]["tiny"]["rows"]["lfp"]["runs"]
    summary = json.loads((tmp_path / "runs" / "tiny_lfp_s0" / "summary.json").read_text())
    assert run["scores"] == [pytest.approx(summary["test_accuracy"])]
    assert f"| tiny | {summary['test_accuracy']:.4f} |" in capsys.readouterr().out


def test_the_readme_shows_what_the_results_hold():
    text = Path(mnist.PAGE).read_text()
    table = json.loads(HELD.read_text())["networks"]
    assert mnist.into_page(text, table) == text, "python -m benchmarks.mnist --collect writes it anew"
    assert all(network["rows"]["lfp"]["runs"] for network in table.values())
