"""Equal runs write equal bytes, and leave the random numbers of whoever calls them alone."""

import csv
import random

import numpy as np
import pytest
import torch

from hw_export.build import build
from hw_export.updates.online import record_run
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

OPTIONS = {
    "hidden": (12,), "steps": 3, "epochs": 2, "batch_size": 256, "encoding": "rate", "device": "cpu", "lr": 1e-2,
}  # fmt: skip
ENTRIES = ("config.yaml", "checkpoints/initial.pt", "checkpoints/last.pt", "checkpoints/best.pt")


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, started with the generators of this process in different states."""
    folder, random_before = tmp_path_factory.mktemp("equal"), []
    for number, name in enumerate(("a", "b")):
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002
        torch.manual_seed(number)
        before = states()
        config = RunConfig(data="digits", model="lif-mlp", **OPTIONS)
        train(config, folder / name, progress=False)
        random_before.append(before == states())
    return folder / "a", folder / "b", random_before


def test_the_random_numbers_of_the_caller_go_on(runs):
    assert runs[2] == [True, True]


def test_equal_runs_write_equal_bytes(runs):
    a, b, _ = runs
    for name in ENTRIES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert rows(a) == rows(b)
    assert all(float(row["seconds"]) > 0 for row in csv.DictReader((a / "metrics.csv").read_text().splitlines()))


def test_seconds_stay_when_a_run_goes_on(runs, tmp_path):
    config = RunConfig(data="digits", model="lif-mlp", **{**OPTIONS, "schedule": "constant"})
    train(config, tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    longer = RunConfig(data="digits", model="lif-mlp", **{**OPTIONS, "schedule": "constant", "epochs": 3})
    summary = train(longer, tmp_path / "run", resume=True, progress=False)
    after = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert after[:3] == before
    assert len(after) == 4
    assert summary["seconds"] > summary["seconds_per_epoch"] > 0


@pytest.mark.parametrize("target", ["nir", "generic"])
def test_equal_exports_have_equal_bytes(runs, tmp_path, target):
    a, _, _ = runs
    for name in ("a", "b"):
        build(a, tmp_path / name, target=target, samples=4)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_equal_streams_have_equal_bytes(runs, tmp_path):
    for name in ("a", "b"):
        record_run(runs[0], tmp_path / name, steps=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
