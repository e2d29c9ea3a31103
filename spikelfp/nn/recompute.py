r"""Recomputation over time: training on a long sequence with memory that grows like √T instead of T.

The sequence is cut into parts of ``k`` steps. The forward pass runs each part from the state after the part before, and
keeps only these states. The backward pass runs the parts again with a graph, from the last to the first; the message to
the first state of a part is the message to the last state of the part before. Memory holds ``T/k`` states and the graph
of ``k`` steps, least for ``k ≈ √T``, at the price of a second forward pass (Chen et al. 2016, arXiv:1604.06174). The
results are those of a plain run up to the order of summation.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.func import functional_call

from spikelfp.checks import whole
from spikelfp.errors import UserError
from spikelfp.functional.credit import NeuronNode, check_pass, earners, forward_class, keep_node
from spikelfp.functional.once import no_second_derivative
from spikelfp.functional.propagation import find, send_back
from spikelfp.functional.sequence import is_constant, is_sparse, repeat, time_slice
from spikelfp.kernels.choice import EventChoice, choices
from spikelfp.nn import graph
from spikelfp.nn.container import Sequential
from spikelfp.nn.delay import DelayLine
from spikelfp.nn.elementwise import Noise
from spikelfp.nn.layer import Layer, State, sparse_input
from spikelfp.rules import Rule, restore, rules_in, rules_of

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


@dataclass(frozen=True)
class Setting:
    """Settings of a pass besides input, state and parameters, so that a second pass agrees bit for bit.

    Attributes:
        modes: whether each layer is in training mode.
        rules: rule of each layer that follows one.
        events: last choice between dense and event-driven products of each layer, which sets the order of summation.
        cpu: state of torch's random generator.
        cuda: state of the random generator of ``device``; ``None`` on the CPU.
        device: device of the pass.
        autocast: makes a context with the same autocast, but without its cache, which holds casts without a graph.
    """

    modes: dict[torch.nn.Module, bool]
    rules: dict[torch.nn.Module, Rule]
    events: list[tuple[EventChoice, bool]]
    cpu: Tensor
    cuda: Tensor | None
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]

    @classmethod
    def now(cls, net: torch.nn.Module, device: torch.device) -> Setting:
        """Record the setting in which a pass through ``net`` on ``device`` would run now."""
        layers = list(net.modules())
        return cls(
            {layer: layer.training for layer in layers},
            rules_in(net),
            [(choice, choice.events) for choice in choices(net).values()],
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            device,
            _autocast(device.type),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Restore the setting, except for autocast, within the block."""
        modes, rules = {layer: layer.training for layer in self.modes}, rules_of(self.modes)
        events = [(choice, choice.events) for choice, _ in self.events]
        with torch.random.fork_rng(devices=[] if self.cuda is None else [self.device]):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            _restore(self.modes, self.events)
            for layer, rule in self.rules.items():
                setattr(layer, "rule", rule)  # noqa: B010  (torch types attributes of modules as tensors)
            try:
                yield
            finally:
                _restore(modes, events)
                restore(rules)


def _restore(modes: dict[torch.nn.Module, bool], events: list[tuple[EventChoice, bool]]) -> None:
    for layer, training in modes.items():
        layer.training = training
    for choice, taken in events:
        choice.events = taken


def _autocast(kind: str) -> Callable[[], AbstractContextManager[Any]]:
    if not torch.amp.is_autocast_available(kind):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return partial(torch.autocast, kind, dtype, enabled, cache_enabled=False)


class Recomputation(Function):
    """Run over all parts of a sequence as one operation: ``(x, start states, parameters) → (output, last states)``."""

    @staticmethod
    def forward(
        ctx: Any,
        parts: SequenceParts,
        results: tuple[Tensor, ...],
        borders: list[list[Tensor]],
        x: Tensor,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        keep_node()
        # Parameters and buffers are kept for autograd's check that nobody has changed them in the meantime.
        ctx.save_for_backward(x, *inputs, *(t for border in borders for t in border), *parts.net.buffers())
        ctx.parts, ctx.states, ctx.lengths = parts, len(inputs) - len(parts.weights), [len(b) for b in borders]
        ctx.output_eps, ctx.refusal, ctx.margin = parts.output_eps, parts.refusal, parts.margin
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, message: Tensor | None, *to_final: Tensor | None) -> tuple[Tensor | None, ...]:
        reward = None
        if issubclass(forward_class(ctx), NeuronNode):
            message, reward = NeuronNode.received(ctx, message)
        x, *saved = ctx.saved_tensors
        rest = iter(saved[ctx.states + len(ctx.parts.weights) :])
        starts = [saved[: ctx.states], *([next(rest) for _ in range(length)] for length in ctx.lengths)]
        return None, None, None, *ctx.parts.backward(x, starts, message, reward, to_final, ctx.needs_input_grad[3])


