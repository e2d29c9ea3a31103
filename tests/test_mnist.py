"""The accuracies of the README, on MNIST, at most 0.3 points below; minutes each, so `make test-all` runs them."""

import pytest

from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

pytestmark = pytest.mark.slow

DENSE = {"hidden": (1000,), "steps": 15, "epochs": 3}


@pytest.mark.parametrize(
    ("options", "least"),
    [
        (DENSE, 0.981),
        (DENSE | {"floor": 0.0, "margin": 1.0}, 0.981),
        (DENSE | {"method": "surrogate", "slope": 5.0, "loss": "count", "lr": 3e-3}, 0.9775),
        ({"hidden": (1000, 1000), "steps": 25, "epochs": 3}, 0.982),
        ({"model": "lif-lenet", "steps": 15, "epochs": 1}, 0.9845),
    ],
    ids=["784-1000-10", "the paper's rule", "surrogate", "784-1000-1000-10", "lenet"],
)
def test_accuracy_of_the_readme(options, least, mnist_folder, tmp_path):
    config = RunConfig(data="mnist", data_dir=str(mnist_folder), **options)
    assert train(config, tmp_path / "run", progress=False)["test_accuracy"] >= least
