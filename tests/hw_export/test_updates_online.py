"""Online LFP on MNIST, one sample at a time: what a stream of its updates costs."""

from __future__ import annotations

import pytest

from hw_export.updates import inspect, replay
from hw_export.updates.online import record_run
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

pytestmark = pytest.mark.slow


def test_two_percent_of_dense_images(mnist_folder, tmp_path):
    config = RunConfig(data="mnist", data_dir=str(mnist_folder), hidden=(1000,), steps=15, epochs=1)
    train(config, tmp_path / "run", progress=False)
    done = record_run(tmp_path / "run", tmp_path / "updates", steps=1000)
    summary = inspect(tmp_path / "updates")
    assert summary.looks == 1000
    weights = 784 * 1000 + 1000 * 10
    assert summary.bytes <= 0.02 * weights * summary.looks
    assert summary.bytes <= 0.005 * weights * summary.looks, "it is ten times better than that"
    assert done["accuracy_after"] > done["accuracy_before"] - 0.002
    assert done["accuracy_of_integers"] > done["accuracy_after"] - 0.002
    assert replay(tmp_path / "updates", strict=True).step == 1000
    assert done["seconds_recording"] < done["seconds_training"]
