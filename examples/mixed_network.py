"""Mix ordinary and spiking layers in one network: ReLU features, LIF neurons, a linear readout.

The spikes are summed over time, the readout sees counts, and the reward of its linear outputs (Table 2 #3) runs
back through all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp import Trainer, data, nn, rewards


class Mixed(torch.nn.Module):
    """Network of 64 pixels, 64 ReLU, 128 LIF neurons over 10 steps and 10 linear outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.spiking = nn.Sequential(nn.Linear(64, 128), nn.LIF(beta=0.9))
        self.readout = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """``[1, B, 1, 8, 8]`` to ``[1, B, 10]``."""
        features = self.features(x)[0]
        spikes = self.spiking(nn.constant(features, steps=10))
        return self.readout(spikes.sum(0, keepdim=True))


def main(epochs: int = 20) -> float:
    """Train on the digits and return the test accuracy."""
    torch.manual_seed(0)
    digits = data.load("digits")
    trainer = Trainer(Mixed(), reward=rewards.Softmax(), progress=True)
    trainer.fit(digits.train, epochs)
    accuracy = trainer.evaluate(digits.test).accuracy
    print(f"test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
