"""A sequence run part by part as one differentiable operation, which keeps the states at the borders of the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from spikelfp.errors import UserError
from spikelfp.functional.credit import NeuronNode, check_pass, forward_class, keep_node
from spikelfp.functional.propagation import find, send_back
from spikelfp.functional.sequence import is_constant, repeat, time_slice
from spikelfp.nn.layer import Layer, State
from spikelfp.nn.setting import Setting


class Recomputation(Function):
    """The parts of a sequence as one operation: ``(x, start states, parameters) → (output, last states)``.

    results: what the forward pass gave; borders: the states between the parts.
    """

    @staticmethod
    def forward(
        ctx: Any, parts: Parts, results: tuple[Tensor, ...], borders: list[list[Tensor]], x: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        keep_node()
        # Parameters and buffers are kept for autograd's check that nobody has changed them in the meantime.
        ctx.save_for_backward(x, *inputs, *(t for border in borders for t in border), *parts.net.buffers())
        ctx.parts, ctx.states, ctx.lengths = parts, len(inputs) - len(parts.weights), [len(b) for b in borders]
        ctx.output_eps, ctx.refusal = parts.output_eps, parts.refusal
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor | None, *to_final: Tensor | None) -> tuple[Tensor | None, ...]:
        reward = None
        if issubclass(forward_class(ctx), NeuronNode):
            message, reward = NeuronNode.received(ctx, message)
        x, *saved = ctx.saved_tensors
        rest = iter(saved[ctx.states + len(ctx.parts.weights) :])
        starts = [saved[: ctx.states], *([next(rest) for _ in range(length)] for length in ctx.lengths)]
        return None, None, None, *ctx.parts.backward(x, starts, message, reward, to_final, ctx.needs_input_grad[3])


class NeuronRecomputation(Recomputation, NeuronNode):
    """The same for a network that ends in neurons: their reward is handed to the neurons of each part."""


class _Graph(NamedTuple):
    """A part that was run with a graph: its leaves (of a constant input one step), and what came out."""

    x: Tensor
    start: list[Tensor]
    out: Tensor
    final: State


class Parts:
    """A network on the parts of one sequence, and in which setting each of them ran.

    The first part takes what the others leave over. The network runs on stand-ins for its ``parameters``: updates are
    gathered there, and reach the parameters all at once, behind the node of the whole sequence.
    """

    def __init__(self, net: Layer, x: Tensor, steps: int, parameters: Mapping[str, Tensor]) -> None:
        self.net = _Run(net)
        self.weights = {f"net.{name}": p.detach().requires_grad_(p.requires_grad) for name, p in parameters.items()}
        borders = [0, *range(len(x) % steps or steps, len(x) + 1, steps)]
        self.slices = [slice(low, high) for low, high in pairwise(borders)]
        self.settings: list[Setting] = []  # of each part
        self.forms: list[State] = []  # of the state that each part began from
        self.last: _Graph | None = None  # made by the forward pass, taken by the backward pass
        # Told to the node of the whole sequence, which hides the parts from the walk of a reward:
        self.output_eps: float | None = None
        self.refusal: str | None = None

    def looked_at(self) -> bool:
        """Look at the graph of the last part as a reward would; whether the network ends in neurons."""
        assert self.last is not None
        try:
            frontier = find([self.last.out])
        except UserError as error:
            self.refusal = str(error)
            return False
        self.output_eps = frontier.eps[0]
        return frontier.kinds[0]

    def forward(self, x: Tensor, state: State, learns: bool) -> tuple[Tensor, State, list[list[Tensor]]]:
        """Output, last state, and the states between the parts; keeps a graph of the last part if it ``learns``."""
        out, borders = torch.empty(0), list[list[Tensor]]()
        for number, steps in enumerate(self.slices):
            self.settings.append(Setting.now(self.net, x.device))
            self.forms.append(_mapped(lambda t: True, state))
            if learns and number == len(self.slices) - 1:
                self.last = self._graph(number, x, borders[-1], x.requires_grad)
                part, state = self.last.out.detach(), self.last.final
            else:
                with torch.no_grad():
                    part, state = self._run(number, time_slice(x, steps.start, steps.stop), state)
            state = filled(state, map(_alone, tensors_of(state)))
            borders.append(tensors_of(state))
            if number == 0:
                out = part.new_empty(len(x), *part.shape[1:])
            out[steps] = part
        return out, state, borders[:-1]

    def backward(
        self,
        x: Tensor,
        starts: list[list[Tensor]],
        message: Tensor | None,
        reward: Tensor | None,
        to_state: Iterable[Tensor | None],
        wanted: bool,
    ) -> list[Tensor | None]:
        """Messages to ``x`` (if ``wanted``), to the start state and to the parameters, part by part from the last."""
        still = is_constant(x)
        to_x = x.new_zeros(x.shape[1:] if still else x.shape) if wanted else None
        for number, steps in reversed(list(enumerate(self.slices))):
            graph, self.last = self.last or self._again(number, x, starts[number], wanted), None
            own_message, own_reward = (None if t is None else t[steps] for t in (message, reward))
            to_part, to_state = _send_back(graph, own_message, own_reward, to_state)
            if to_x is not None and to_part is not None:
                to_x[... if still else steps] += to_part
            del graph  # before the next one is made
        updates = [weight.grad for weight in self.weights.values()]
        for weight in self.weights.values():
            weight.grad = None
        if still and to_x is not None:
            to_x = (to_x / len(x)).expand_as(x)  # what all steps got together, shared by them
        return [to_x, *to_state, *updates]

    def _again(self, number: int, x: Tensor, start: list[Tensor], wanted: bool) -> _Graph:
        """A part run once more, with a graph."""
        with self.settings[number].again():
            return self._graph(number, x, start, wanted)

    def _graph(self, number: int, x: Tensor, start: list[Tensor], wanted: bool) -> _Graph:
        steps = self.slices[number]
        leaf = (x[0] if is_constant(x) else time_slice(x, steps.start, steps.stop)).detach().requires_grad_(wanted)
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in start]
        with torch.enable_grad():
            part = repeat(leaf, steps.stop - steps.start) if is_constant(x) else leaf
            return _Graph(leaf, leaves, *self._run(number, part, filled(self.forms[number], leaves)))

    def _run(self, number: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        with self.settings[number].autocast():
            return functional_call(self.net, self.weights, (x, state))


class _Run(torch.nn.Module):
    """``net.run`` as a module's call."""

    def __init__(self, net: Layer) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.net.run(x, state)


