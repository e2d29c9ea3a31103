"""Networks that fire in every layer, and inputs for them."""

from __future__ import annotations

import torch

from spikelfp import models, nn

STEPS, BATCH = 20, 6


def dense(reset: str, beta: float = 0.9, sizes: tuple[int, ...] = (24, 32, 10), seed: int = 0) -> nn.Sequential:
    """A dense network with weights three times the usual, so that both layers fire."""
    torch.manual_seed(seed)
    net = models.lif_mlp(sizes, beta=beta, threshold=1.0, reset=reset)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    return net


def convolutional(reset: str) -> nn.Sequential:
    """Convolutions with average pooling before and behind neurons; all layers fire."""
    torch.manual_seed(1)
    neuron = {"beta": 0.9, "threshold": 0.2, "reset": reset}
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.AvgPool2d(2),
        nn.LIF(**neuron),
        nn.Conv2d(4, 6, 3),
        nn.LIF(**neuron),
        nn.AvgPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.LIF(**neuron),
    )


def tie(reset: str) -> nn.Sequential:
    """Dyadic weights and β = 1/2: every number is exact in float32, and many membranes equal the threshold."""
    random = torch.Generator().manual_seed(3)
    net = models.lif_mlp((64, 32, 10), beta=0.5, threshold=1.0, reset=reset)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-4, 6, parameter.shape, generator=random) / 8)
    return net


def bernoulli(*shape: int, seed: int = 0) -> torch.Tensor:
    """Spikes of probability 0.3, ``[T, B, *shape]``."""
    return (torch.rand(STEPS, BATCH, *shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def pixels(*shape: int, count: int = BATCH, seed: int = 0) -> torch.Tensor:
    """Images of 17 grey levels in [0, 1], ``[B, *shape]``."""
    return torch.randint(0, 17, (count, *shape), generator=torch.Generator().manual_seed(seed)) / 16
