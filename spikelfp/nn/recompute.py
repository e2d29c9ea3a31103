r"""Recomputation over time: a long sequence trained in memory that grows like √T instead of T.

The sequence is cut into parts of ``k`` steps. Forward, each part runs from the state that the one before left, and
only the states at the borders are kept. Backward, the parts run again, from the last to the first, now with a graph;
the message to the state a part began from is the message to the last state of the part before. With ``N`` neurons
``T/k`` states and the graph of ``k`` steps are held at a time: least for ``k ≈ √T``, at the price of a second
forward pass (Chen et al. 2016, arXiv:1604.06174). The results are those of a plain run up to the order of summation.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant, is_sparse
from spikelfp.nn.container import Sequential
from spikelfp.nn.layer import Layer, State, sparse_input
from spikelfp.nn.noise import Noise
from spikelfp.nn.parts import NeuronRecomputation, Parts, Recomputation, filled, tensors_of
from spikelfp.nn.setting import Setting
from spikelfp.nn.shape import Dropout

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


class Recomputed(Layer):
    """``net``, its sequences recomputed in parts of ``steps`` steps: see :func:`recomputed`."""

    in_parts = True

    def __init__(self, net: Layer, steps: int | None = None) -> None:
        super().__init__()
        _part_length(steps, 1)
        _check_layer(net)
        self.net, self.steps = net, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Output of ``net``, and its state to go on from."""
        return recomputed(self.net, x, self.steps, state)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """All goes through the network inside."""
        return flow.through(self.net, given)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def recomputed(net: Layer, x: Tensor, steps: int | None = None, state: State = None) -> tuple[Tensor, State]:
    """``net.run(x, state)`` that keeps the graph of at most ``steps`` time steps at a time.

    x: ``[T, B, …]``; one that is constant in time stays so within the parts, and the layers without memory that a
    :class:`~spikelfp.nn.Sequential` begins with see it once, not once a part. steps: of a part, by default ``⌈√T⌉``;
    a sequence that is not longer is run as it is. The parts of a sparse one are sparse. state: nested tuples of tensors
    and ``None``.

    Returns output and state of the plain run; messages also pass to ``x`` and ``state``. :func:`spikelfp.propagate`,
    gradients and their hooks, accumulation and data-parallel training work as for ``net``. The parts run again under
    the rules, modes, autocast and random numbers of the first time.

    Raises :class:`~spikelfp.errors.UserError` for ``steps`` below 1, a network that is no layer of this package, and
    what a network cannot do in parts (:func:`check_recomputable`).
    """
    _check_layer(net)
    steps = _part_length(steps, len(x) if x.dim() else 1)
    if x.dim() < 2 or len(x) <= steps:
        return net.run(x, state)
    check_recomputable(net)
    if is_sparse(x):
        x = sparse_input(net, x)
    if is_constant(x) and any(isinstance(layer, Noise) and layer.training and layer.sigma for layer in net.modules()):
        raise _refusal("Noise is the same at every step of a constant sequence, and each part would draw its own")
    if isinstance(net, Sequential) and is_constant(x) and (count := _constant_layers(net, x)):
        layers = list(zip(net._modules, net, strict=True))
        first, left = (Sequential(OrderedDict(part)) for part in (layers[:count], layers[count:]))
        x, after = first(x), ()
        if len(left):
            x, after = recomputed(left, x, steps, state and state[count:])
        return x, (*(None,) * count, *after)
    parameters = dict(net.named_parameters())
    start = tensors_of(state)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *start, *parameters.values()))
    parts = Parts(net, x, steps, parameters)
    out, final, borders = parts.forward(x, state, learns)
    if parts.last is None:
        return out, final
    kind = NeuronRecomputation if parts.looked_at() else Recomputation
    out, *after = kind.apply(parts, (out, *tensors_of(final)), borders, x, *start, *parameters.values())
    return out, filled(final, after)


def _constant_layers(net: Sequential, x: Tensor) -> int:
    """How many of the first layers, without memory, hand a constant sequence on as one; tried on a sample of ``x``."""
    if type(net).run is not Sequential.run:
        return 0
    count, shown = 0, x[:2, :1]
    with torch.no_grad(), Setting.now(net, x.device).again():
        for layer in net:
            if not isinstance(layer, Layer) or type(layer).run is not Layer.run:
                break
            shown = layer(shown)
            if not is_constant(shown):
                break
            count += 1
    return count


# As for LIF: a reward finds the neurons by their autograd node.
recomputed._torchdynamo_disable = True  # type: ignore[attr-defined]


def check_recomputable(net: torch.nn.Module, training: bool | None = None) -> None:
    """Refuse, by :class:`~spikelfp.errors.UserError`, a network that in parts would not do what it does as a whole.

    These are batch statistics and largest rewards, which are taken over all steps, Dropout, which silences the same
    elements at all of them, and forward hooks, which would see parts, and some of them twice.
    training: check as if all layers were in training (``True``) or evaluation; by default as each of them is.
    """
    _check_layer(net)
    for name, layer in net.named_modules():
        trains = layer.training if training is None else training
        found = ""
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and (trains or layer.running_mean is None):
            found = "measures mean and variance over all steps of a sequence"
        elif isinstance(layer, Dropout) and trains and layer.p:
            found = "silences the same elements at every step of a sequence"
        elif getattr(getattr(layer, "rule", None), "normalize", False):
            found = "follows a rule that divides rewards by the largest one of all steps (normalize)"
        elif layer._forward_hooks or layer._forward_pre_hooks:
            found = "has forward hooks, which take it to run once on a whole sequence"
        if found:
            raise _refusal(f"layer {name or '(the network itself)'} ({type(layer).__name__}) {found}")


def _part_length(steps: int | None, total: int) -> int:
    if steps is None:
        return math.isqrt(max(total, 1) - 1) + 1
    if steps < 1:
        raise UserError(f"a part of a sequence has at least one step, got steps={steps}")
    return steps


def _check_layer(net: torch.nn.Module) -> None:
    if not isinstance(net, Layer):
        raise UserError(
            f"only layers of this package run in parts, got {type(net).__name__}: put nn.Sequential around torch's own "
            "layers, spikelfp.convert the network, or derive your own module from nn.Layer and give it a run(x, state) "
            "that returns (outputs, next state)"
        )


def _refusal(why: str) -> UserError:
    return UserError(
        f"{why}: it cannot be recomputed in parts. Train without recomputation; to save memory split the batch instead "
        "(accumulate)"
    )
