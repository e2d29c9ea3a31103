r"""Target for the spike rates of hidden neurons, beside the task: fire more, or fire less.

The rate ``ρ`` is measured over the samples ``b`` and the steps ``t`` that count. ``T_b`` is the number of these steps
of a sample, and there are ``B`` samples. It is that of each neuron, or that of a layer of ``n`` neurons in each
sample::

    ρ_i = 1/B Σ_b 1/T_b Σ_t S_i[t, b]          over="neuron"
    ρ_b = 1/n Σ_i 1/T_b Σ_t S_i[t, b]          over="layer"

With the target ``ρ*`` and the weight ``λ``, gradients descend a loss that is added to that of the task::

    L = λ/2 Σ_i (ρ_i − ρ*)²                    over="neuron"
    L = λ/2 · n · 1/B Σ_b (ρ_b − ρ*)²          over="layer"

so that the slope by a spike, ``−∂L/∂S_i[t, b] = λ (ρ* − ρ) / (T_b B)``, is as large as that of an output whose error is
``λ (ρ* − ρ)``. LFP hands ``r_i[t, b] = λ (ρ* − ρ)`` to every hidden neuron and step as a reward, spike or no spike, as
A.4 does at the outputs. It is added to what the neuron earns by the message of the layers after it. A silent neuron
hears it, too, which surrogate derivatives far below the threshold hardly do.

In a chunk of a sequence the rates are those of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.lif import check_number
from spikelfp.methods.base import mean_over_steps, step_weights
from spikelfp.nn import graph
from spikelfp.options import call_of
from spikelfp.registry import check_name
from spikelfp.rules import Feedback, rules_in

OVER = ("neuron", "layer")
"""Neurons whose mean has the target: each by itself, or all of a layer together."""


class RateCredit(NamedTuple):
    """Errors of the spike rates of the hidden layers in a batch.

    Attributes:
        spikes: of each layer, ``[T, B, …]`` with their graph.
        errors: ``λ (ρ* − ρ)`` of each, ``[T, B, …]``, 0 at the steps that do not count.
        rate: mean spikes per hidden neuron and step, a scalar.
    """

    spikes: list[Tensor]
    errors: list[Tensor]
    rate: Tensor


class RateTarget:
    """Target for the spike rates of hidden neurons (:mod:`spikelfp.methods.spike_rate` has the equations).

    Methods that take one are :class:`~spikelfp.methods.LFP` and :class:`~spikelfp.methods.SurrogateGradient`::

        LFP(rewards.CountSoftmax(), rate=RateTarget(0.05, weight=0.1))

    Args:
        target: ``ρ*``, spikes per neuron and step, from 0 to 1.
        weight: ``λ``, 0 or more.
        over: whose mean has the target: each ``neuron`` by itself, over the steps and the samples that run together; or
            the ``layer``, over its neurons and the steps of each sample, which does not depend on the other samples.

    Raises:
        UserError: for values out of range; in training, for a network without hidden neurons that fire, and under a
            rule that normalises rewards.
    """

    def __init__(self, target: float, weight: float = 0.1, over: str = "neuron") -> None:
        self.target, self.weight = check_number("target", target), check_number("weight", weight)
        self.over = check_name("over", over, OVER)
        if not 0 <= self.target <= 1:
            raise UserError(f"a spike rate lies between 0 and 1 spike per neuron and step, got target={target}")
        if not 0 <= self.weight < float("inf"):
            raise UserError(f"the weight of a rate target is a finite number of 0 or more, got {weight}")
        self._hidden: dict[str, Module] = {}
        self._runs: list[Tensor] | None = None

    def __repr__(self) -> str:
        """Write the call that makes it, such as ``RateTarget(target=0.05)``."""
        return call_of(self)

    def suit(self, net: Module) -> None:
        """Find the hidden layers that fire.

        Args:
            net: the network.

        Raises:
            UserError: for a network that has none.
        """
        known = graph.neighbours(net)
        last = known.nearest(graph.OUTPUT, lambda layer: layer is None or graph.has_trait(layer, "passes_spikes"))
        if graph.UNKNOWN in last or not last:  # the order is not known: the last layer that there is
            last = frozenset([*known.layers][-1:])
        firing = {name: layer for name, layer in known.layers.items() if graph.has_trait(layer, "fires")}
        self._hidden = {name: layer for name, layer in firing.items() if name not in last}
        if not self._hidden:
            raise UserError(
                "a rate target is for hidden neurons that fire, and this network has none: leave it out, or take "
                "layers of neurons (lif-mlp, lif-rnn, lif-conv, …)"
            )

    def watched(self, net: Module) -> Callable[[Tensor], Tensor]:
        """Return a function that runs the network and keeps the spikes of its hidden layers for :meth:`credit`.

        Args:
            net: the network, or a module around it.

        Raises:
            UserError: for a network without hidden neurons that fire, one that is recomputed in parts, and a rule that
                normalises rewards.
        """
        inside = set(net.modules())
        if not self._hidden or not inside.issuperset(self._hidden.values()):
            self.suit(net)
        if any(getattr(layer, "in_parts", False) for layer in inside):
            raise UserError(
                "a rate target looks at the spikes of whole sequences, which recomputation does not keep: leave out "
                "recompute (chunk needs less memory, too), or the rate target"
            )
        for layer, rule in rules_in(net).items():
            if isinstance(rule, Feedback) and rule.normalize:
                raise UserError(
                    f"a rate target hands rewards to neurons, and the rule of {type(layer).__name__} would divide them "
                    "by the largest: leave out normalize, or the rate target"
                )

        def run(x: Tensor) -> Tensor:
            runs: list[Tensor] = []
            with graph.watching_these(net, lambda call: runs.append(call.outputs), self._hidden):
                outputs: Tensor = net(x)
            self._runs = runs
            return outputs

        return run

    def credit(self, mask: Tensor | None = None, steps: Tensor | int | None = None) -> RateCredit:
        """Compare the rates of the last run with the target.

        Args:
            mask: boolean ``[T, B]``, the steps that count; ``None`` for all.
            steps: for a chunk, the number of steps of the whole sequences that count; ``None`` for whole sequences.

        Raises:
            UserError: where no network has run.
        """
        runs, self._runs = self._runs, None
        if runs is None:
            raise UserError("a rate target looks at the hidden layers while the network runs: call learn(net, batch)")
        errors, rates, places = list[Tensor](), list[Tensor](), 0
        for spikes in runs:
            own = spikes.detach()
            error = self.weight * (self.target - self._rates(own, mask))
            counts = own.new_ones(()) if mask is None else _spread(mask.to(own.dtype), own)
            errors.append((error * counts).expand_as(own))
            number = own[0, 0].numel()
            rates.append(mean_over_steps(own, mask, steps) * number)
            places += number
        return RateCredit(runs, errors, torch.stack(rates).sum() / places)

    def _rates(self, spikes: Tensor, mask: Tensor | None) -> Tensor:
        """Measure ``ρ`` of spikes ``[T, B, …]``: of each neuron, ``[1, 1, …]``, or of a layer, ``[1, B, 1, …]``."""
        if mask is None:
            of_samples = spikes.mean(0, keepdim=True)
        else:
            counted = mask.sum(0).clamp(min=1)
            share = mask.to(torch.promote_types(spikes.dtype, torch.float32)) / counted
            of_samples = (spikes * _spread(share, spikes)).sum(0, keepdim=True)
        if self.over == "layer":
            return of_samples.flatten(2).mean(-1).view(1, -1, *[1] * (spikes.dim() - 2))
        if mask is None:
            return of_samples.mean(1, keepdim=True)
        shown = mask.any(0).sum().clamp(min=1)  # in a chunk some samples may have ended
        return of_samples.sum(1, keepdim=True) / shown


def slopes(credit: RateCredit, mask: Tensor | None, steps: Tensor | int | None) -> list[Tensor]:
    """Compute the gradient of the rate loss by the spikes of each layer, ``∂L/∂S``.

    Args:
        credit: errors of the rates.
        mask: boolean ``[T, B]``, the steps that count; ``None`` for all.
        steps: for a chunk, the number of steps of the whole sequences that count.

    Returns:
        ``[T, B, …]`` of each layer.
    """
    found = []
    for error in credit.errors:
        length, samples = error.shape[:2]
        if mask is None:
            found.append(-error / ((length if steps is None else steps) * samples))
        else:
            found.append(-error * _spread(step_weights(mask, steps, error.dtype), error))
    return found


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """Return ``[T, B]`` with as many axes as ``like`` ``[T, B, …]``."""
    return values.view(*values.shape, *[1] * (like.dim() - 2))
