"""This package: LFP-ε by the paper's rule, reward A.4, Adam."""

from shared import PAPER, adam, load, of_kind, spike_rates

from spikelfp import models, nn, propagate, rewards

PACKAGES = ("spikelfp", "torch", "numba")


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        made = {"lenet": lambda sizes, **o: models.lif_lenet(**o), "mlp": models.lif_mlp, "rnn": models.lif_rnn}
        self.recurrent, self.net = network["kind"] == "rnn", made[network["kind"]](network.get("sizes", []), **PAPER)
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())
        self.reward = rewards.SpikeSequence()

    def shown(self):
        return self.images if self.recurrent else nn.constant(self.images, self.steps)

    def forward(self):
        return self.net(self.shown())

    def step(self):
        self.optimizer.zero_grad()
        spikes = self.forward()
        propagate(spikes, self.reward(spikes, self.labels) / len(self.labels))
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, nn.Neurons), lambda: self.net(self.shown()))
