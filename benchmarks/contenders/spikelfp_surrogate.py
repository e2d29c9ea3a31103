"""This package: the same network by surrogate gradients, fast sigmoid and rate cross-entropy, Adam."""

import torch

from spikelfp import methods, models, nn, rules


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes one training step."""
    net = models.lif_lenet() if network["kind"] == "lenet" else models.lif_mlp(network["sizes"])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    rule = rules.Surrogate()

    def step() -> None:
        optimizer.zero_grad()
        with rules.using(net, rule):
            outputs = net(nn.constant(images, network["steps"]))
        methods.rate_cross_entropy(outputs, labels).backward()
        optimizer.step()

    return step
