"""snnTorch: backpropagation through time, fast sigmoid, rate cross-entropy, Adam, as in its tutorials."""

import snntorch as snn
import torch
from snntorch import functional, surrogate, utils


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes one training step."""

    def leaky():
        return snn.Leaky(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=25), init_hidden=True)

    layers: list[torch.nn.Module] = []
    if network["kind"] == "lenet":
        layers += [torch.nn.Conv2d(1, 12, 5), torch.nn.MaxPool2d(2), leaky()]
        layers += [torch.nn.Conv2d(12, 64, 5), torch.nn.MaxPool2d(2), leaky(), torch.nn.Flatten()]
        layers += [torch.nn.Linear(1024, 1024), leaky(), torch.nn.Linear(1024, 10), leaky()]
    else:
        images = images.flatten(1)
        for inputs, outputs in zip(network["sizes"][:-1], network["sizes"][1:], strict=True):
            layers += [torch.nn.Linear(inputs, outputs), leaky()]
    net = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    loss_function = functional.ce_rate_loss()

    def step() -> None:
        optimizer.zero_grad()
        utils.reset(net)
        spikes = torch.stack([net(images) for _ in range(network["steps"])])
        loss_function(spikes, labels).backward()
        optimizer.step()

    return step
