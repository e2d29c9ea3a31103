"""This package: LFP-ε, reward A.4, Adam."""

from shared import adam, load, of_kind, spike_rates

from spikelfp import models, nn, propagate, rewards

PACKAGES = ("spikelfp", "torch", "numba")


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        self.net = models.lif_lenet() if network["kind"] == "lenet" else models.lif_mlp(network["sizes"])
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())
        self.reward = rewards.SpikeSequence()

    def forward(self):
        return self.net(nn.constant(self.images, self.steps))

    def step(self):
        self.optimizer.zero_grad()
        spikes = self.forward()
        propagate(spikes, self.reward(spikes, self.labels) / len(self.labels))
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, nn.LIF), lambda: self.net(nn.constant(self.images, self.steps)))
