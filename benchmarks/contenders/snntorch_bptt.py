"""snnTorch: backpropagation through time, fast sigmoid, rate cross-entropy, Adam, as in its tutorials."""

import snntorch as snn
import torch
from shared import adam, layers, load, of_kind, spike_rates
from snntorch import functional, surrogate, utils

PACKAGES = ("snntorch",)


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        neurons = dict(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=25), init_hidden=True)
        self.net = torch.nn.Sequential(*layers(network, lambda: snn.Leaky(**neurons)))
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())
        self.loss = functional.ce_rate_loss()

    def forward(self):
        utils.reset(self.net)
        return torch.stack([self.net(self.images) for _ in range(self.steps)])

    def step(self):
        self.optimizer.zero_grad()
        self.loss(self.forward(), self.labels).backward()
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, snn.Leaky), self.forward)
