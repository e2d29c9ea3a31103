"""Train an snnTorch model, written as in its tutorials, by LFP in place.

The network that is trained shares its parameters with the model, so the model's own forward is better afterwards; it
never learns that spikelfp exists.
"""

from __future__ import annotations

import snntorch as snn
import torch
from torch import Tensor

from spikelfp import TemporalTrainer, data, interop, nn

STEPS = 15


class Net(torch.nn.Module):
    """Network of two dense layers of leaky neurons (snnTorch's tutorial 5)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, beta: float) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(inputs, hidden)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc2 = torch.nn.Linear(hidden, outputs)
        self.lif2 = snn.Leaky(beta=beta)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, inputs]`` to output spikes and membranes, ``[STEPS, B, outputs]``."""
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _ in range(STEPS):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


def accuracy(net: Net, images: Tensor, labels: Tensor) -> float:
    """Measure the accuracy of the class that fires most, by the model's own forward."""
    with torch.no_grad():
        spikes, _ = net(images)
    return (spikes.sum(0).argmax(-1) == labels).float().mean().item()


def main(epochs: int = 40) -> float:
    """Train on the digits and return the test accuracy of the snnTorch model."""
    torch.manual_seed(0)
    digits = data.load("digits")
    images, labels = digits.test.__getitems__(range(len(digits.test)))
    images = images.flatten(1)

    model = Net(64, 256, 10, beta=0.9)
    before = accuracy(model, images, labels)

    net = interop.from_snntorch(model, example=images)  # runs the forward once, to see what it does
    trainer = TemporalTrainer(nn.Sequential(nn.Flatten(), net), steps=STEPS, device="cpu", progress=True)
    trainer.fit(digits.train, epochs)

    after = accuracy(model, images, labels)
    print(f"test accuracy of the snnTorch model {before:.3f} before, {after:.3f} after training by LFP")
    return after


if __name__ == "__main__":
    main()
