"""This package: the same network by surrogate gradients, fast sigmoid and rate cross-entropy, Adam."""

from shared import adam, load, of_kind, spike_rates

from spikelfp import methods, models, nn, rules

PACKAGES = ("spikelfp",)


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        self.net = models.lif_lenet() if network["kind"] == "lenet" else models.lif_mlp(network["sizes"])
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())
        self.rule = rules.Surrogate()

    def step(self):
        self.optimizer.zero_grad()
        with rules.using(self.net, self.rule):
            outputs = self.net(nn.constant(self.images, self.steps))
        methods.rate_cross_entropy(outputs, self.labels).backward()
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, nn.LIF), lambda: self.net(nn.constant(self.images, self.steps)))