class NeuronRecomputation(Recomputation, NeuronNode):
    """A :class:`Recomputation` of a network that ends in neurons; the neurons of each part get their reward."""


class _Graph(NamedTuple):
    """A part that was run with a graph: its leaves (one step of a constant input), its output and its last state."""

    x: Tensor
    start: list[Tensor]
    out: Tensor
    final: State


class SequenceParts:
    """Runs of a network over the parts of one sequence, and the setting of each.

    The first part takes the steps that do not fill a whole part. The network runs on copies of its ``parameters``,
    which gather the updates; they reach the parameters all at once, after the node of the whole sequence.
    """

    def __init__(self, net: Layer, x: Tensor, steps: int, parameters: Mapping[str, Tensor]) -> None:
        self.net = _Run(net)
        self.weights = {f"net.{name}": p.detach().requires_grad_(p.requires_grad) for name, p in parameters.items()}
        borders = [0, *range(len(x) % steps or steps, len(x) + 1, steps)]
        self.slices = [slice(low, high) for low, high in pairwise(borders)]
        self.settings: list[Setting] = []  # of each part
        self.forms: list[State] = []  # of the state that each part began from
        self.last: _Graph | None = None  # made by the forward pass, taken by the backward pass
        # For the node of the whole sequence, since the walk of a reward cannot see the parts:
        self.output_eps: float | None = None
        self.refusal: str | None = None
        self.margin = False

    def ends_in_neurons(self) -> bool:
        """Whether a reward, sent back through the last part, would meet neurons first."""
        assert self.last is not None
        try:
            frontier = find([self.last.out])
        except UserError as error:
            self.refusal = _why_no_end(self.net.net) or str(error)
            return False
        self.output_eps = frontier.eps[0]
        self.margin = earners(self.last.out) is not None
        return frontier.kinds[0]

    def forward(self, x: Tensor, state: State, learns: bool) -> tuple[Tensor, State, list[list[Tensor]]]:
        """Return output, last state and states between the parts; keep a graph of the last part if it ``learns``."""
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
            # copies of views, which would keep all steps before them in memory
            tensors = [t.detach() for t in tensors_of(state)]
            tensors = [t if t.untyped_storage().nbytes() == t.nbytes else t.clone() for t in tensors]
            state = filled(state, tensors)
            borders.append(tensors)
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
        """Return the messages to ``x`` (if ``wanted``), to the start state and to the parameters."""
        still = is_constant(x)
        to_x = x.new_zeros(x.shape[1:] if still else x.shape) if wanted else None
        for number, steps in reversed(list(enumerate(self.slices))):
            graph, self.last = self.last, None
            if graph is None:
                with self.settings[number].again():
                    graph = self._graph(number, x, starts[number], wanted)
            own_message, own_reward = (None if t is None else t[steps] for t in (message, reward))
            to_part, to_state = _send_back(graph, own_message, own_reward, to_state)
            if to_x is not None and to_part is not None:
                to_x[... if still else steps] += to_part
            del graph  # before the next one is made
        updates = [weight.grad for weight in self.weights.values()]
        for weight in self.weights.values():
            weight.grad = None
        if still and to_x is not None:
            to_x = (to_x / len(x)).expand_as(x)  # the sum over all steps, shared by them
        return [to_x, *to_state, *updates]

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


def _why_no_end(net: Layer) -> str | None:
    """Explain why no reward starts at the outputs of a part, for a network that delays its outputs."""
    known = graph.neighbours(net)
    last = known.nearest(
        graph.OUTPUT,
        lambda layer: layer is None or (graph.has_trait(layer, "passes_spikes") and not isinstance(layer, DelayLine)),
    )
    for name in last:
        if isinstance(known.layers.get(name), DelayLine):
            return (
                f"layer {name} ({type(known.layers[name]).__name__}) delays the outputs of the network, so that a part "
                "would reward neurons of the part before: leave it out, or train without recomputation"
            )
    return None


class _Run(torch.nn.Module):
    """Module that calls ``net.run``."""

    def __init__(self, net: Layer) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.net.run(x, state)