def _send_back(
    graph: _Graph, message: Tensor | None, reward: Tensor | None, to_final: Iterable[Tensor | None]
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Messages to the input and to the start state of a part; those to the weights are added to their ``grad``."""
    ends = [(graph.out, message), *zip(tensors_of(graph.final), to_final, strict=True)]
    reached = [(end, own) for end, own in ends if own is not None and end.requires_grad]
    if reward is not None:
        send_back([graph.out], [reward], weight=check_pass(), messages=reached)
    elif reached:
        torch.autograd.backward([end for end, _ in reached], [own for _, own in reached])
    return graph.x.grad, [leaf.grad for leaf in graph.start]


def _mapped(fn: Callable[[Any], Any], state: State) -> State:
    """A state of the same form, ``fn`` of each tensor in its place."""
    if isinstance(state, tuple):
        parts = [_mapped(fn, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return None if state is None else fn(state)


def filled(form: State, tensors: Iterable[Tensor]) -> State:
    """A state of that form with other ``tensors``."""
    rest = iter(tensors)
    return _mapped(lambda t: next(rest), form)


def tensors_of(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    found: list[Tensor] = []
    _mapped(found.append, state)
    for t in found:
        if not isinstance(t, Tensor):
            raise UserError(f"a state is made of tuples, tensors and None, found {type(t).__name__}")
    return found


def _alone(state: Tensor) -> Tensor:
    """A state in memory of its own: as a view it would keep the steps that led to it."""
    return state.detach() if state.untyped_storage().nbytes() == state.nbytes else state.detach().clone()
