"""A run folder whatever happens to those who write it: killed, interrupted, out of memory, two at once, other data."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from spikelfp import command_name
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import load as load_data
from spikelfp.errors import DataError, DataWarning, MachineError, RunFolderError, SaveError, UserError
from spikelfp.training import run as module
from spikelfp.training.config import RunConfig, from_mapping, read_mapping
from spikelfp.training.run import Interrupted, load_run, read_metrics, train
from spikelfp.training.trainer import Trainer

CONFIG = RunConfig(hidden=(8,), steps=2, epochs=2, batch_size=256, device="cpu", threshold=9.0, checkpoint_every=3)


class Killed(BaseException):
    """The process ends here: nothing behind it writes."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Nothing is brought to disk, and the data is read once."""
    digits = load_data("digits")
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(module, "load_data", lambda name, folder=None: digits)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "r"
    train(CONFIG, folder, progress=False)
    return state(folder)


def state(folder):
    """All that a run leaves, but for times."""
    found = {}
    for name in ("initial", "best", "last"):
        path = folder / "checkpoints" / f"{name}.pt"
        if path.exists():
            content = torch.load(path, weights_only=True)
            for row in content.get("history", ()):
                row.pop("seconds", None)
            found[name] = content
    if (folder / "metrics.csv").exists():
        with open(folder / "metrics.csv") as file:
            found["metrics"] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    found["config"] = (folder / "config.yaml").read_text()
    found["names"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")
    return found


def same(a, b):
    """Whether two states hold equal values, tensors included."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def killed_at(step, monkeypatch, call):
    """Call, but end for good before the ``step``-th file gets its name; tell if it did."""
    count, real = 0, {name: getattr(os, name) for name in ("replace", "mkdir", "unlink", "rmdir")}

    def counting(name):
        def change(*arguments, **named):
            nonlocal count
            count += name == "replace" or count >= step  # after the end nothing is done any more
            if count >= step:
                raise Killed
            return real[name](*arguments, **named)

        return change

    with monkeypatch.context() as patched:
        for name in real:
            patched.setattr(os, name, counting(name))
        try:
            call()
        except Killed:
            return True
    return False


def again(config, out):
    """What a user does after a kill: the same command, or with --resume where it says so."""
    try:
        return train(config, out, progress=False)
    except RunFolderError as error:
        if "go on with --resume" not in str(error):
            raise
        return train(config, out, progress=False, resume=True)


def test_a_kill_at_any_write_loses_nothing(tmp_path, monkeypatch, whole):
    for step in range(1, 40):
        out = tmp_path / str(step)
        if not killed_at(step, monkeypatch, lambda out=out: train(CONFIG, out, progress=False)):
            break
        again(CONFIG, out)
        found = state(out)
        for name in whole:
            assert same(found[name], whole[name]), (step, name)
    assert step > 10
    assert (tmp_path / str(step) / "summary.json").exists()


def test_a_kill_at_any_write_of_a_replacement_leaves_one_run_or_the_other(tmp_path, monkeypatch, whole):
    old = replace(CONFIG, epochs=1, seed=5, threshold=1.0)
    train(old, tmp_path / "old", progress=False)
    before = state(tmp_path / "old")
    seen = []
    for step in range(1, 60):
        out = tmp_path / str(step)
        shutil.copytree(tmp_path / "old", out)
        (out / "notes").write_text("mine")
        if not killed_at(step, monkeypatch, lambda out=out: train(CONFIG, out, overwrite=True, progress=False)):
            break
        run = load_run(out)  # brings it into order
        assert (out / "notes").read_text() == "mine"
        (out / "notes").unlink()
        seen.append(run.config.seed)
        if run.config.seed == 5:
            found = state(out)
            assert same({**found, "names": 0}, {**before, "names": 0}), step
            assert found["names"] == before["names"]
        else:
            train(CONFIG, out, resume=True, progress=False)
            assert same({**state(out), "names": 0}, {**whole, "names": 0}), step
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {5, 0}


@pytest.mark.parametrize("kind", [DataError("wrong"), MemoryError(), KeyboardInterrupt(), RuntimeError("bug")])
def test_the_old_run_stays_if_the_new_one_never_starts(tmp_path, monkeypatch, kind):
    out = tmp_path / "r"
    train(CONFIG, out, progress=False)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*_, **__):
        raise kind

    for where, name in ((module, "load_data"), (module, "make_trainer"), (Trainer, "train_step")):
        with monkeypatch.context() as patched:
            patched.setattr(where, name, fail)
            with pytest.raises((type(kind), MachineError, Interrupted)) as error:
                train(replace(CONFIG, seed=3), out, overwrite=True, progress=False)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    if type(kind) is not RuntimeError:
        assert "before is kept" in str(error.value) or isinstance(kind, DataError)


def test_what_is_no_run_is_not_replaced(tmp_path):
    train(CONFIG, tmp_path / "r", progress=False)
    config = (tmp_path / "r" / "config.yaml").read_text()
    for number, (name, content, named) in enumerate(
        (
            ("config.yaml", "model: lif-mlp\n", "config.yaml is not that of a run"),
            ("config.yaml", "shape: 1\nclasses: 2\n", "config.yaml is not that of a run"),
            ("metrics.csv", "mine\n", "metrics.csv"),
            ("checkpoints/best.pt", "mine\n", "best.pt"),
            ("report.html", "<html>mine", "report.html"),
            ("summary.json", "[]", "summary.json"),
            ("verify.json", "[]", "belongs to an export"),
            ("export/manifest.yaml", "", "belongs to an export"),
        )
    ):
        out = tmp_path / str(number)
        (out / "checkpoints").mkdir(parents=True)
        (out / "config.yaml").write_text(config)
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(content)
        with pytest.raises(RunFolderError, match=named):
            train(CONFIG, out, overwrite=True, progress=False)
        assert (out / name).read_text() == content
    with pytest.raises(RunFolderError, match="inside the run folder"):
        train(CONFIG, tmp_path / "r" / "inner", progress=False)
    (tmp_path / "link").symlink_to(tmp_path / "r")  # a link to a run is as good as the run
    train(replace(CONFIG, seed=9), tmp_path / "link", overwrite=True, progress=False)
    assert (tmp_path / "link").is_symlink()
    assert load_run(tmp_path / "r").config.seed == 9


def test_the_working_folder_can_be_replaced(tmp_path, monkeypatch):
    train(CONFIG, tmp_path / "r", progress=False)
    monkeypatch.chdir(tmp_path / "r")
    train(replace(CONFIG, seed=4), ".", overwrite=True, progress=False)
    assert load_run(tmp_path / "r").config.seed == 4


def test_a_second_process_is_refused_and_readers_are_not(tmp_path):
    """Here a second thread, which has its own lock as a process has."""
    out, found = tmp_path / "r", []

    def other():
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(RunFolderError) as error:
                train(CONFIG, out, progress=False, **options)
            found.append(str(error.value))
        found.append(len(read_metrics(load_run(out).folder)))

    def once(line):
        if line.startswith("epoch 1/"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    train(CONFIG, out, progress=False, echo=once)
    assert [f"in use by process {os.getpid()} on " in text for text in found[:2]] == [True, True]
    assert found[2] == 1


def test_other_samples_are_refused_and_told(tmp_path, monkeypatch):
    out = tmp_path / "r"
    train(replace(CONFIG, epochs=1), out, progress=False)
    own = load_data("digits")
    more = replace(CONFIG, epochs=2)
    changed = own.train.images.clone()
    changed[700, 0, 3, 3] += 1
    for train_part, test_part, named in (
        (replace(own.train, images=changed), own.test, "training"),
        (own.train.subset(torch.arange(len(own.train)).flip(0)), own.test, "training"),
        (replace(own.train, labels=own.train.labels.roll(1)), own.test, "training"),
        (own.train, own.test.subset(torch.arange(len(own.test)).flip(0)), "test"),
    ):
        other = replace(own, train=train_part, test=test_part)
        monkeypatch.setattr(module, "load_data", lambda name, folder=None, other=other: other)
        before = (out / "config.yaml").read_bytes()
        with pytest.raises(DataError, match=f"the {named} samples are not those of the run"):
            train(more, out, resume=True, progress=False)
        assert (out / "config.yaml").read_bytes() == before
        run = load_run(out)
        with pytest.warns(DataWarning, match=f"the {named} samples are not those of the run"):
            run.splits()
    # A run of a version that kept no fingerprint goes on, and has one then.
    monkeypatch.setattr(module, "load_data", lambda name, folder=None: own)
    text = (out / "config.yaml").read_text()
    start, end = text.index("samples:"), text.index("woken:")
    (out / "config.yaml").write_text(text[:start] + text[end:])
    train(more, out, resume=True, progress=False)
    assert "samples:" in (out / "config.yaml").read_text()


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_and_the_run_goes_on(tmp_path, monkeypatch, capsys, whole, sent, code):
    number, real, steps = getattr(signal, sent), Trainer.train_step, 0
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{sent} is ignored here, as behind nohup, and so it is by a run")

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), number)
        return real(self, *arguments)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    options = ["--hidden", "8", "--steps", "2", "--epochs", "2", "--batch-size", "256", "--device", "cpu"]
    options += ["--threshold", "9", "--checkpoint-every", "3", "--no-report", "--out", str(tmp_path / "r")]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", step)
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", "--data", "digits", *options])
    assert stop.value.code == code
    assert "stopped after 4 steps; go on with --out" in capsys.readouterr().err
    assert {each: signal.getsignal(each) for each in before} == before
    train(CONFIG, tmp_path / "r", resume=True, progress=False)
    assert same(state(tmp_path / "r")["last"], whole["last"])


def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    def step(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        pytest.fail("went on")

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(Interrupted, match="stopped at once; no checkpoint was written yet"):
        train(CONFIG, tmp_path / "r", progress=False)


def test_ctrl_c_before_training_ends_at_once(tmp_path, monkeypatch, capsys):
    def load(name, folder=None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        pytest.fail("went on")

    monkeypatch.setattr(module, "load_data", load)
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", ["train", "--data", "digits", "--out", str(tmp_path / "r")])
    assert (stop.value.code, capsys.readouterr().err) == (143, "spikelfp: interrupted\n")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("options", [["--data", "no-such-data"], ["--no-such-option"]])
def test_ctrl_c_while_a_mistake_is_told_ends_in_one_line(tmp_path, monkeypatch, capsys, options):
    told = []

    def one_line(text):
        told.append(text)
        if len(told) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return str(text)

    monkeypatch.setattr("spikelfp.command.one_line", one_line)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start jobs in the background without it
    try:
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", *options, "--out", str(tmp_path / "r")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(told) == 2
    assert (stop.value.code, capsys.readouterr().err) == (130, "spikelfp: interrupted\n")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail at alloc] DefaultCPUAllocator: can't allocate memory: 5"),
            "--batch-size",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "loads data was killed"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (SaveError("cannot write x: No space left on device"), "No space left on device"),
    ],
)
def test_what_the_machine_did_not_give_is_one_line_with_the_way_on(tmp_path, monkeypatch, whole, error, named):
    real, steps = Trainer.train_step, 0

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise error
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", step)
        with pytest.raises((MachineError, SaveError), match=named) as told:
            train(CONFIG, tmp_path / "r", progress=False)
    assert len(str(told.value).splitlines()) == 1
    assert "go on from the last checkpoint with --out" in str(told.value)
    train(CONFIG, tmp_path / "r", resume=True, progress=False)
    assert same(state(tmp_path / "r")["last"], whole["last"])


def test_a_killed_process_that_loads_data(tmp_path, whole):
    """Its batches are fetched between steps, where the state can be saved."""
    config = replace(CONFIG, workers=1, checkpoint_every=0)

    def echo(line):
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()

    with contextlib.suppress(MachineError):
        train(config, tmp_path / "r", progress=False, echo=echo)
    train(config, tmp_path / "r", resume=True, progress=False)
    found = state(tmp_path / "r")["last"]
    assert same(found["weights"], whole["last"]["weights"])


def test_errors_that_are_bugs_stay_errors(tmp_path, monkeypatch):
    def step(self, *arguments):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(RuntimeError, match="mat1"):
        train(CONFIG, tmp_path / "r", progress=False)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["python", "-m", "spikelfp", "train"], "spikelfp"),
        (["python", "-u", "-m", "hw_export.cli"], "hw-export"),
        (["/usr/bin/python3", "/home/me/.venv/bin/hw-export", "build"], "hw-export"),
        (["python", "-m", "pytest", "spikelfp"], None),
        (["python", "spikelfp.py"], None),
        (["python", "-m"], None),
        (["python"], None),
    ],
)
def test_commands_are_known_by_how_they_were_started(words, name):
    assert command_name(words) == name


def test_ctrl_c_while_modules_are_imported():
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "spikelfp", "info"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for line in process.stderr:
        if line.startswith("import 'torch.types'") or line.startswith("import 'torch._utils'"):
            break
    process.send_signal(signal.SIGINT)
    last = process.stderr.read().splitlines()[-1]
    assert (process.wait(), last) == (130, "spikelfp: interrupted")
    process.stderr.close()


def test_training_goes_on_when_nobody_listens(tmp_path, monkeypatch):
    """Its lines go into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as nobody:
        monkeypatch.setattr(sys, "stderr", nobody)
        options = ["--hidden", "8", "--steps", "2", "--epochs", "3", "--no-report"]
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", "--data", "digits", *options, "--out", str(tmp_path / "r")])
    assert stop.value.code == 0
    assert len(read_metrics(load_run(tmp_path / "r").folder)) == 3


def test_output_that_nobody_reads_ends_a_command(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["info", "--json"])
    assert (stop.value.code, capsys.readouterr().err) == (0, "")


def test_a_folder_with_files_of_something_else_is_told_as_such(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for options, said in (
        ({}, r"holds no run, and files of something else \(notes.txt\): name another --out"),
        ({"overwrite": True}, r"holds no run, and files of something else \(notes.txt\): name another --out"),
        ({"resume": True}, "nothing to resume.*start a run without --resume, with another --out"),
    ):
        with pytest.raises(RunFolderError, match=said):
            train(RunConfig(data="digits", steps=1, epochs=1), tmp_path, progress=False, **options)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_whole_numbers_in_yaml_are_read_in_every_form_that_people_write(tmp_path):
    path = tmp_path / "options.yaml"
    for text in ("hidden: 12", "hidden: [12]", "hidden:\n- 12", 'hidden: "12"'):
        path.write_text(text)
        assert from_mapping(read_mapping(path), str(path)).hidden == (12,)
    path.write_text("hidden: yes")
    with pytest.raises(UserError, match="hidden takes whole numbers"):
        from_mapping(read_mapping(path), str(path))


def test_a_run_without_its_last_checkpoint_is_not_started_anew_over_its_results(tmp_path):
    config = RunConfig(data="digits", hidden=(4,), steps=1, epochs=1)
    train(config, tmp_path, progress=False)
    last, best = tmp_path / "checkpoints" / "last.pt", tmp_path / "checkpoints" / "best.pt"
    kept = best.read_bytes()
    last.unlink()
    with pytest.raises(RunFolderError, match=r"last.pt is missing, and best.pt would be lost.*copy .*best.pt there"):
        train(replace(config, epochs=2), tmp_path, resume=True, progress=False)
    assert best.read_bytes() == kept
    shutil.copy(best, last)
    assert train(replace(config, epochs=2), tmp_path, resume=True, progress=False)["epochs"] == 2
