"""Run by another interpreter, one that has lfprop 1.0.0: ``lfprop_feedback.py IN.pt OUT.pt``.

Reads weights, input and labels, writes the package's own spikes, reward and feedback of every parameter.
"""

from __future__ import annotations

import contextlib
import sys
import warnings

import torch
from torch import library

warnings.filterwarnings("ignore")
with contextlib.suppress(RuntimeError):  # torchvision's compiled part may not load beside a CPU build of torch
    _library = library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import snntorch as snn  # noqa: E402
from lfprop.model import spiking_networks as sn  # noqa: E402
from lfprop.propagation.propagator_snn import LFPSNNEpsilonComposite  # noqa: E402
from lfprop.rewards.reward_functions import SnnCorrectClassRewardSpikesRateCoded  # noqa: E402


def main() -> None:
    """One training step without the optimiser, as in the package's notebook on spiking networks."""
    task = torch.load(sys.argv[1], weights_only=True)
    parts = []
    for number, (w, b) in enumerate(task["weights"]):
        dense = torch.nn.Linear(w.shape[1], w.shape[0])
        dense.weight.data, dense.bias.data = w, b
        last = number == len(task["weights"]) - 1
        leaky = snn.Leaky(
            beta=task["beta"], threshold=task["threshold"], init_hidden=True, output=last,
            spike_grad=sn.SPIKE_GRAD_MAP["step"](),
        )  # fmt: skip
        parts.append(sn.SpikingLayer(sn.NoisyWrapper(dense, 0.0, False), leaky))
    net = torch.nn.Sequential(*parts)
    with LFPSNNEpsilonComposite().context(net) as modified:
        x = task["x"].requires_grad_(True)
        spikes = torch.stack([modified(step)[0] for step in x])
        reward = SnnCorrectClassRewardSpikesRateCoded("cpu")(spikes, task["labels"]).detach()
        torch.autograd.grad((spikes,), (x,), grad_outputs=(reward,))
        feedback = [p.feedback.detach() for p in net.parameters() if hasattr(p, "feedback")]
    torch.save({"spikes": spikes.detach(), "reward": reward, "feedback": feedback}, sys.argv[2])


if __name__ == "__main__":
    main()
