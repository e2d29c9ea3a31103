"""Networks: layers one after the other (``Sequential``), and side by side (``Sum``, ``Concat``; v3, eq. 11).

A sum shares its reward by contribution, a concatenation hands it through. In messages both are autograd's own backward:
each summand ``a_i`` of ``a_j`` gets the message ``m_j``, that is the reward ``a_i m_j``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import ParametrizationList

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import LayerOutput
from spikelfp.functional.propagation import NEURONS_INSTEAD
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.nn.layer import Layer, check_called, check_dense, run_layer
from spikelfp.nn.linear import Conv2d
from spikelfp.nn.shape import MaxPool2d
from spikelfp.rules import Gradient, rules_in

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


def package_of(module: torch.nn.Module) -> str:
    """Return the name of the package that defines the class of ``module``."""
    return type(module).__module__.partition(".")[0]


def foreign_parts(net: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Find the modules of ``net`` that no rule trains: those with parameters of their own, and neurons of simulators.

    Layers derived from :class:`~spikelfp.nn.Layer`, this package's or a user's own, are left out.
    """
    for name, module in net.named_modules():
        own = next(module.parameters(recurse=False), None) is not None
        if not isinstance(module, Layer) and (own or package_of(module) in NEURONS_INSTEAD):
            yield name, module


def _names(kind: type) -> set[str]:
    """The names of all classes that derive from ``kind``."""
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


def check_native(net: torch.nn.Module) -> None:
    """Refuse a network that follows LFP rules and has parts that no rule trains.

    Raises:
        UserError: naming the first such module.
    """
    if not any(not isinstance(rule, Gradient) for rule in rules_in(net).values()):
        return
    for name, module in foreign_parts(net):
        kind = type(module)
        if kind is ParametrizationList:
            layer, _, weight = name.rpartition(".parametrizations.")
            raise UserError(
                f"the {weight} of layer {layer or '(the network itself)'} is computed from other parameters (weight or "
                "spectral normalisation, …), for which LFP has no rule: make it a parameter "
                f'(torch.nn.utils.parametrize.remove_parametrizations(layer, "{weight}")), or train by gradients'
            )
        package, twin = package_of(module), kind.__name__
        instead = f"spikelfp.nn.{twin}" if package == "torch" and twin in _names(Layer) else "a layer of spikelfp.nn"
        cure = NEURONS_INSTEAD.get(
            package,
            f"put {instead} in its place, or convert the network, spikelfp.convert(net) "
            "(docs/own_layers.md for a layer of your own)",
        )
        raise UserError(
            f"layer {name or '(the network itself)'} is {package}'s {twin}, which follows no LFP rule, so that no "
            f"reward would train it: {cure}"
        )


class Sequential(torch.nn.Sequential, Layer):
    """Layers one after the other; its state is the tuple of theirs.

    A max-pooling right after a convolution runs as one operation with it and needs no memory for the output between
    them. Where that could be noticed (hooks, subclasses, rules that make several products) they run one by one.

    Args:
        *args: the layers, or one ``OrderedDict`` of them by name, as in ``torch.nn.Sequential``.
    """

    in_order = True

    def forward(self, x: Tensor, *state: Any) -> Tensor:
        check_called(self, state)
        self._check_parts()
        for layer, side in zip(self, self._sides(), strict=True):
            if side is None:
                x = layer(x)
            elif isinstance(layer, Conv2d):
                x = layer.pooled(x, side)
        return x

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output and the states to go on from, one entry a layer.

        Args:
            x: inputs ``[T, B, …]``.
            state: as ``run`` returned it; ``None`` to start from rest.

        Raises:
            ShapeError: for states that are not one for each layer.
        """
        self._check_parts()
        states = []
        given = (None,) * len(self) if state is None else state
        if not isinstance(given, tuple | list) or len(given) != len(self):
            raise ShapeError(
                f"this Sequential starts from the states that run returned, one for each of its {len(self)} layers, or "
                f"None for rest, got {type(given).__name__}"
                f"{f' of {len(given)}' if isinstance(given, tuple | list) else ''}"
            )
        for layer, side, before in zip(self, self._sides(), given, strict=True):
            after = None
            if side is None:
                x, after = run_layer(layer, x, before)
            elif isinstance(layer, Conv2d):
                x = layer.pooled(x, side)
            states.append(after)
        return x, tuple(states)

    def _check_parts(self) -> None:
        """Refuse layers that no rule trains, once for the layers there are."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        parts = tuple(self._modules.values())
        if self.__dict__.get("_checked") != parts:
            check_native(self)
            if any(not isinstance(rule, Gradient) for rule in rules_in(self).values()):
                self.__dict__["_checked"] = parts

    def _sides(self) -> list[int | None]:
        """Side of the windows, for a convolution and a max-pooling that run as one; ``None`` for other layers."""
        sides: list[int | None] = [None] * len(self)
        if torch.compiler.is_compiling() or torch_module._has_any_global_hook():
            return sides
        for place, pair in enumerate(pairwise(self)):
            side = _side(*pair)
            if side is not None:
                sides[place : place + 2] = side, side
        return sides


