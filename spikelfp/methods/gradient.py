"""Gradient descent on a loss: plain, or with surrogate derivatives of spikes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy

from spikelfp.methods.base import Method
from spikelfp.rewards.base import one_hot
from spikelfp.rules import Gradient, Rule

Loss = Callable[[Tensor, Tensor], Tensor]


def rate_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy at every step, averaged over steps and batch (A.6.4; snnTorch's ``ce_rate_loss``)."""
    one_hot(labels, outputs.shape[-1])  # names a label outside the classes
    return cross_entropy(outputs.flatten(0, 1), labels.repeat(len(outputs)))


class GradientDescent(Method):
    """Backpropagation (through time) of ``loss(outputs, labels)``; with ``rules.Surrogate`` for spiking networks."""

    def __init__(self, rule: Rule | None = None, loss: Loss = rate_cross_entropy) -> None:
        self.rule = Gradient() if rule is None else rule
        self.name = "gradient" if type(self.rule) is Gradient else "surrogate"
        self.loss = loss

    def backward(self, outputs: Tensor, labels: Tensor, share: float = 1.0) -> dict[str, Tensor]:
        loss = self.loss(outputs, labels)
        (loss * share).backward()
        return {"loss": loss.detach()}
