"""Dense float32 products of one step and nothing else: a lower bound for any method that makes all of them.

The products of each layer, recurrent connections too, are made for all steps at once: forward, weight update and
message to the input. A constant image is multiplied once. Convolutions are those of ``dense_convolutions.py``.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from dense_convolutions import Convolutions

PACKAGES = ("torch",)


class Contender:
    """The products of a training step."""

    def __init__(self, network, images, labels):
        lenet, recurrent = network["kind"] == "lenet", network["kind"] == "rnn"
        count = network["steps"] * len(labels)
        sizes = [1024, 1024, 10] if lenet else network["sizes"]
        self.convolutions = Convolutions(network["steps"], images) if lenet else None
        self.layers = []
        for index, (a, b) in enumerate(pairwise(sizes)):
            constant = index == 0 and not lenet and not recurrent
            inputs = images.flatten(1) if constant else torch.rand(count, a)
            messages = torch.rand(len(images) if constant else count, b)
            first = index == 0 and not lenet  # no message to the input
            self.layers.append((torch.randn(b, a), inputs, messages, first))
            if recurrent and index < len(sizes) - 2:
                self.layers.append((torch.randn(b, b), torch.rand(count, b), messages, False))

    def step(self):
        if self.convolutions is not None:
            self.convolutions()
        for weight, inputs, messages, first in self.layers:
            F.linear(inputs, weight)
            messages.T @ inputs
            if not first:
                messages @ weight
