"""Norse: backpropagation through time with SuperSpike, rate cross-entropy, Adam."""

import norse.torch as norse
import torch
from norse.torch.functional.reset import reset_subtract
from shared import adam, layers, load, of_kind, spike_rates

PACKAGES = ("norse",)


def lif():
    """Neurons that keep 0.9 of the membrane per step, ``dt · tau_mem_inv = 0.1``; a spike subtracts the threshold."""
    return norse.LIFBoxCell(
        norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0), reset_method=reset_subtract), dt=0.001
    )


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        self.net = norse.SequentialState(*layers(network, lif))
        load(self.net.parameters(), network, gain=10.0)  # norse multiplies the current by dt · tau_mem_inv
        self.optimizer = adam(self.net.parameters())

    def forward(self):
        state, record = None, []
        for _ in range(self.steps):
            spikes, state = self.net(self.images, state)
            record.append(spikes)
        return record

    def step(self):
        self.optimizer.zero_grad()
        record = self.forward()
        loss = sum(torch.nn.functional.cross_entropy(s, self.labels) for s in record) / len(record)
        loss.backward()
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, norse.LIFBoxCell), self.forward)
