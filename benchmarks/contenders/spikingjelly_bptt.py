"""spikingjelly: multi-step mode, torch backend, arctan surrogate, rate cross-entropy, Adam.

Layers take all steps at once and neurons run over them in turn; the membrane keeps ``1 − 1/τ = 0.9`` of itself, the
current is not scaled (``decay_input=False``) and a spike subtracts the threshold (``v_reset=None``). A constant image
is repeated, as its multi-step layers expect. It may need an environment of its own: give the interpreter in
``SPIKELFP_BENCH_SPIKINGJELLY``.
"""

import torch
from shared import adam, layers, load, of_kind, spike_rates
from spikingjelly.activation_based import functional, layer, neuron, surrogate

PACKAGES = ("spikingjelly",)
STATELESS = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.MaxPool2d, torch.nn.Flatten)


def lif():
    """Neurons of multi-step mode, whose backend is torch unless told otherwise."""
    return neuron.LIFNode(
        tau=10.0, decay_input=False, v_threshold=1.0, v_reset=None,
        surrogate_function=surrogate.ATan(), step_mode="m",
    )  # fmt: skip


class Contender:
    """One training step of the network."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        made = layers(network, lif)
        self.net = torch.nn.Sequential(*(layer.SeqToANNContainer(m) if isinstance(m, STATELESS) else m for m in made))
        load(self.net.parameters(), network)
        self.optimizer = adam(self.net.parameters())

    def forward(self):
        functional.reset_net(self.net)
        return self.net(self.images.unsqueeze(0).repeat(self.steps, *(1,) * self.images.dim()))

    def step(self):
        self.optimizer.zero_grad()
        spikes = self.forward()
        labels = self.labels.repeat(self.steps)
        torch.nn.functional.cross_entropy(spikes.flatten(0, 1), labels).backward()
        self.optimizer.step()

    def rates(self):
        return spike_rates(of_kind(self.net, neuron.LIFNode), self.forward)
