"""``spikelfp train`` by several workers: one run folder, one voice, and a clean end whatever happens to one of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from parallel_workers import finish, start

QUICK = ["--data", "digits", "--hidden", "16", "--steps", "4", "--no-report", "--device", "cpu"]
LONG = [*QUICK, "--epochs", "500", "--checkpoint-every", "1"]


def spikelfp(processes, *arguments):
    return start(processes, "-m", "spikelfp", *arguments)


def alone(*arguments):
    ((code, out, errors),) = finish(
        [
            subprocess.Popen(
                [sys.executable, "-m", "spikelfp", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        ]
    )
    assert code == 0, errors
    return out


def lines(errors):
    """What a worker told the user."""
    return [line for line in errors.splitlines() if line.startswith("spikelfp:")]


def wait_for(path, workers):
    for _ in range(1200):
        if path.exists() or any(worker.poll() is not None for worker in workers):
            break
        time.sleep(0.05)
    assert path.exists(), finish(workers)


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["weights"]


def agree(a, b):
    # float32, where a sum in another order may let a neuron fire or not: few weights may differ by more than rounding
    for name, weight in weights(a).items():
        close = torch.isclose(weights(b)[name], weight, rtol=1e-3, atol=1e-4)
        assert close.float().mean() > 0.9, name


def test_torchrun_fills_one_run_folder(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "spikelfp", "train"]
    done = subprocess.run(
        [sys.executable, *command, *QUICK, "--epochs", "2", "--out", str(tmp_path / "two"), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/2") == done.stderr.count("epoch 2/2") == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert json.loads(line) == {**summary, "run": str(tmp_path / "two")}
    assert summary["processes"] == 2
    found = sorted(str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*.*"))
    assert found == [
        "checkpoints/best.pt", "checkpoints/initial.pt", "checkpoints/last.pt", "config.yaml", "metrics.csv",
        "summary.json",
    ]  # fmt: skip

    alone("train", *QUICK, "--epochs", "2", "--out", str(tmp_path / "one"))
    agree(tmp_path / "one", tmp_path / "two")
    one, two = (list(csv.DictReader((tmp_path / name / "metrics.csv").open())) for name in ("one", "two"))
    for row, other in zip(one, two, strict=True):
        for name in set(row) - {"seconds"}:
            assert float(other[name]) == pytest.approx(float(row[name]), rel=0.05, abs=0.02)


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_a_worker_is_killed_the_others_end_and_the_run_can_go_on(tmp_path, killed):
    workers = spikelfp(2, "train", *LONG, "--out", str(tmp_path / "r"))
    wait_for(tmp_path / "r" / "checkpoints" / "last.pt", workers)
    workers[killed].send_signal(signal.SIGKILL)
    ended = finish(workers, 60)
    assert ended[killed][0] == -signal.SIGKILL
    code, _, errors = ended[1 - killed]
    assert code == 1, errors
    assert "Traceback" not in errors
    (line,) = lines(errors)
    assert "another worker has ended" in line
    assert "--resume" in line
    before = torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)["position"]["step"]
    assert before >= 1
    # The run goes on, by one process, until it is told to stop.
    (again,) = spikelfp(1, "train", "--out", str(tmp_path / "r"), "--resume", "--no-report")
    for _ in range(600):
        if torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)["position"]["step"] > before:
            break
        time.sleep(0.1)
    again.send_signal(signal.SIGINT)
    ((code, _, errors),) = finish([again])
    assert code == 130, errors
    assert f"resuming after {before} steps" in errors


@pytest.mark.slow
def test_a_worker_that_waits_for_another_one_obeys_sigterm(tmp_path):
    workers = spikelfp(2, "train", *LONG, "--out", str(tmp_path / "r"))
    wait_for(tmp_path / "r" / "checkpoints" / "last.pt", workers)
    workers[1].send_signal(signal.SIGSTOP)
    time.sleep(1)
    workers[0].send_signal(signal.SIGTERM)
    since = time.monotonic()
    try:
        assert workers[0].wait(20) == 1
    finally:
        workers[1].kill()
    assert time.monotonic() - since < 15
    errors = finish(workers)[0][2]
    assert [line.split(",")[0] for line in lines(errors)] == ["spikelfp: ended by SIGTERM"]
    torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_at_one_step_and_another_number_of_them_goes_on(tmp_path):
    workers = spikelfp(2, "train", *QUICK, "--epochs", "20", "--out", str(tmp_path / "r"))
    wait_for(tmp_path / "r" / "metrics.csv", workers)
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    ended = finish(workers)
    assert [code for code, _, _ in ended] == [130, 130], ended
    assert "--resume" in ended[0][2]
    assert ended[1][2] == ""
    step = torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)["position"]["step"]
    assert f"stopped after {step} steps" in ended[0][2]
    for code, _, errors in finish(spikelfp(3, "train", "--out", str(tmp_path / "r"), "--resume", "--no-report")):
        assert code == 0, errors
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["processes"] == 3
    assert [row["epoch"] for row in csv.DictReader((tmp_path / "r" / "metrics.csv").open())] == [
        str(epoch) for epoch in range(1, 21)
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--epochs", "1", "--lr", "-1"], "lr must be above 0"),
        (["--resume"], "nothing to resume"),
        pytest.param(["--epochs", "1", "--modle", "mlp"], "--model", marks=pytest.mark.slow),
        pytest.param(["--epochs", "1", "--data-dir", "nowhere"], "nowhere", marks=pytest.mark.slow),
        pytest.param(["--epochs", "1", "--batch-size", "1"], "batch size 1 is below the world", marks=pytest.mark.slow),
    ],
    ids=["lr", "resume", "option", "data", "batch"],
)
def test_a_users_mistake_is_said_once(arguments, named, tmp_path):
    ended = finish(spikelfp(2, "train", *QUICK, *arguments, "--out", str(tmp_path / "r")))
    said = [line for _, _, errors in ended for line in lines(errors)]
    assert len(said) == 1, said
    assert named in said[0]
    assert [code for code, _, _ in ended] == [2, 2]
    assert not any("Traceback" in errors for _, _, errors in ended)
