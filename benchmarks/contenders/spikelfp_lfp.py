"""This package: LFP-ε, reward A.4, Adam."""

import torch

from spikelfp import models, nn, propagate, rewards


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes one training step."""
    net = models.lif_lenet() if network["kind"] == "lenet" else models.lif_mlp(network["sizes"])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    reward = rewards.SpikeSequence()

    def step() -> None:
        optimizer.zero_grad()
        spikes = net(nn.constant(images, network["steps"]))
        propagate(spikes, reward(spikes, labels) / len(labels))
        optimizer.step()

    return step
