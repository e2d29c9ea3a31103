"""Gradient descent on a loss: plain, or with surrogate derivatives of spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.methods.base import REDUCTIONS, Batch, Method, Reduction, check_object, methods, step_weights
from spikelfp.methods.spike_rate import RateTarget, slopes
from spikelfp.registry import check_name
from spikelfp.rewards.base import takes
from spikelfp.rules import Composite, Gradient, Rule, Surrogate
from spikelfp.tasks import Task
from spikelfp.tasks.classification import rate_cross_entropy

Loss = Callable[..., Tensor]
"""Function ``loss(outputs [T, B, C], labels [B, …])``, the mean over steps and batch.

A loss that also takes ``weights`` ``[T, B]`` is called with them for sequences of unequal lengths, and is then the sum
weighted by them.
"""


def as_scalar(loss: Loss, found: Any) -> Tensor:
    """Return what a loss has computed as a scalar tensor; one of a single element, such as snnTorch's, is one.

    Args:
        loss: the loss.
        found: its result.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
        got = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"the loss {_name_of(loss)} returns the mean over steps and batch as a floating-point tensor of one "
            f"element, got {got}: a class makes a loss first, MSELoss(), and reduction='mean' makes one number of many"
        )
    return found.reshape(())


def no_graph(loss: Loss) -> UserError:
    """Make the error for a loss whose result has no graph."""
    return UserError(
        f"the loss {_name_of(loss)} returns a value without a graph, from which nothing can learn: leave out detach(), "
        "item() and argmax, and compute it outside of torch.no_grad()"
    )


def _name_of(loss: Loss) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


@methods.register("gradient")
class GradientDescent(Method):
    """Backpropagation (through time) of ``loss(outputs, labels)``; with ``rules.Surrogate`` for spiking networks.

    With a mask, the loss is averaged over each sample's own steps, then over the batch.

    Args:
        rule: rule of the layers that have none of their own: :class:`~spikelfp.rules.Gradient` (default), or one
            derived from it.
        loss: loss of outputs and labels (:data:`Loss`).
        reduction: whether the gradient of a batch is the mean over its samples, ``"mean"``, or their sum, ``"sum"``.
        rate: target for the spike rates of hidden neurons, a loss that is added
            (:class:`~spikelfp.methods.RateTarget`); for surrogate derivatives alone, since a spike has none of its own.

    Raises:
        UserError: for an unknown reduction, a rule of rewards, and a rate target without a surrogate; in training, for
            a loss without ``weights`` where not all steps count, and what a rate target cannot train.
    """

    objective = "loss"
    gradient = True
    default_lr = 1e-3
    words = "gradient descent"

    def __init__(
        self,
        rule: Rule | None = None,
        loss: Loss = rate_cross_entropy,
        *,
        reduction: Reduction = "mean",
        rate: RateTarget | None = None,
    ) -> None:
        self.reduction = check_name("reduction", reduction, REDUCTIONS)
        check_object("the rate target", rate, RateTarget, "methods.RateTarget(0.1)")
        if not callable(loss):
            raise UserError(
                f"the loss of a method is a function (outputs, labels), such as methods.rate_cross_entropy, got "
                f"{loss!r:.80}; names go to trainers"
            )
        self.rule = Gradient() if rule is None else rule
        last = self.rule.default if isinstance(self.rule, Composite) else self.rule
        if not getattr(last, "of_gradients", False):
            raise UserError(
                f"{last} is no rule of {type(self).__name__}, which has a loss: it takes rules.Surrogate(…)"
            )
        self.surrogate = type(self.rule) is not Gradient
        self.name = "surrogate" if self.surrogate else "gradient"
        self.loss = loss
        if rate is not None and not self.surrogate:
            raise UserError(
                "the derivative of a spike is 0, so that no gradient would reach a rate target: give spikes a "
                'surrogate one, method="surrogate", or leave the rate target out'
            )
        self.rate = rate

    @property
    def runs_network(self) -> bool:
        return type(self).learn is not GradientDescent.learn

    def suit(self, net: Module, task: Task) -> None:
        if self.rate is not None:
            self.rate.suit(net)

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return super().learn(net if self.rate is None else cast(Module, self.rate.watched(net)), batch)

    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        loss = self.loss_of(outputs, labels, mask, steps)
        if outputs.requires_grad and not loss.requires_grad:
            raise no_graph(self.loss)
        if self.rate is None:
            (loss * share).backward()
            return {"loss": loss.detach()}
        found = self.rate.credit(mask, steps)
        ends = [
            (spikes, slope * share)
            for spikes, slope in zip(found.spikes, slopes(found, mask, steps), strict=True)
            if spikes.requires_grad
        ]
        torch.autograd.backward(
            [loss * share, *(end for end, _ in ends)], [torch.ones_like(loss), *(slope for _, slope in ends)]
        )
        return {"loss": loss.detach(), "spike_rate": found.rate}

    def loss_of(
        self, outputs: Tensor, labels: Tensor, mask: Tensor | None = None, steps: Tensor | int | None = None
    ) -> Tensor:
        """Compute the loss, averaged over each sample's own steps, then over the batch.

        Args:
            outputs: ``[T, B, C]``.
            labels: targets of the samples, ``[B, …]``.
            mask: boolean ``[T, B]``, the steps that count; ``None`` for all.
            steps: for a chunk, the number of steps of the whole sequences that count; ``None`` for whole sequences.

        Returns:
            A scalar tensor; those of the chunks of a batch add up.

        Raises:
            UserError: for a loss without ``weights`` where not all steps count.
        """
        if mask is not None:
            return self._weighted(outputs, labels, step_weights(mask, steps, outputs.dtype))
        loss = as_scalar(self.loss, self.loss(outputs, labels))
        return loss if steps is None else loss * (len(outputs) / steps)

    def _weighted(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        if not takes(self.loss, "weights"):
            name = _name_of(self.loss)
            raise UserError(
                f"the loss {name} takes no weights [T, B] of the steps, which sequences of unequal lengths need: give "
                "it that argument, as rate_cross_entropy has"
            )
        return as_scalar(self.loss, self.loss(outputs, labels, weights=weights))


@methods.register("surrogate")
class SurrogateGradient(GradientDescent):
    """Backpropagation through time in which spikes have a surrogate derivative (v3, A.6.4; Neftci et al. 2019).

    Args:
        rule: the derivative; by default that of a fast sigmoid with slope 25.
        loss: loss of outputs and labels (:data:`Loss`).
        reduction: whether the gradient of a batch is the mean over its samples, ``"mean"``, or their sum, ``"sum"``.
        rate: target for the spike rates of hidden neurons, as of :class:`GradientDescent`.

    Raises:
        UserError: as :class:`GradientDescent` does.
    """

    described_as = "GradientDescent"  # as checkpoints of earlier versions have it
    surrogate = True
    default_lr = 2e-3
    words = "surrogate gradients"

    def __init__(
        self,
        rule: Surrogate | None = None,
        loss: Loss = rate_cross_entropy,
        *,
        reduction: Reduction = "mean",
        rate: RateTarget | None = None,
    ) -> None:
        super().__init__(Surrogate() if rule is None else rule, loss, reduction=reduction, rate=rate)
