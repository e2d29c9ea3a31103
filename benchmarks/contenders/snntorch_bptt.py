"""snnTorch: backpropagation through time, fast sigmoid, rate cross-entropy, Adam, as in its tutorials."""

from itertools import pairwise

import snntorch as snn
import torch
from shared import adam, layers, load, of_kind, spike_rates
from snntorch import functional, surrogate, utils

PACKAGES = ("snntorch",)


def recurrent(sizes, neurons):
    """``Linear, RLeaky, …, Linear, Leaky``, the recurrent connections without a bias."""
    made = []
    for a, b in pairwise(sizes[:-1]):
        hidden = snn.RLeaky(linear_features=b, **neurons)
        hidden.recurrent = torch.nn.Linear(b, b, bias=False)
        made += [torch.nn.Linear(a, b), hidden]
    return [*made, torch.nn.Linear(*sizes[-2:]), snn.Leaky(**neurons)]


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        neurons = dict(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=25), init_hidden=True)
        self.sequence = images if network["kind"] == "rnn" else None
        if self.sequence is None:
            made = layers(network, lambda: snn.Leaky(**neurons))
        else:
            made = recurrent(network["sizes"], neurons)
        self.net = torch.nn.Sequential(*made)
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())
        self.loss = functional.ce_rate_loss()

    def forward(self):
        utils.reset(self.net)
        if self.sequence is not None:
            return torch.stack([self.net(step) for step in self.sequence])
        return torch.stack([self.net(self.images) for _ in range(self.steps)])

    def step(self):
        self.optimizer.zero_grad()
        self.loss(self.forward(), self.labels).backward()
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, (snn.Leaky, snn.RLeaky)), self.forward)