class Block(Sequential):
    """Layers one after the other that are trained as one layer where a method cuts a network into blocks.

    Such methods (direct feedback, delayed errors) hand each block an error of its own output, and stop gradients and
    rewards in front of it. The layers inside learn together from that error, as those of one transformer block. All
    else is as in :class:`Sequential`: outputs, states, names of weights, export and conversion.

    Args:
        *args: the layers, or one ``OrderedDict`` of them by name.
    """


def _side(layer: torch.nn.Module, pooling: torch.nn.Module) -> int | None:
    """Side of the windows of a max-pooling that may run as part of the convolution before it; else ``None``."""
    if not (isinstance(layer, Conv2d) and isinstance(pooling, MaxPool2d) and layer.rule.one_product):
        return None
    return pooling.side if _is_plain(layer, Conv2d) and _is_plain(pooling, MaxPool2d) else None


def _is_plain(layer: torch.nn.Module, kind: type[torch.nn.Module]) -> bool:
    """Whether calling ``layer`` runs the ``forward`` of ``kind``, and nothing else."""
    seen = (
        layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks,
        layer._compiled_call_impl, vars(layer).get("forward"),
    )  # fmt: skip
    return type(layer).forward is kind.forward and not any(seen)


class _Branches(Layer, ABC):
    """Layers side by side on the same input."""

    def __init__(self, *branches: torch.nn.Module) -> None:
        super().__init__()
        if not branches:
            raise UserError(f"{type(self).__name__} needs at least one branch")
        self.branches = torch.nn.ModuleList(branches)

    @abstractmethod
    def merge(self, outputs: list[Tensor]) -> Tensor:
        """Make one output of the outputs of the branches."""

    def forward(self, x: Tensor) -> Tensor:
        return self._merged([branch(x) for branch in self.branches])

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output and the states to go on from, one entry a branch.

        Args:
            x: input ``[T, B, …]``.
            state: states of the branches, as ``run`` returned them; ``None`` for rest.

        Raises:
            ShapeError: for states that are not one for each branch.
        """
        if state is not None and not (isinstance(state, tuple | list) and len(state) == len(self.branches)):
            raise ShapeError(
                f"{type(self).__name__} starts from the states that run returned, one for each of its "
                f"{len(self.branches)} branches, or None for rest, got {type(state).__name__}"
                f"{f' of {len(state)}' if isinstance(state, tuple | list) else ''}"
            )
        before = (None,) * len(self.branches) if state is None else state
        pairs = [run_layer(branch, x, own) for branch, own in zip(self.branches, before, strict=True)]
        return self._merged([out for out, _ in pairs]), tuple(after for _, after in pairs)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Each branch takes the input; a function brings them together."""
        return flow.function(type(self).__name__.lower(), *(flow.through(branch, given) for branch in self.branches))

    def _merged(self, outputs: list[Tensor]) -> Tensor:
        for out in outputs:
            check_dense(self, out)
        if all(is_constant(out) for out in outputs):
            return repeat(self.merge([out[:1] for out in outputs])[0], len(outputs[0]))
        return self.merge(outputs)


class Sum(_Branches):
    """Sum of the outputs of several branches, all of one shape: ``Sum(block, Identity())`` is a residual block.

    Args:
        *branches: layers or networks, each given the whole input.

    Raises:
        ShapeError: where the outputs differ in shape.
    """

    def merge(self, outputs: list[Tensor]) -> Tensor:
        total = outputs[0]
        for out in outputs[1:]:
            if out.shape != total.shape:
                raise ShapeError(
                    f"branches of a sum differ in shape, {tuple(total.shape)} and {tuple(out.shape)}: "
                    "a 1×1 convolution in the shortcut makes them equal"
                )
            total = total + out
        return LayerOutput.apply(total) if total.requires_grad else total


class Concat(_Branches):
    """Outputs of several branches side by side along one axis.

    Args:
        *branches: layers or networks, each given the whole input.
        dim: axis, counted from ``[T, B, …]``: 2 for channels or features.

    Raises:
        UserError: for the axis of time or of the batch.
    """

    def __init__(self, *branches: torch.nn.Module, dim: int = 2) -> None:
        super().__init__(*branches)
        self.dim = dim
        self._check(dim)

    def merge(self, outputs: list[Tensor]) -> Tensor:
        self._check(self.dim if self.dim >= 0 else self.dim + outputs[0].dim())
        return torch.cat(outputs, self.dim)

    def _check(self, counted: int) -> None:
        if counted in (0, 1):
            raise UserError(f"dim {self.dim} is time or batch: concatenate along 2 (channels or features) or later")


class Identity(Layer):
    """The input itself: the shortcut of a residual block."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        return x
