"""Two events far apart in time make millions of steps: refused in one line, with the steps, before memory is taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
import torch
from cli.bars import write_bars

from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import batches
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_sequences

APART = 50 * 60 * 10**6
"""µs between the two events: at 1 ms a step, three million steps."""


@pytest.fixture
def command(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", [str(word) for word in words])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def _one_line(found):
    code, _, err = found
    err = "\n".join(line for line in err.splitlines() if "compiling kernels" not in line)
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert re.search(r"30000\d\d steps|steps of", err), err
    return err


def _recordings(folder, last):
    """Four recordings of a sensor of 2 × 1 pixels and two polarities, in two classes."""
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(2):
            (folder / label / f"{number}.txt").write_text(f"{number} 0 0 0\n{last} 1 0 1\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of wide layers on short recordings, and the folder of these."""
    place = tmp_path_factory.mktemp("long")
    for part in ("train", "test"):
        _recordings(place / "data" / part, 9000)
    words = f"train --data folder:{place}/data --window 1 --hidden 20000 --epochs 1 --no-report --quiet --device cpu"
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", [*words.split(), "--cache-dir", f"{place}/cache", "--out", f"{place}/run"])
    assert not stop.value.code
    return place


def _with_long(run, tmp_path, part):
    """The folder and its run, one part of the data of long recordings."""
    data = shutil.copytree(run / "data", tmp_path / "data")
    shutil.rmtree(data / part)
    _recordings(data / part, APART)
    made = shutil.copytree(run / "run", tmp_path / "run")
    config = made / "config.yaml"
    config.write_text(config.read_text().replace(str(run / "data"), str(data)))
    return data, made


def test_training(tmp_path, command):
    data = _recordings(tmp_path / "data", APART)
    words = ("--window", "1", "--hidden", "2000", "--epochs", "1", "--quiet", "--cache-dir", tmp_path / "cache")
    err = _one_line(command("train", "--data", f"folder:{data}", *words, "--out", tmp_path / "out"))
    assert "--steps" in err


@pytest.mark.parametrize(
    "words",
    [
        "eval {run} --cache-dir {cache}",
        "train --out {run} --resume --epochs 2 --quiet --no-report --cache-dir {cache}",
    ],
)
def test_a_run_shown_longer_recordings_than_it_was_trained_on(run, tmp_path, command, words):
    _, made = _with_long(run, tmp_path, "test")
    if "eval" in words:  # of other samples it warns, and goes on
        config = made / "config.yaml"
        config.write_text(config.read_text().partition("samples:")[0])
    code, _, err = command(*(word.format(run=made, cache=tmp_path / "cache") for word in words.split()))
    said = [line for line in err.splitlines() if "compiling kernels" not in line]
    assert code == 2, err
    assert len(said) == 1, err
    assert "are not those of the run" in said[0] if "resume" in words else "steps would need about" in said[0]


def test_training_with_longer_test_recordings(run, tmp_path, command):
    """It is told before the training, not behind it."""
    data, _ = _with_long(run, tmp_path, "test")
    words = ("--window", "1", "--hidden", "20000", "--epochs", "1", "--quiet", "--cache-dir", tmp_path / "cache")
    err = _one_line(command("train", "--data", f"folder:{data}", *words, "--out", tmp_path / "out"))
    assert "would need about" in err


def test_a_report_goes_without_them(run, tmp_path, command):
    _, made = _with_long(run, tmp_path, "test")
    config = made / "config.yaml"
    config.write_text(config.read_text().partition("samples:")[0])
    code, _, err = command("report", made, "--cache-dir", tmp_path / "cache")
    assert code == 0, err
    assert "would need about" in (made / "report.html").read_text()


@pytest.mark.parametrize("words", ["data info {data}", "data show {data}/a/0.txt --window 1 --out {out}.png"])
def test_looking_at_them(tmp_path, command, words):
    data = _recordings(tmp_path / "data", APART)
    code, _, err = command(*(word.format(data=data, out=tmp_path / "out") for word in words.split()))
    assert code == 0, err


def test_from_python(tmp_path):
    data = _recordings(tmp_path / "data", APART)
    config = RunConfig(data=f"folder:{data}", window=0.01, cache_dir=str(tmp_path / "cache"), batch_size=2)
    splits, _ = load_sequences(config, progress=False)
    assert splits.train.longest > 10**8
    with pytest.raises(UserError, match=r"sequences of up to 30000\d+ steps.*longer window"):
        for _ in batches(splits.train.subset(torch.tensor([0, 1] * 32)), 64, seed=0, epoch=0):
            pass


def test_all_channels_of_a_line(tmp_path):
    """In a process of little memory: 65,536 channels and 8,388 steps are 2 GiB a sample."""
    spikes = [0, 0, 0, 0, 0, 255, 255, 127, 255, 255]
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "data" / label / f"{number}.bs1").write_bytes(bytes(spikes))
    program = (
        "import resource, sys; from pathlib import Path; from spikelfp.data import load;"
        "from spikelfp.training.run import load_sequences; from spikelfp.training.config import RunConfig;"
        "from spikelfp.errors import UserError;"
        f"config = RunConfig(data='folder:{tmp_path}/data', window=1, cache_dir='{tmp_path}/cache');"
        "data = load_sequences(config, progress=False)[0].train;"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "try: data.__getitems__([0, 1])\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]
    assert "2 sequences of up to 8389 steps" in done.stdout


def test_ordinary_recordings_are_not_refused(tmp_path, command):
    write_bars(tmp_path / "bars")
    words = ("--window", "5", "--hidden", "8", "--epochs", "1", "--quiet", "--no-report", "--out", tmp_path / "out")
    assert command("train", "--data", f"folder:{tmp_path / 'bars'}", *words)[0] == 0
    assert command("eval", tmp_path / "out")[0] == 0
