"""This package on events: LFP-ε by the paper's rule, reward A.4, Adam; a small convolutional network or a dense one."""

from shared import PAPER, adam, of_kind, spike_rates

from spikelfp import nn, propagate, rewards
from spikelfp.training.update import wake_silent_layers

PACKAGES = ("spikelfp", "torch", "numba")


def network(kind):
    """The layers of the network."""
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(2312, 256), nn.LIF(**PAPER), nn.Linear(256, 10), nn.LIF(**PAPER))
    return nn.Sequential(
        nn.Conv2d(2, 12, 5), nn.MaxPool2d(2), nn.LIF(**PAPER), nn.Conv2d(12, 32, 5), nn.MaxPool2d(2), nn.LIF(**PAPER),
        nn.Flatten(), nn.Linear(800, 10), nn.LIF(**PAPER),
    )  # fmt: skip


class Contender:
    """One training step of the network on a batch of sequences, dense or sparse; silent layers are woken first."""

    def __init__(self, settings, sequences, labels):
        self.sequences, self.labels = sequences, labels
        self.net = network(settings["kind"])
        wake_silent_layers(self.net, nn.time_slice(sequences, 0, 20))
        self.runs = nn.Recomputed(self.net) if settings["recompute"] else self.net
        self.optimizer = adam(self.net.parameters())
        self.reward = rewards.SpikeSequence()

    def step(self):
        self.optimizer.zero_grad()
        spikes = self.runs(self.sequences)
        propagate(spikes, self.reward(spikes, self.labels) / len(self.labels))
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, nn.LIF), lambda: self.net(self.sequences))
