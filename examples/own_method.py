"""Add your own method in one file: direct feedback alignment (Nøkland 2016) of spiking layers.

Each hidden layer learns from the error of the outputs, sent straight to it through fixed random weights ``B``: credit
never passes through the weights of the layers behind. What a neuron gets so is a reward, spike or no spike, which LFP's
rule then splits over its inputs and steps. The feedback weights are the method's own state: checkpoints keep them.

A method derives from :class:`spikelfp.methods.Method`. One that sends its credit backwards through the whole network
writes ``backward(outputs, labels, share)``; this one cuts the network into blocks, so it writes ``learn(net, batch)``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import spikelfp
from spikelfp import TemporalTrainer, data, methods, models, propagate, rewards
from spikelfp.errors import UserError


@methods.methods.register("direct-feedback")
class DirectFeedback(methods.Method):
    """Rewards hidden neurons with the reward of the outputs, through fixed random weights.

    ::

        r_h = B_hᵀ r̄,    B_h ~ N(0, strength² / C),    r̄ = mean over time of the reward of the C outputs

    Args:
        reward: of the outputs; each hidden neuron gets a random mixture of it.
        strength: size of the feedback against that of the reward.
    """

    words = "direct feedback alignment"

    def __init__(self, reward: rewards.Reward, *, strength: float = 1.0) -> None:
        self.reward, self.strength = reward, strength
        self.feedback: dict[str, Tensor] = {}

    def prepare(self, net: nn.Module) -> None:
        """Draw the feedback weights ``[C, H]`` of each hidden block, once."""
        *hidden, outputs = blocks(net)
        count = width(outputs)
        self.feedback = {
            str(number): torch.randn(count, width(block)) * self.strength / count**0.5
            for number, block in enumerate(hidden)
        }

    def learn(self, net: nn.Module, batch: methods.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Run block by block, each from the spikes of the one before without their graph; then reward each block."""
        signal, hidden = batch.sequence, list[Tensor]()
        for block in blocks(net):
            hidden.append(block(signal))
            signal = hidden[-1].detach()
        outputs = hidden.pop()
        weight = batch.share / max(len(batch.targets), 1)
        reward = self.reward(signal, batch.targets, *([] if batch.mask is None else [batch.mask]))
        propagate(outputs, reward, weight=weight)
        mean = reward.sum(0) / torch.as_tensor(batch.counted).reshape(-1, 1)
        for spikes, feedback in zip(hidden, self.feedback.values(), strict=True):
            own = (mean @ feedback.to(mean)).expand_as(spikes)
            propagate(spikes, own if batch.mask is None else own * batch.mask.unsqueeze(-1), weight=weight)
        return outputs, {"reward": methods.mean_over_steps(reward, batch.mask, batch.steps)}


def blocks(net: nn.Module) -> list[nn.Sequential]:
    """Cut a chain of layers after each layer of neurons."""
    if not isinstance(net, nn.Sequential):
        raise UserError(f"direct feedback trains a Sequential, and whole sequences of it; got {type(net).__name__}")
    ends = [place for place, layer in enumerate(net, start=1) if isinstance(layer, spikelfp.nn.Neurons)]
    if not ends or ends[-1] != len(net):
        raise UserError("direct feedback trains networks that end in neurons")
    return [net[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def width(block: nn.Sequential) -> int:
    """Compute the outputs of a block's last layer with weights."""
    sizes = [layer.out_features for layer in block if isinstance(layer, nn.Linear | spikelfp.nn.Linear)]
    if not sizes:
        raise UserError("direct feedback trains blocks of Linear layers, and this one has none")
    return sizes[-1]


def trainer() -> TemporalTrainer:
    """Make a trainer by the method; an object, its class or its name would do alike."""
    torch.manual_seed(0)
    net = models.lif_mlp([64, 128, 128, 10])
    return TemporalTrainer(net, method="direct-feedback", steps=10, lr=1e-2, progress=True)


def main(epochs: int = 10) -> float:
    """Train on the digits, stop half-way, resume from the checkpoint, and return the accuracy."""
    digits = data.load("digits")
    whole = trainer()
    whole.fit(digits.train, epochs)

    stopped = trainer()
    stopped.should_stop = lambda: stopped.position.step == whole.position.step // 2
    stopped.fit(digits.train, epochs)
    resumed = trainer()
    with tempfile.TemporaryDirectory() as folder:
        stopped.save(Path(folder) / "half.pt")
        resumed.load(Path(folder) / "half.pt")
    resumed.fit(digits.train, epochs)
    for one, other in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(one, other), "training went on otherwise than without a stop"

    accuracy = resumed.evaluate(digits.test).accuracy
    print(f"test accuracy {accuracy:.3f}; stopped at step {stopped.position.step} and resumed bit for bit")
    return accuracy


if __name__ == "__main__":
    main()
