"""The published implementation, lfprop 1.0.0: LFP-ε on snnTorch's Leaky, reward A.16, Adam.

It asks for versions that nothing else here can live with; give the interpreter of its own environment in
``SPIKELFP_BENCH_LFPROP``. Its dependencies import torchvision, whose compiled part may not load beside a CPU
build of torch; the two operators it misses are declared first.
"""

import contextlib
import warnings

import torch
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


def _layer(parameterized: torch.nn.Module, output: bool = False) -> torch.nn.Module:
    leaky = snn.Leaky(beta=0.9, init_hidden=True, output=output, spike_grad=sn.SPIKE_GRAD_MAP["step"]())
    return sn.SpikingLayer(sn.NoisyWrapper(parameterized, 0.0, False), leaky)


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes one training step, as in the package's notebook on spiking networks."""
    net = sn.SmallLifMLP(784, 10, 0.9, spike_grad="step", apply_noise=False)
    if network["kind"] == "lenet":
        net.classifier = torch.nn.Sequential(
            _layer(torch.nn.Conv2d(1, 12, 5)), torch.nn.MaxPool2d(2),
            _layer(torch.nn.Conv2d(12, 64, 5)), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
            _layer(torch.nn.Linear(1024, 1024)), _layer(torch.nn.Linear(1024, 10), output=True),
        )  # fmt: skip
        net.forward = net.classifier.forward  # the package's own flattens its input
    else:
        sizes = list(zip(network["sizes"][:-1], network["sizes"][1:], strict=True))
        last = len(sizes) - 1
        net.classifier = torch.nn.Sequential(
            *(_layer(torch.nn.Linear(a, b), output=i == last) for i, (a, b) in enumerate(sizes))
        )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    composite, reward_of = LFPSNNEpsilonComposite(), SnnCorrectClassRewardSpikesRateCoded("cpu")

    def step() -> None:
        optimizer.zero_grad()
        net.reset()
        with composite.context(net) as modified:
            x = images.detach().requires_grad_(True)
            spikes = torch.stack([modified(x)[0] for _ in range(network["steps"])])
            reward = reward_of(spikes, labels).detach()
            torch.autograd.grad((spikes,), (x,), grad_outputs=(reward,))
            for parameter in net.parameters():
                parameter.grad = -parameter.feedback
        optimizer.step()

    return step