def _send_back(
    graph: _Graph, message: Tensor | None, reward: Tensor | None, to_final: Iterable[Tensor | None]
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the messages to input and start state of a part, and add those to the weights to their ``grad``."""
    ends = [(graph.out, message), *zip(tensors_of(graph.final), to_final, strict=True)]
    reached = [(end, own) for end, own in ends if own is not None and end.requires_grad]
    if reward is not None:
        send_back([graph.out], [reward], weight=check_pass(), messages=reached)
    elif reached:
        torch.autograd.backward([end for end, _ in reached], [own for _, own in reached])
    return graph.x.grad, [leaf.grad for leaf in graph.start]


def _mapped(fn: Callable[[Any], Any], state: State) -> State:
    """Return a state of the same form, with ``fn`` applied to each tensor."""
    if isinstance(state, tuple):
        parts = [_mapped(fn, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return None if state is None else fn(state)


def filled(form: State, tensors: Iterable[Tensor]) -> State:
    """Return a state of the form ``form`` that holds ``tensors``, in order."""
    rest = iter(tensors)
    return _mapped(lambda t: next(rest), form)


def detached_copy(state: State) -> State:
    """Copy a state without its graph; a view would keep the steps that led to it in memory."""
    return filled(state, (t.detach().clone() for t in tensors_of(state)))


def tensors_of(state: State) -> list[Tensor]:
    """List the tensors of a state, in order.

    Raises:
        UserError: for a state that holds anything but tuples, tensors and ``None``.
    """
    found: list[Tensor] = []
    _mapped(found.append, state)
    for t in found:
        if not isinstance(t, Tensor):
            raise UserError(f"a state is made of tuples, tensors and None, found {type(t).__name__}")
    return found


class Recomputed(Layer):
    """A network whose sequences are recomputed in parts: see :func:`recomputed`.

    Args:
        net: the network.
        steps: steps of a part; ``None`` for ``⌈√T⌉``.

    Raises:
        UserError: for ``steps`` below 1, and a network that is no layer of this package.
    """

    in_parts = True

    def __init__(self, net: Layer, steps: int | None = None) -> None:
        super().__init__()
        _part_length(steps, 1)
        _check_layer(net)
        self.net, self.steps = net, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return the output of ``net``, and its state to go on from."""
        return recomputed(self.net, x, self.steps, state)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Pass all values through the network inside."""
        return flow.through(self.net, given)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def recomputed(net: Layer, x: Tensor, steps: int | None = None, state: State = None) -> tuple[Tensor, State]:
    """Run ``net.run(x, state)``, keeping the graph of at most ``steps`` time steps at a time.

    :func:`spikelfp.propagate`, gradients and their hooks, accumulation and data-parallel training work as for ``net``.
    The parts run again under the rules, modes, autocast and random numbers of the first time.

    Args:
        net: a layer of this package.
        x: inputs ``[T, B, …]``. A constant input is constant within the parts too, and the first layers of a
            :class:`~spikelfp.nn.Sequential`, up to the first one with memory, compute it once. The parts of a sparse
            sequence are sparse.
        steps: steps of a part, by default ``⌈√T⌉``; a sequence that is not longer runs as a whole.
        state: nested tuples of tensors and ``None``, as ``run`` returned them.

    Returns:
        Output and state of the plain run; messages also pass to ``x`` and ``state``.

    Raises:
        UserError: for ``steps`` below 1, a network that is no layer of this package, and networks that
            :func:`check_recomputable` refuses.
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
    parts = SequenceParts(net, x, steps, parameters)
    out, final, borders = parts.forward(x, state, learns)
    if parts.last is None:
        return out, final
    kind = NeuronRecomputation if parts.ends_in_neurons() else Recomputation
    out, *after = kind.apply(parts, (out, *tensors_of(final)), borders, x, *start, *parameters.values())
    return out, filled(final, after)


def _constant_layers(net: Sequential, x: Tensor) -> int:
    """Count the first layers without memory that keep a constant sequence constant, by running a sample of ``x``."""
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
    """Refuse a network whose results in parts would differ from those of a whole run.

    Batch statistics and largest rewards are taken over all steps, and forward hooks would see parts, some of them
    twice.

    Args:
        net: the network.
        training: mode to check for: training (``True``), evaluation (``False``), or by default that of each layer.

    Raises:
        UserError: naming the layer and the reason.
    """
    _check_layer(net)
    for name, layer in net.named_modules():
        trains = layer.training if training is None else training
        found = ""
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and (trains or layer.running_mean is None):
            found = "measures mean and variance over all steps of a sequence"
        elif getattr(getattr(layer, "rule", None), "normalize", False):
            found = "follows a rule that divides rewards by the largest one of all steps (normalize)"
        elif layer._forward_hooks or layer._forward_pre_hooks:
            found = "has forward hooks, which take it to run once on a whole sequence"
        if found:
            raise _refusal(f"layer {name or '(the network itself)'} ({type(layer).__name__}) {found}")


def _part_length(steps: int | None, total: int) -> int:
    if steps is None:
        return math.isqrt(max(total, 1) - 1) + 1
    if whole("the number of steps of a part", steps, None) < 1:
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
