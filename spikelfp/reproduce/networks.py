"""Networks that several experiments train by LFP and by gradient descent, set up as in LFP v3, A.6.2 and A.6.3.

Each method has a learning rate of its own: short runs with each of two rates are compared on a tenth of the training
samples that is held out, and the network is then trained on all of them with the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from spikelfp import nn
from spikelfp.data import DataSplits
from spikelfp.fold import fold_batchnorm
from spikelfp.reproduce.base import Desk, Part, Results, grid, named

METHODS = {"gradient": "gradient descent", "lfp": "LFP-ε"}
COLOURS = {"gradient": "#5b6b7b", "lfp": "#b3421b"}
RATES = (0.03, 0.1)
"""Learning rates to choose from; the paper's is 0.1 for networks that start from chance."""
TRAINING = {"optimizer": "sgd", "clip_norm": 3.0, "batch_size": 32, "schedule": "one-cycle", "standardize": True}
"""Options for all networks (A.6.2); momentum is 0.9."""
OWN: Mapping[str, Mapping[str, Any]] = {"gradient": {}, "lfp": {"reduction": "sum"}}
"""Options of each method: the paper adds rewards over the batch, and averages losses."""
LEARNT = 0.3
"""Accuracy that a network has to have, three times chance, to be compared: one at chance loses nothing in pruning."""
MNIST = "mnist-part:10000,2000"


class Network(NamedTuple):
    """Network, and the data that it is trained on.

    Attributes:
        title: what figures call it.
        options: of ``spikelfp train``.
        epochs: of the training.
        trial: epochs of a run that compares learning rates.
        convolutions: whether convolutions alone are pruned, as in v3; else all weights, as in v1.
        rates: learning rates to choose from.
    """

    title: str
    options: Mapping[str, Any]
    epochs: int
    trial: int = 1
    convolutions: bool = False
    rates: tuple[float, ...] = RATES

    @property
    def layers(self) -> type[torch.nn.Module] | None:
        """Layers that are pruned."""
        return torch.nn.Conv2d if self.convolutions else None


FULL = {
    "lenet": Network("LeNet, MNIST", {"data": MNIST, "model": "lenet"}, 3),
    "mlp": Network("MLP, MNIST", {"data": MNIST, "model": "mlp", "hidden": (1000,)}, 5),
    "vgg-like": Network(
        "VGG-like, CIFAR-10",
        {"data": "cifar10-subset", "model": "vgg-like", "width": 8, "batch_size": 64},
        8,
        convolutions=True,
    ),
    "resnet18": Network(
        "ResNet-18, CIFAR-10",
        {"data": "cifar10-subset", "model": "resnet18", "width": 16, "stem": "7x7", "batch_size": 64},
        6,
        convolutions=True,
    ),
}
QUICK = {
    "mlp": Network("MLP, digits", {"data": "digits", "model": "mlp", "hidden": (32,)}, 4),
    "resnet18": Network(
        "ResNet-18, digits",
        {"data": "digits", "model": "resnet18", "width": 2, "stem": "7x7", "batch_size": 256},
        2,
        convolutions=True,
        rates=RATES[-1:],
    ),
}
SETTING = (
    "SGD with momentum 0.9, a one-cycle rate, updates of norm 3 at most (A.6.2); rewards are added over the batch, "
    "losses averaged. All networks start from chance. Each method and seed takes the better of the rates 0.03 and "
    "0.1 (the paper's) on a tenth of the training set, after one epoch. To save time: batches of 32 (MNIST) and 64 "
    "in place of 128; the first 10,000 training and 2,000 test images of MNIST, and of CIFAR-10 10,000 and 1,000; "
    "the VGG-like has 8 channels at first (the paper's 32), the ResNet-18 has 16 (64); 3 epochs for LeNet, 5 for "
    "the MLP, 8 and 6 for VGG-like and ResNet (the paper: 50 and 100 on all images, ResNets from pretrained "
    "weights)."
)


def table(quick: bool) -> dict[str, Network]:
    """List the networks by name.

    Args:
        quick: whether those of the quick form.
    """
    return QUICK if quick else FULL


def trainings(names: Iterable[str], quick: bool, seeds: int) -> list[Part]:
    """List parts that train each of these networks by each method.

    Args:
        names: of networks.
        quick: whether those of the quick form.
        seeds: number of seeds.
    """
    return [
        Part(named(**setting).name, setting | {"quick": quick})
        for setting in grid(network=[*names], method=[*METHODS], seed=range(seeds))
    ]


def shown(results: Results) -> dict[str, Network]:
    """List the networks of the results by name."""
    quick = bool(results.rows[0]["quick"])
    return {name: table(quick)[name] for name in results.each("network")}


class Learned(NamedTuple):
    """Trained network with its data.

    Attributes:
        net: the network, BatchNorm folded.
        lr: learning rate that was chosen.
        splits: data.
    """

    net: torch.nn.Module
    lr: float
    splits: DataSplits

    def samples(self, part: str, number: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first samples of a part.

        Args:
            part: ``"train"`` or ``"test"``.
            number: of samples; ``None`` for all.

        Returns:
            Inputs ``[1, B, …]`` and classes ``[B]``.
        """
        held = getattr(self.splits, part)
        x, labels = held.__getitems__(range(len(held) if number is None else min(number, len(held))))
        return nn.constant(x, 1), labels


def learn(part: Part, desk: Desk) -> Learned:
    """Choose the learning rate of a part, and train its network.

    Args:
        part: one of :func:`trainings`.
        desk: what it works with.
    """
    from spikelfp.training.run import load_run

    own = table(part.settings["quick"])[part.settings["network"]]
    options = {
        **TRAINING,
        **OWN[part.settings["method"]],
        **own.options,
        "method": part.settings["method"],
        "seed": part.settings["seed"],
    }
    scores = {}
    for lr in own.rates:
        epochs = desk.train(f"lr{lr}", lr=lr, epochs=own.trial, validation=0.1, **options)["epochs"]
        score = float(epochs[-1]["validation_accuracy"])
        scores[lr] = score if math.isfinite(score) else 0.0
    best = max(scores, key=lambda lr: scores[lr])
    desk.train(lr=best, epochs=own.epochs, **options)
    run = load_run(desk.run_folder(), data_dir=desk.data_dir)
    splits = run.splits()
    net = run.net.eval()
    return Learned(fold_batchnorm(net, nn.constant(splits.train.__getitems__(range(2))[0], 1)), best, splits)
