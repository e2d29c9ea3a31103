"""The benchmark of methods without a backward pass: its runs, its tables, and those of the documentation."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import forward_only
from benchmarks.forward.sections import SECTIONS, shortened
from benchmarks.record import RESULTS
from benchmarks.trained.folders import OtherRunError, check, words
from benchmarks.trained.table import Plan, Row, Section
from spikelfp.training.config import RunConfig

OPTIONS = {"data": "digits", "model": "mlp", "hidden": (4,), "epochs": 1, "batch_size": 500}
TINY = Section(
    "tiny",
    "one epoch",
    OPTIONS,
    {
        "f3": Row("F³", {"method": "f3"}, 0.5, choices=({"lr": 1e-3}, {"lr": 1e-2})),
        "drtp": Row("DRTP", {"method": "drtp", "lr": 1e-2}),
    },
    tuning={"validation": 0.5},
    cost=True,
)


@pytest.mark.slow
def test_runs_are_carried_out_once_and_collected(tmp_path, capsys):
    given = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "1"]
    forward_only.main(given, {"tiny": TINY})
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert folders == ["tiny_drtp_s0", "tiny_f3_s0", "tiny_f3_try0", "tiny_f3_try1"]
    found = json.loads((tmp_path / "forward_only.json").read_text())
    rows = found["networks"]["tiny"]["rows"]
    tuning = rows["f3"]["tuning"]
    best = max(tuning, key=lambda one: one["score"])["choice"]
    assert rows["f3"]["chosen"] == best
    assert f"--lr {best['lr']:g}" in rows["f3"]["command"]
    for key, row in rows.items():
        (run,) = row["runs"]
        summary = json.loads((tmp_path / "runs" / f"tiny_{key}_s0" / "summary.json").read_text())
        assert run["scores"] == [pytest.approx(summary["score"]["value"])]
        assert run["cpu_seconds"] > 0
        assert run["memory_mb"] == summary["peak_memory_mb"]
    assert "| F³ | " in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    forward_only.main([*given, "--collect", "--only", "tiny"], {"tiny": TINY})
    forward_only.main(given, {"tiny": TINY})
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == times
    assert json.loads((tmp_path / "forward_only.json").read_text()) == found
    with pytest.raises(OtherRunError, match=r"batch_size 500, and 50 is asked for"):
        check(tmp_path / "runs" / "tiny_f3_s0", OPTIONS | {"batch_size": 50})


def test_a_shorter_run_counts_if_its_learning_rate_is_constant(tmp_path):
    for schedule in ("constant", "one-cycle"):
        config = RunConfig(**OPTIONS, schedule=schedule)
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        asked = OPTIONS | {"epochs": 3}
        with pytest.raises(OtherRunError, match="epochs 1, and 3 is asked for"):
            check(tmp_path, asked)
        if schedule == "constant":
            check(tmp_path, asked, shorter=True)
            continue
        with pytest.raises(OtherRunError):
            check(tmp_path, asked, shorter=True)


def test_a_row_is_a_run_and_a_line_of_the_table(tmp_path, capsys):
    last = Section("last layer", "one epoch", OPTIONS, {"llo": Row("LLO", {"method": "llo"})})
    given = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "1"]
    forward_only.main(given, {"last": last})
    found = json.loads((tmp_path / "forward_only.json").read_text())["networks"]["last"]["rows"]["llo"]["runs"]
    summary = json.loads((tmp_path / "runs" / "last_llo_s0" / "summary.json").read_text())
    assert [run["scores"] for run in found] == [[pytest.approx(summary["score"]["value"])]]
    assert f"| LLO | {summary['score']['value']:.4f} | 1 | 1 |" in capsys.readouterr().out


def test_runs_that_the_results_hold_are_not_run_again(tmp_path):
    run = {"seed": 0, "finished": True, "scores": [0.5], "seconds": [1.0], "memory_mb": 1, "cpu_seconds": 1.0}
    row = {
        "name": "F³",
        "paper": 0.5,
        "command": "--data digits --model mlp --hidden 4 --epochs 1 --batch-size 500 --method f3 --lr 0.01",
        "chosen": {"lr": 1e-2},
        "tuning": [{"choice": {"lr": 1e-3}, "score": 0.1}, {"choice": {"lr": 1e-2}, "score": 0.2}],
        "runs": [run],
    }
    other = row | {"command": "--data digits --method drtp --lr 0.01", "tuning": []}  # of other options
    unfinished = row | {"runs": [run | {"finished": False, "scores": [0.4]}]}
    plan = Plan(tmp_path, tmp_path / "runs", {}, seeds=1, methods=())
    measured = plan.measure("tiny", TINY, {"rows": {"f3": row, "drtp": other}})["rows"]
    assert measured["f3"] == row
    assert measured["drtp"]["runs"] == []
    assert plan.measure("tiny", TINY, {"rows": {"f3": unfinished}})["rows"]["f3"] == unfinished
    worse = [{"choice": one["choice"], "score": 1 - one["score"]} for one in row["tuning"]]
    assert plan.measure("tiny", TINY, {"rows": {"f3": row | {"tuning": worse}}})["rows"]["f3"]["runs"] == []
    second, alone = Plan(tmp_path, tmp_path / "runs", {}, seeds=2), replace(TINY, rows={"f3": TINY.rows["f3"]})
    stopped = run | {"seed": 1, "finished": False}
    found = second.measure("tiny", alone, {"rows": {"f3": row | {"runs": [run, stopped]}}})["rows"]["f3"]
    assert [each["seed"] for each in found["runs"]] == [0, 1]
    assert found["runs"][0] == run
    assert found["runs"][1]["finished"]
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["tiny_f3_s1"]


def test_a_choice_that_is_new_is_tried_alone(tmp_path):
    tried = [{"choice": {"lr": 1e-3}, "score": 0.1}, {"choice": {"lr": 0.5}, "score": 0.0}]
    command = "--data digits --model mlp --hidden 4 --epochs 1 --batch-size 500 --method f3 --lr 0.001"
    row = {"name": "F³", "command": command, "chosen": {"lr": 1e-3}, "tuning": tried, "runs": []}
    alone = replace(TINY, rows={"f3": TINY.rows["f3"]})
    nothing_run = Plan(tmp_path, tmp_path / "runs", {}, seeds=1, methods=())
    assert nothing_run.measure("tiny", alone, {"rows": {"f3": row}})["rows"]["f3"]["tuning"] == tried[:1]
    otherwise = {"rows": {"f3": row}, "tuned": dict(TINY.tuning) | {"epochs": 9}}
    assert nothing_run.measure("tiny", alone, otherwise)["rows"]["f3"]["tuning"] == []
    found = Plan(tmp_path, tmp_path / "runs", {}, seeds=1).measure("tiny", alone, {"rows": {"f3": row}})
    assert found["tuned"] == TINY.tuning
    assert found["rows"]["f3"]["tuning"][0] == tried[0]
    assert found["rows"]["f3"]["tuning"][1]["choice"] == {"lr": 1e-2}
    assert not (tmp_path / "runs" / "tiny_f3_try0").exists()
    assert (tmp_path / "runs" / "tiny_f3_try1").exists()


def test_a_run_that_fails_says_why(tmp_path):
    wrong = Section("wrong", "", OPTIONS | {"hidden": (0,)}, {"f3": Row("F³", {"method": "f3"})})
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 2: .*hidden"):
        forward_only.main(["--out", str(tmp_path), "--runs", str(tmp_path), "--seeds", "1"], {"wrong": wrong})


def test_nothing_is_run_to_collect(tmp_path, capsys):
    given = ["--out", str(tmp_path), "--runs", str(tmp_path / "none"), "--collect"]
    forward_only.main(given, {"tiny": TINY})
    assert "| F³ | – | 0.5 | 0 | 0 | – | – |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        forward_only.main([*given, "--only", "tin"], {"tiny": TINY})
    assert "no 'tin'" in capsys.readouterr().err


def section(unit, poor, good, ours):
    rows = {
        name: {"runs": [{"seed": seed, "scores": scores} for seed, scores in enumerate(each)]}
        for name, each in (("drtp", poor), ("gradient", good), ("f3", ours))
    }
    return {"unit": unit, "rows": rows, "gap": ("drtp", "gradient", "f3", 0.5, 0.9)}


def test_the_share_of_a_gap_is_of_epochs_and_seeds_that_all_have():
    share = forward_only.closed(section("loss", [[9.0, 5.0]], [[8.0, 1.0], [0.0, 0.0]], [[7.0, 2.0, 0.0]]))
    assert share["share"] == pytest.approx(0.75)
    assert (share["epoch"], share["seeds"]) == (2, [0])
    share = forward_only.closed(section("error", [[0.6], [0.8]], [[0.9], [0.9]], [[0.7], [0.9]]))
    assert share["share"] == pytest.approx(0.5)
    assert share["seeds"] == [0, 1]
    assert forward_only.closed(section("loss", [[1.0]], [[1.0]], [[0.5]]))["share"] is None
    assert forward_only.closed(section("loss", [[1.0]], [], [[0.5]])) is None


def test_every_run_is_one_that_the_command_takes(tmp_path):
    for name, whole in SECTIONS.items():
        for each in (whole, shortened(whole)):
            for row in each.rows.values():
                for choice in ({}, *row.choices, *({**one, **each.tuning} for one in row.choices)):
                    options = {key: v for key, v in (each.options | row.options | choice).items() if key != "plugin"}
                    config = RunConfig(**options)
                    assert config.flat.method == options["method"], name
                    assert all(isinstance(word, str) for word in words(options))


def test_the_page_holds_the_tables_of_the_results():
    table = json.loads((RESULTS / "forward_only.json").read_text())["networks"]
    text = forward_only.PAGE.read_text()
    assert forward_only.into_page(text, table) == text, "python -m benchmarks.forward_only --collect writes it anew"
    assert set(table) <= set(SECTIONS)
