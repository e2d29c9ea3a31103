"""Running of experiments: parts are kept, errors are one line, and processes change no number."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from spikelfp import reproduce as package
from spikelfp.errors import PluginError, RunFolderError, UnknownNameError, UserError
from spikelfp.reproduce import Experiment, Part, Verdict, experiments, reproduce
from spikelfp.reproduce.base import Results, grid, named, spread
from spikelfp.reproduce.runner import FOLDER
from spikelfp.training.run import Interrupted

PLUGIN = """
import time
import numpy as np
import torch
from spikelfp.errors import UserError
from spikelfp.reproduce import Experiment, Part, Verdict, experiments

@experiments.register("sample")
class Sample(Experiment):
    title, source, setting = "A sample", "LFP v3, Fig. 0", "Numbers that are drawn."
    claims = ("Numbers are drawn.",)
    minutes, seeds = 0.01, 2

    def parts(self, quick, seeds):
        return [Part(f"seed{seed}", {"seed": seed}) for seed in range(seeds)]

    def run(self, part, desk):
        mode = desk.data_dir
        if mode == "slow" and part.settings["seed"] == 1:
            time.sleep(600)
        if mode == "refuse":
            raise UserError("this part is refused")
        if mode == "break":
            raise ZeroDivisionError("a fault")
        desk.keep(drawn=torch.rand(3))
        return [{"number": torch.rand(()), "threads": torch.get_num_threads(), "of": np.float32(0.5)}]

    def judge(self, results):
        return [Verdict(bool(len(results.values("number"))), f"{len(results.rows)} rows")]

    def draw(self, results, figure):
        figure.subplots().plot([float(results.arrays(part)["drawn"].sum()) for part in results.parts])
