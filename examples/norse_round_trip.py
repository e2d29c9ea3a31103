"""Train a norse model by LFP and convert it back to norse, where it makes exactly the same spikes.

norse multiplies the input of its neurons by Δt/τ, here 0.1. That factor moves into the weights, so the networks hold
copies, and the learning rate suits weights a tenth of the usual size.
"""

from __future__ import annotations

import norse.torch as norse
import torch
from torch import Tensor

from spikelfp import TemporalTrainer, data, interop, nn

STEPS = 15


def run(model: norse.SequentialState, images: Tensor) -> Tensor:
    """Run a norse model on images ``[B, 64]`` for ``STEPS`` steps; return spikes ``[STEPS, B, 10]``."""
    state, spikes = None, []
    with torch.no_grad():
        for _ in range(STEPS):
            out, state = model(images, state)
            spikes.append(out)
    return torch.stack(spikes)


def accuracy(spikes: Tensor, labels: Tensor) -> float:
    """Measure the accuracy of the class that fires most."""
    return (spikes.sum(0).argmax(-1) == labels).float().mean().item()


def main(epochs: int = 30) -> float:
    """Train on the digits and return the test accuracy of the converted norse model."""
    torch.manual_seed(0)
    digits = data.load("digits")
    images, labels = digits.test.__getitems__(range(len(digits.test)))
    images = images.flatten(1)

    model = norse.SequentialState(
        torch.nn.Linear(64, 256), norse.LIFBoxCell(), torch.nn.Linear(256, 10), norse.LIFBoxCell()
    )
    net = interop.from_norse(model)
    print(f"in norse before training {accuracy(run(model, images), labels):.3f}")

    # the untrained neurons are silent (above, all images are class 0); the trainer wakes the hidden ones
    trainer = TemporalTrainer(nn.Sequential(nn.Flatten(), net), steps=STEPS, lr=3e-2, device="cpu", progress=True)
    trainer.fit(digits.train, epochs)
    with torch.no_grad():
        ours = net(nn.constant(images, STEPS))

    returned = interop.to_norse(net)
    spikes = run(returned, images)
    different = int((spikes != ours).sum())
    result = accuracy(spikes, labels)
    print(f"after training {accuracy(ours, labels):.3f} in spikelfp and {result:.3f} in norse")
    print(f"spikes that differ: {different} of {spikes.numel()} ({int(spikes.sum())} fired)")
    return result


if __name__ == "__main__":
    main()
