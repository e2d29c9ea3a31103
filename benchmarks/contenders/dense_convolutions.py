"""Dense float32 convolutions of one LeNet step and nothing else.

The first convolution runs for the ``B`` images only, forward and weight update, since a constant image gives the same
current at every step. The second runs for all ``T · B`` inputs: forward, weight update and message to the input. The
layout is channels last, the fastest for torch's CPU convolutions.
"""

import torch

PACKAGES = ("torch",)


class Convolutions:
    """The convolutions of a training step."""

    def __init__(self, steps, images):
        last, count = torch.channels_last, steps * len(images)
        self.images = images.to(memory_format=last)
        self.first = torch.nn.Conv2d(1, 12, 5).to(memory_format=last)
        self.second = torch.nn.Conv2d(12, 64, 5).to(memory_format=last)
        spikes = (torch.rand(count, 12, 12, 12) < 0.1).float()
        self.hidden = spikes.to(memory_format=last).requires_grad_()
        self.messages = (
            torch.randn(len(images), 12, 24, 24).to(memory_format=last),
            torch.randn(count, 64, 8, 8).to(memory_format=last),
        )

    def __call__(self):
        torch.autograd.grad(self.first(self.images), self.first.weight, self.messages[0])
        torch.autograd.grad(self.second(self.hidden), (self.second.weight, self.hidden), self.messages[1])


class Contender:
    """The convolutions of a training step."""

    def __init__(self, network, images, labels):
        if network["kind"] != "lenet":
            raise ValueError("a network without convolutions")
        self.step = Convolutions(network["steps"], images)
