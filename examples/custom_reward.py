"""Write your own reward, here without a gradient: the first spike decides the class, and earlier is better.

A reward is any function of outputs and labels. It need not be differentiable, or even written as a formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp import TemporalTrainer, data, models, rewards


class FirstSpike(rewards.Reward):
    """Reward the right neuron until it has fired; punish spikes of the others that come before that."""

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Spikes ``[T, B, C]`` and the right class ``[B, C]`` to a reward for every spike and silence."""
        fired_before = outputs.cumsum(0) - outputs > 0
        waiting = ~(fired_before & target).any(-1, keepdim=True)  # up to and with the right first spike
        silent_target = target & (outputs == 0)
        return (silent_target.float() - outputs * ~target) * waiting


def first_spike_class(spikes: Tensor) -> Tensor:
    """Find the class that fires first, ``[B]``; of classes that fire together the one with more spikes."""
    steps = len(spikes)
    time = torch.arange(steps, 0, -1.0).view(-1, 1, 1)
    return ((spikes * time).amax(0) + spikes.sum(0) / (steps + 1)).argmax(-1)


def main(epochs: int = 30) -> float:
    """Train on the digits and return the accuracy of the first spike."""
    torch.manual_seed(0)
    digits = data.load("digits")
    trainer = TemporalTrainer(models.lif_mlp([64, 256, 10]), reward=FirstSpike(), steps=10, progress=True)
    trainer.fit(digits.train, epochs)
    images, labels = digits.test.__getitems__(range(len(digits.test)))
    with torch.no_grad():
        spikes = trainer.net(trainer.present(images))
    accuracy = (first_spike_class(spikes) == labels).float().mean().item()
    first = (spikes.sum(-1) > 0).float().argmax(0).mean(dtype=torch.float32).item() + 1
    print(f"test accuracy {accuracy:.3f}, decided after {first:.1f} steps of 10 on average")
    return accuracy


if __name__ == "__main__":
    main()
