"""This package: ``TemporalTrainer`` with its defaults (LFP-ε, reward A.4, Adam, one-cycle), by the paper's rule."""

import torch
from shared import PAPER

from spikelfp import TemporalTrainer, models

PACKAGES = ("spikelfp", "torch", "numba")


def train(splits, settings, turn):
    """Train for ``settings["epochs"]`` epochs; ``turn`` is called after each."""
    torch.manual_seed(settings["seed"])
    net = models.lif_mlp(settings["sizes"], **PAPER)
    trainer = TemporalTrainer(
        net, steps=settings["steps"], batch_size=settings["batch"], seed=settings["seed"], device="cpu"
    )

    def after_epoch(row):
        turn(lambda: trainer.evaluate(splits.test).accuracy)

    trainer.fit(splits.train, settings["epochs"], after_epoch=after_epoch)