"""


@pytest.fixture
def sample(tmp_path, registrations_end):
    """Register the sample as a plug-in does; returns the file."""
    from spikelfp import plugins

    file = tmp_path / "sample_experiment.py"
    file.write_text(PLUGIN)
    plugins.load(str(file))
    yield file
    experiments.remove("sample")
    plugins._loaded.pop(str(file))


def test_parts_side_by_side_give_the_numbers_of_one_process(sample, tmp_path):
    reproduce("sample", tmp_path / "one", seeds=3)
    lines = []
    reproduce("sample", tmp_path / "two", seeds=3, jobs=2, echo=lines.append)
    texts = [(tmp_path / name / "results.csv").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]
    rows = list(csv.DictReader((tmp_path / "one" / "results.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert {row["threads"] for row in rows} == {"1"}
    assert len({row["number"] for row in rows}) == 3  # seeds differ
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    with np.load(tmp_path / "two" / "parts" / "seed0.npz") as held:
        assert held["drawn"].shape == (3,)


def test_finished_parts_are_kept_and_damaged_ones_run_again(sample, tmp_path):
    out = tmp_path / "out"
    reproduce("sample", out)
    kept, damaged = (out / "parts" / f"seed{seed}.json" for seed in range(2))
    before, text = kept.stat().st_mtime_ns, damaged.read_text()
    damaged.write_text("{")
    lines = []
    reproduce("sample", out, echo=lines.append)
    assert kept.stat().st_mtime_ns == before
    assert damaged.read_text() == text
    assert [line.split()[:2] for line in lines] == [["2/2", "seed1"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 3}, "seeds 2, and seeds 3 is asked for"),
        ({"quick": True, "seeds": 2}, "the full form, and the quick form is asked for"),
        ({"name": "two-weights", "seeds": 2}, "experiment sample, and experiment two-weights is asked for"),
    ],
)
def test_a_folder_of_other_options_is_refused(sample, tmp_path, options, said):
    reproduce("sample", tmp_path / "out")
    with pytest.raises(RunFolderError, match=said):
        reproduce(**{"name": "sample", "out": tmp_path / "out"} | options)


def test_parts_of_other_versions_are_not_mixed(sample, tmp_path, monkeypatch):
    reproduce("sample", tmp_path / "out")
    monkeypatch.setattr("spikelfp.reproduce.runner.version", lambda name: "0.0.1")
    with pytest.raises(RunFolderError, match=r"begun with other versions \(spikelfp .*; spikelfp 0\.0\.1, "):
        reproduce("sample", tmp_path / "out")


def test_a_folder_of_something_else_is_refused(sample, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds .* and no experiment: name another --out"):
        reproduce("sample", tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "experiment.json").write_text("[]")
    with pytest.raises(RunFolderError, match="cannot be read"):
        reproduce("sample", tmp_path / "out")
    assert FOLDER.name == "experiment"


def test_wrong_arguments(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'two-weights'"):
        reproduce("two-wieghts", tmp_path / "out")
    for wrong in ({"seeds": 0}, {"seeds": 1.5}, {"jobs": 0}, {"jobs": True}):
        with pytest.raises(UserError, match="whole number of at least 1"):
            reproduce("two-weights", tmp_path / "out", **wrong)
    with pytest.raises(UserError, match="10,000 at most, got 99999999999"):
        reproduce("two-weights", tmp_path / "out", seeds=99999999999)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_of_parts(sample, tmp_path, jobs):
    with pytest.raises(UserError, match=r"^this part is refused$"):
        reproduce("sample", tmp_path / "refused", data_dir="refuse", jobs=jobs)
    with pytest.raises(ZeroDivisionError if jobs == 1 else PluginError, match="a fault"):
        reproduce("sample", tmp_path / "broken", data_dir="break", jobs=jobs)


def test_data_that_are_absent_are_named_before_anything_runs(tmp_path, monkeypatch):
    class Needy(experiments["two-weights"]):
        data = ("mnist",)

    monkeypatch.setitem(experiments._entries, "two-weights", Needy)
    monkeypatch.setattr("spikelfp.data.download._get", None, raising=False)
    with pytest.raises(UserError, match=r"this experiment needs the data set mnist: .*train-images"):
        reproduce("two-weights", tmp_path / "out", data_dir=str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_stopped_experiment_goes_on(sample, tmp_path, number):
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom spikelfp import plugins\nfrom spikelfp.reproduce import reproduce\n"
        "from spikelfp.training.run import Interrupted\n"
        "if __name__ == '__main__':\n"
        f"    plugins.load({str(sample)!r})\n"
        "    try:\n"
        f"        reproduce('sample', {str(out)!r}, data_dir='slow', jobs=2)\n"
        "    except Interrupted as stop:\n"
        "        print(stop)\n"
        "        sys.exit(128 + stop.number)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (out / "parts" / "seed0.json").exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert said.startswith("stopped with 1 of 2 parts left; the same command goes on: spikelfp reproduce sample")
    lines = []
    reproduce("sample", out, echo=lines.append)
    assert [line.split()[1] for line in lines] == ["seed1"]


def test_ctrl_c_in_this_process(sample, tmp_path, monkeypatch):
    def interrupted(self, part, desk):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(experiments["sample"], "run", interrupted)
    with pytest.raises(Interrupted, match="stopped with 2 of 2 parts left") as stopped:
        reproduce("sample", tmp_path / "out")
    assert stopped.value.number == signal.SIGINT


def test_as_many_verdicts_as_claims(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments["sample"], "judge", lambda self, results: [])
    with pytest.raises(ValueError, match="1 claims and 0 verdicts"):
        reproduce("sample", tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"settings": {"seed": 1}, "rows": 7}', '{"settings": {"seed": 1}, "rows": [{}]}']
)
def test_files_of_parts_that_are_none_run_again(sample, tmp_path, text):
    reproduce("sample", tmp_path / "out")
    damaged = tmp_path / "out" / "parts" / "seed1.json"
    before = damaged.read_text()
    damaged.write_text(text)
    lines = []
    reproduce("sample", tmp_path / "out", echo=lines.append)
    assert [line.split()[1] for line in lines] == ["seed1"]
    assert damaged.read_text() == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("parts", lambda *_: None, r"parts\(\) returns a list of Part, got None"),
        ("parts", lambda *_: [], r"parts\(\) returns a list of Part"),
        ("parts", lambda *_: [("a", {})], r"parts\(\) returns a list of Part"),
        ("parts", lambda *_: [Part("a"), Part("A")], "two parts have the name A"),
        ("parts", lambda *_: [Part("../a")], r"a part has the name '\.\./a'"),
        ("parts", lambda *_: [Part("a", {"lr": float("nan")})], "settings of part a are finite numbers"),
        ("parts", lambda *_: [Part("a", {"w": np.ones(2)})], "settings of part a are finite numbers"),
        ("run", lambda *_: None, r"in part seed0 run\(\) returns a list of rows, each a dict, got None"),
        ("run", lambda *_: [{"w": np.ones(2)}], "the column 'w' is one number.*got ndarray"),
        ("judge", lambda *_: ["holds"], r"judge\(\) returns a list of Verdict, got \['holds'\]"),
        ("judge", lambda *_: None, r"judge\(\) returns a list of Verdict, got None"),
        ("claims", "One claim.", "claims is a tuple of sentences"),
    ],
)  # fmt: skip
def test_faulty_experiments_are_named(sample, tmp_path, monkeypatch, name, value, said):
    monkeypatch.setattr(experiments["sample"], name, value)
    with pytest.raises(UserError, match="^experiment sample is faulty: .*" + said):
        reproduce("sample", tmp_path / "out", seeds=1)
    assert not (tmp_path / "a.json").exists()


def test_experiments_that_leave_something_out(tmp_path, monkeypatch):
    class Silent(Experiment):
        title, source, setting, claims = "A", "B", "C", ("D",)

    monkeypatch.setitem(experiments._entries, "two-weights", Silent)
    with pytest.raises(UserError, match="does not state its minutes"):
        reproduce("two-weights", tmp_path / "out")
    Silent.minutes = 1.0
    with pytest.raises(UserError, match="does not define draw, judge, parts, run"):
        reproduce("two-weights", tmp_path / "out")
    monkeypatch.setitem(experiments._entries, "two-weights", print)
    with pytest.raises(UserError, match="it is a class of Experiment"):
        reproduce("two-weights", tmp_path / "out")


def test_verdicts_are_truth_values_of_json():
    assert json.dumps(Verdict(np.bool_(False), "").holds) == "false"
    assert Verdict(None, "").holds is None


def test_results_select():
    rows = [{"method": "lfp", "seed": 0, "accuracy": 0.5}, {"method": "lfp", "seed": 1}, {"method": "gradient"}]
    results = Results(rows, None, [])
    assert results.select(method="lfp", seed=1) == [rows[1]]
    assert results.values("accuracy", method="lfp").tolist() == [0.5]
    assert results.each("method") == ["lfp", "gradient"]


def test_small_helpers():
    assert spread([0.5]) == "0.500"
    assert spread([]) == "–"
    assert spread([1.0, 3.0], 1) == "2.0 ± 1.4"
    assert list(grid(a=(1, 2), b="x")) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    assert named(method="lfp", lr=0.1, seed=0) == Part("lfp-lr0.1-seed0", {"method": "lfp", "lr": 0.1, "seed": 0})


def test_the_command(command_line, sample, tmp_path):
    out = tmp_path / "out"
    done = command_line("reproduce", "sample", "--out", out, "--jobs", "1", "--json", check=0)
    assert "holds: Numbers are drawn. Here: 2 rows" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["claims"][0]["holds"] is True
    listed = command_line("reproduce", "--list", columns=80, check=0).stdout
    assert all(name in listed for name in experiments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["two-wieghts"], "did you mean 'two-weights'?"),
        ([], "name an experiment; --list shows them"),
        (["two-weights", "--list"], "leave out two-weights, or --list"),
        (["two-weights", "--seeds", "0"], "--seeds"),
        (["two-weights", "--jobs", "many"], "--jobs"),
    ],
)
def test_mistakes_on_the_command_line(command_line, tmp_path, arguments, said):
    done = command_line("reproduce", *arguments, "--out", tmp_path / "out", check=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_everything_is_exported():
    assert issubclass(package.Experiment, Experiment)
    assert package.Verdict is Verdict
