"""The accuracies of the README, on MNIST with the defaults; minutes each, so `make test-all` runs them."""

import pytest

from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"hidden": (1000,), "steps": 15, "epochs": 3}, 0.980),
        ({"hidden": (1000, 1000), "steps": 25, "epochs": 3}, 0.982),
        ({"model": "lif-lenet", "steps": 15, "epochs": 1}, 0.984),
    ],
    ids=["784-1000-10", "784-1000-1000-10", "lenet"],
)
def test_accuracy_with_the_defaults(options, least, mnist_folder, tmp_path):
    config = RunConfig(data="mnist", data_dir=str(mnist_folder), **options)
    assert train(config, tmp_path / "run", progress=False)["test_accuracy"] >= least
