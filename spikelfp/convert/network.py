"""A network as a list of steps, each a layer or a map of values that were computed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.nn.graph import Flow, Sources
from spikelfp.nn.layer import Layer, run_layer

INPUT = ""
"""Name of the value that the network is given."""


@dataclass(frozen=True)
class Value:
    """Stands in the arguments of a step for what the step of that name returned."""

    name: str


@dataclass(frozen=True)
class Step:
    """One call: of the layer of that path, or of ``function`` on values whose steps are folded into the batch.

    name: of the value it makes; last: values that no later step takes.
    """

    name: str
    layer: str = ""
    function: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    last: tuple[str, ...] = ()


class Converted(Layer):
    """What :func:`spikelfp.convert.convert` returns: a network ``[T, B, …]`` to ``[T, B, …]``.

    layers: by their paths, as in the network it was made from; steps: in the order they run; memoryless: whether no
    layer keeps a state, so that an input constant in time is computed once.
    """

    def __init__(self, layers: dict[str, Layer], steps: Iterable[Step], source: str, memoryless: bool) -> None:
        super().__init__()
        for path, layer in layers.items():
            _place(self, path, layer)
        self._steps, self._source, self._memoryless = tuple(steps), source, memoryless

    def forward(self, x: Tensor) -> Tensor:
        return self._go(x, None, lambda layer, given, before: (layer(given), None))[0]

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Output, and the states to go on from, one entry a step of the computation."""
        return self._go(x, state, run_layer)

    def _go(self, x: Tensor, state: Any, call: Callable[[Any, Tensor, Any], tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        """Step by step; ``call(layer, input, state)`` runs a layer: as a module with its hooks, or with its state."""
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, …] with at least one axis more")
        if self._memoryless and is_constant(x):
            return repeat(self._go(x[:1], None, call)[0][0], len(x)), None
        values: dict[str, Any] = {INPUT: x}
        states = []
        for step, before in zip(self._steps, state or (None,) * len(self._steps), strict=True):
            after = None
            if step.layer:
                (given,) = step.arguments
                values[step.name], after = call(self.get_submodule(step.layer), values[given.name], before)
            else:
                values[step.name] = _folded(step, values, x.shape[:2])
            states.append(after)
            for name in step.last:
                del values[name]
        (out,) = values.values()
        return out, tuple(states)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Tells which step takes the values of which."""
        values = {INPUT: given}
        for step in self._steps:
            parts = tree_leaves((step.arguments, dict(step.options)))
            taken = [values[part.name] for part in parts if isinstance(part, Value)]
            if step.layer:
                values[step.name] = flow.through(self.get_submodule(step.layer), taken[0])
            else:
                values[step.name] = flow.function(step.name, *taken)
            for name in step.last:
                del values[name]
        (out,) = values.values()
        return out

    def extra_repr(self) -> str:
        return f"from {self._source}"


def _folded(step: Step, values: dict[str, Any], lead: torch.Size) -> Any:
    """The function of ``step`` on its values, the steps ``[T, B, …]`` of each folded into the batch ``[T·B, …]``."""

    def take(part: Any) -> Any:
        value = values[part.name] if isinstance(part, Value) else part
        return value.flatten(0, 1) if isinstance(value, Tensor) else value

    assert step.function is not None
    out = step.function(*map_aggregate(step.arguments, take), **map_aggregate(dict(step.options), take))
    if not isinstance(out, Tensor):
        return out
    if out.dim() < 1 or len(out) != lead.numel():
        raise ShapeError(
            f"{step.name} does not keep the axis of samples: of {lead.numel()} (steps times batch) it makes "
            f"{tuple(out.shape)}"
        )
    return out.unflatten(0, lead)


def _place(root: torch.nn.Module, path: str, layer: Layer) -> None:
    """Register ``layer`` as the submodule ``path`` of ``root``, with containers on the way."""
    *containers, name = path.split(".")
    for part in containers:
        if part not in root._modules:
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    root.add_module(name, layer)
