"""The published implementation, lfprop 1.0.0: LFP-ε on snnTorch's Leaky, reward A.16, Adam.

Its versions of packages conflict with all others here: give the interpreter of its own environment in
``SPIKELFP_BENCH_LFPROP``. Its dependencies import torchvision, which may fail to load with a CPU build of torch; the
two operators that it then misses are declared first.
"""

import contextlib
import warnings

import torch
from shared import adam, load, of_kind, spike_rates
from torch import library

warnings.filterwarnings("ignore")
with contextlib.suppress(RuntimeError):
    _library = library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import snntorch as snn  # noqa: E402
from lfprop.model import spiking_networks as sn  # noqa: E402
from lfprop.propagation.propagator_snn import LFPSNNEpsilonComposite  # noqa: E402
from lfprop.rewards.reward_functions import SnnCorrectClassRewardSpikesRateCoded  # noqa: E402

PACKAGES = ("lfprop",)


def _layer(parameterized, *, pool=False, output=False):
    """Make weights, 2×2 pooling if asked for (before the neurons, as in all contenders), and neurons."""
    leaky = snn.Leaky(beta=0.9, init_hidden=True, output=output, spike_grad=sn.SPIKE_GRAD_MAP["step"]())
    current = sn.NoisyWrapper(parameterized, 0.0, False)
    return sn.SpikingLayer(torch.nn.Sequential(current, torch.nn.MaxPool2d(2)) if pool else current, leaky)


class Contender:
    """One training step, as in the package's notebook on spiking networks."""

    def __init__(self, network, images, labels):
        self.images, self.labels, self.steps = images, labels, network["steps"]
        net = sn.SmallLifMLP(784, 10, 0.9, spike_grad="step", apply_noise=False)
        if network["kind"] == "lenet":
            net.classifier = torch.nn.Sequential(
                _layer(torch.nn.Conv2d(1, 12, 5), pool=True),
                _layer(torch.nn.Conv2d(12, 64, 5), pool=True), torch.nn.Flatten(),
                _layer(torch.nn.Linear(1024, 1024)), _layer(torch.nn.Linear(1024, 10), output=True),
            )  # fmt: skip
            net.forward = net.classifier.forward  # the package's own flattens its input
        else:
            sizes = list(zip(network["sizes"][:-1], network["sizes"][1:], strict=True))
            last = len(sizes) - 1
            net.classifier = torch.nn.Sequential(
                *(_layer(torch.nn.Linear(a, b), output=i == last) for i, (a, b) in enumerate(sizes))
            )
        load(net.parameters(), network)
        self.net, self.optimizer = net, adam(net.parameters())
        self.composite, self.reward_of = LFPSNNEpsilonComposite(), SnnCorrectClassRewardSpikesRateCoded("cpu")

    def step(self):
        self.optimizer.zero_grad()
        self.net.reset()
        with self.composite.context(self.net) as modified:
            x = self.images.detach().requires_grad_(True)
            spikes = torch.stack([modified(x)[0] for _ in range(self.steps)])
            reward = self.reward_of(spikes, self.labels).detach()
            torch.autograd.grad((spikes,), (x,), grad_outputs=(reward,))
            for parameter in self.net.parameters():
                parameter.grad = -parameter.feedback
        self.optimizer.step()

    def rates(self):
        def run():
            self.net.reset()
            for _ in range(self.steps):
                self.net(self.images)

        return spike_rates(of_kind(self.net, snn.Leaky), run)
