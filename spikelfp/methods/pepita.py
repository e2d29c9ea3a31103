"""PEPITA: the error of the outputs changes the input of a second pass, and layers learn from what that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import nn
from spikelfp.data.loader import generator
from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.methods.base import REDUCTIONS, Batch, Method, Reduction, methods, step_weights
from spikelfp.methods.blocks import Segment, cut
from spikelfp.methods.gradient import Loss
from spikelfp.nn import graph
from spikelfp.nn.activation import Activation
from spikelfp.nn.graph import Call
from spikelfp.nn.layer import remembers
from spikelfp.options import option
from spikelfp.registry import check_name
from spikelfp.rules import Gradient
from spikelfp.scalars import as_number
from spikelfp.tasks import Classification, Task
from spikelfp.tasks.classification import losses

KEEP_SHAPE = (Activation, nn.Dropout, nn.Noise, nn.Scale, nn.Identity)
"""Layers that may stand between the weights of a block and its end: outputs have the shape of inputs."""

NORMALISATIONS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.RMSNorm)
"""Layers whose outputs depend on statistics."""


@methods.register("pepita")
class PEPITA(Method):
    """Present the Error to Perturb the Input To modulate Activity (Dellaferrera & Kreiman 2022, arXiv:2201.11665)::

        e  = ŷ − y*                         of a first pass with the input x, whose activations are h
        h′ = activations of a second pass, with the input x + e F
        ΔW_1 = (h_1 − h′_1) (x + e F)ᵀ      ΔW_l = (h_l − h′_l) h′_{l−1}ᵀ      ΔW_L = e h′_{L−1}ᵀ

    ``p.grad`` is the mean of ``ΔW`` over the steps that count and the samples (Algorithm 1). No derivative is taken,
    so activations that have none train as well. A bias learns as the weight of an input of 1, and a convolution adds up
    ``ΔW`` over its positions. Both passes see the same dropout and noise.

    The projection ``F`` ``[C, n]`` is drawn once, uniform in ``±strength √(6/n)`` for ``n`` inputs. Its standard
    deviation is that of the paper, ``0.05 √(2/n)``, as in the authors' code (GiorgiaD/PEPITA, ``main_pytorch.py``).

    The network is a chain of layers with weights, each followed by at most an activation, without memory.

    Args:
        strength: size of the error in the input.
        loss: loss of the task that is watched, and whose link makes ``ŷ`` of the outputs; ``None``: that of the task.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.

    Raises:
        UserError: for a strength out of range and an unknown reduction; when a trainer is made, for a network or a loss
            that it cannot train.
    """

    words = "error-driven input modulation"
    objective = "loss"
    recomputes = False
    watches_loss = True
    feedback_weights = "projection"
    default_lr = 1e-3
    rule = Gradient()

    def __init__(
        self,
        *,
        strength: Annotated[float, option("size of the error that is added to the input", within="(0, ∞)")] = 0.05,
        loss: Loss | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        number = as_number(strength)
        if number is None or not 0 < number < math.inf:
            raise UserError(f"the strength of the error in the input is a finite number above 0, got {strength!r}")
        self.strength = number
        self.loss = loss
        self.reduction = check_name("reduction", reduction, REDUCTIONS)
        self.projection = torch.zeros(0, 0)
        self._seed = 0
        self._net: Module | None = None
        self._task: Task | None = None
        self._segments: list[Segment] = []

    def suit(self, net: Module, task: Task) -> None:
        loss = self.loss
        if not (loss is None or loss in losses.entries() or isinstance(getattr(loss, "__self__", None), Task)):
            raise UserError(
                f"PEPITA learns from ŷ − y*, and the loss {getattr(loss, '__name__', type(loss).__name__)} does not "
                "tell what its prediction ŷ is: take a loss of the task by name"
            )
        if type(task).predicted is Task.predicted:
            task.predicted(torch.zeros(1, 1, 1))  # says that the task has no errors
        segments = cut(net)
        _check(segments)
        self._net, self._segments = net, segments
        self._task = task.of_loss(loss) if isinstance(task, Classification) else task

    def prepare(self, net: Module) -> None:
        self._seed = int(torch.randint(2**62, ()))
        if self._net is not net:
            raise UserError("PEPITA is prepared for a network that it was not suited to: call suit first")

    def state_dict(self) -> dict[str, Any]:
        """Copy the projection ``F``, which has no entries before the first batch."""
        return {"seed": torch.tensor(self._seed), "projection": self.projection.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        seed, projection = state.get("seed"), state.get("projection")
        if not isinstance(seed, Tensor) or seed.shape or not isinstance(projection, Tensor):
            raise UserError("seed and projection of the error are missing")
        if projection.dim() != 2 or not projection.is_floating_point() or not torch.isfinite(projection).all():
            raise UserError("the projection of the error is no matrix [outputs, inputs] of finite numbers")
        if projection.numel():
            own = self.projection.shape if self.projection.numel() else (_outputs_of(self._segments), None)
            _check_shape(projection, *own)
        self._seed = int(seed)
        self.projection = projection.to(next(cast(Module, self._net).parameters()).device, copy=True)

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        plain, task = cast(Module, self._net), cast(Task, self._task)
        x = batch.sequence.to_dense() if batch.sequence.is_sparse else batch.sequence
        before: dict[Module, Tensor] = {}

        def keep(call: Call) -> None:
            before[call.layer] = call.outputs

        ends = [segment.end for segment in self._segments[:-1]]
        # the second pass draws the random numbers of the first one again
        with (
            torch.random.fork_rng(devices=[x.device] if x.is_cuda else []),
            torch.no_grad(),
            graph.watching(plain, keep, ends.__contains__),
        ):
            outputs = net(x)
        if not isinstance(outputs, Tensor) or outputs.dim() != 3:
            found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UserError(f"PEPITA takes the error of outputs [T, B, C], and the network returns {found}")
        error = task.predicted(outputs, batch.mask) - task.expected(batch.targets, outputs)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if batch.mask is None else batch.mask
        self._second_pass(
            net, self._modulated(x, error), before, error, step_weights(mask, batch.steps, error.dtype) * batch.share
        )
        return outputs, {"loss": _loss(task, outputs, batch).detach()}

    def _second_pass(
        self, net: Module, x: Tensor, before: dict[Module, Tensor], error: Tensor, weights: Tensor
    ) -> None:
        """Run the network on the modulated input, and let each layer learn as soon as its block has run.

        Args:
            net: the network.
            x: modulated input ``[T, B, …]``.
            before: outputs ``[T, B, …]`` of the hidden blocks in the first pass, by the last layer of each.
            error: ``e`` ``[B, C]``.
            weights: of each step in the mean, ``[T, B]``.
        """
        last = self._segments[-1]
        weighted = {_weighted(segment): segment for segment in self._segments}
        ends = {segment.end: segment for segment in self._segments[:-1]}
        sums: dict[Segment, Tensor] = {}

        def look(call: Call) -> Tensor | None:
            if call.layer in ends:
                _teach(call.name, sums.pop(ends[call.layer]), before.pop(call.layer) - call.outputs, weights)
                return None
            segment = weighted[call.layer]
            if segment is last:
                _teach(call.name, call.outputs, error.expand(len(weights), *error.shape), weights)
            else:
                sums[segment] = call.outputs
            passed_on: Tensor = call.outputs.detach()  # without a graph: an activation has no derivative here
            return passed_on

        with graph.watching(cast(Module, self._net), look, lambda layer: layer in ends or layer in weighted):
            net(x)

    def _modulated(self, x: Tensor, error: Tensor) -> Tensor:
        """Add ``e F`` to each step of the input ``[T, B, …]``."""
        inputs = x[0, 0].numel()
        if not self.projection.numel():
            drawn = torch.rand(error.shape[1], inputs, generator=generator("projection", self._seed)) * 2 - 1
            self.projection = (drawn * self.strength * math.sqrt(6 / inputs)).to(error)
        _check_shape(self.projection, error.shape[1], inputs)
        if self.projection.dtype != error.dtype or self.projection.device != error.device:
            self.projection = self.projection.to(error)
        change = (error @ self.projection).view(x.shape[1:])
        if x.is_floating_point():
            change = change.to(x.dtype)
        return repeat(x[0] + change, len(x)) if is_constant(x) else x + change


def _teach(name: str, sums: Tensor, change: Tensor, weights: Tensor) -> None:
    """Add the mean of ``change · inputᵀ`` to ``p.grad`` of the layer whose weighted sums ``[T, B, …]`` these are."""
    if sums.shape != change.shape:
        raise UserError(
            f"PEPITA compares the activations of layer {name}, {list(change.shape[2:])} for a sample, with the "
            f"weighted sums in front of them, {list(sums.shape[2:])}: nothing between them may change the shape"
        )
    if sums.requires_grad:  # else the layer is frozen
        torch.autograd.backward(sums, change * weights.view(*weights.shape, *[1] * (change.dim() - 2)))


def _loss(task: Task, outputs: Tensor, batch: Batch) -> Tensor:
    """Compute the loss of the outputs; those of all chunks of a batch add up."""
    if batch.mask is not None:
        return task.loss(outputs, batch.targets, step_weights(batch.mask, batch.steps, outputs.dtype))
    loss = task.loss(outputs, batch.targets)
    return loss if batch.steps is None else loss * (len(outputs) / cast(int, batch.steps))


def _check(segments: list[Segment]) -> None:
    """Refuse blocks that are not a layer with weights and its activation.

    Raises:
        UserError: with what to do.
    """
    runs = [layer for segment in segments for layer in segment.layers]
    for segment in segments:
        kinds = ", ".join(type(layer).__name__ for layer in segment.layers)
        where = f"the block that ends with layer {segment.name} ({kinds})"
        for layer in segment.layers:
            kind = type(layer).__name__
            if graph.has_trait(layer, "has_membrane") or remembers(layer):
                raise UserError(
                    f"PEPITA compares activations without memory, and {where} has {kind}, which keeps a state: train "
                    "spiking networks by f3, dfa, drtp or lfp, or take nn.Heaviside"
                )
            if any(True for _ in layer.children()):
                raise UserError(
                    f"PEPITA trains chains of layers with weights and activations, and {where} has {kind}, with layers "
                    "inside: put them one after the other, or train by f3, dfa or lfp"
                )
            if isinstance(layer, NORMALISATIONS):
                raise UserError(
                    f"PEPITA has no update of normalisations, and {where} has {kind}: leave it out, or train by f3, "
                    "dfa or lfp"
                )
        own = [layer for layer in segment.layers if any(True for _ in layer.parameters())]
        if len(own) != 1 or not graph.has_trait(own[0], "has_weights"):
            found = ", ".join(type(layer).__name__ for layer in own)
            raise UserError(
                f"PEPITA trains one layer with weights in front of each activation, a Linear or Conv2d, and {where} "
                f"learns in {found}: put an activation (nn.ReLU(), nn.Tanh(), …) after each, or leave the others out"
            )
        for layer in segment.layers[segment.layers.index(own[0]) + 1 :]:
            if not issubclass(graph.twin_of(layer) or type(layer), KEEP_SHAPE):
                raise UserError(
                    f"PEPITA compares weighted sums with activations, and in {where} "
                    f"{type(layer).__name__} stands between them: put it behind the activation, or leave it out"
                )
        if sum(layer is segment.end for layer in runs) > 1:
            raise UserError(f"layer {segment.name} runs twice: give each place its own, nn.ReLU() or the like")


def _weighted(segment: Segment) -> Module:
    """Return the layer of a block that has weights."""
    return next(layer for layer in segment.layers if any(True for _ in layer.parameters()))


def _outputs_of(segments: list[Segment]) -> int:
    """Count the outputs ``C`` of a network by the weights of its last layer."""
    return len(cast(Tensor, _weighted(segments[-1]).weight))


def _check_shape(projection: Tensor, outputs: int, inputs: int | None) -> None:
    """Refuse a projection ``[C, n]`` of another network; ``None`` where the inputs are not known yet."""
    if len(projection) != outputs or inputs not in (None, projection.shape[1]):
        own = f"{outputs} outputs" + ("" if inputs is None else f" and {inputs} inputs")
        raise UserError(f"the projection of the error is {list(projection.shape)}, and the network has {own}")
