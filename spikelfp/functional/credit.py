r"""Reward and message, and the few autograd functions that turn backpropagation into LFP-ε.

Write the reward of a neuron as ``r = a · m``: activation times *message* (reward per unit of activation).
The ε-rule of LFP (v3, eq. 6-7) then becomes backpropagation with two changes::

    activation      m_z = m_a · φ(z) / (z + sign(z) ε)       a secant slope for the derivative   (eq. 6)
    parameter       d_w = |w| · Σ m_z a                      autograd's weight gradient times |w| (eq. 7)

while every linear map sends its message back as autograd does, ``m_in = Wᵀ m_z``. Throughout ``sign(0) = 1``
(v3, section 3.1.2). What reaches ``.grad`` of a parameter is ``−d_w``, so that any torch optimiser *ascends*
the reward.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node

from spikelfp.errors import ShapeError, UserError
from spikelfp.machine import empty


def check_range(z: Tensor) -> None:
    """Refuse float16, in which the messages to ``z`` would be infinite.

    Raises:
        UserError: with what to use instead.
    """
    if z.dtype == torch.float16 and z.requires_grad:
        raise UserError(
            "LFP divides rewards by numbers down to ε, and float16 ends at 65,504: use bfloat16 (net.bfloat16(), or "
            "torch.autocast with dtype=torch.bfloat16) or float32; float16 is for torch.no_grad()"
        )


def stabilise(z: Tensor, eps: float) -> Tensor:
    """``z + sign(z) ε`` with ``sign(0) = 1`` (v3, section 3.1.2)."""
    return z + torch.copysign(torch.full((), eps, dtype=z.dtype, device=z.device), z + 0.0)


def to_message(reward: Tensor, activation: Tensor, eps: float) -> Tensor:
    """``m = r / (a + sign(a) ε)``: reward per unit of activation; for ε = 0 (LFP-0) nothing where ``a = 0``."""
    if eps == 0:
        silent = activation == 0
        return (reward / torch.where(silent, 1, activation)).masked_fill_(silent, 0)
    return reward / stabilise(activation, eps)


class _Passes:
    """The backward passes that are running, by thread, each with the weight of a sample.

    Gradients and messages look alike, so the nodes of LFP rules ask here whether a reward was sent back at all.
    """

    def __init__(self) -> None:
        self._weights: dict[int, list[float]] = {}

    def begin(self, weight: float) -> None:
        self._weights.setdefault(threading.get_ident(), []).append(weight)

    def end(self) -> None:
        weights = self._weights[threading.get_ident()]
        weights.pop()
        if not weights:
            del self._weights[threading.get_ident()]

    def weight(self) -> float | None:
        """The weight of the pass that this thread runs, ``None`` if it runs none."""
        own = self._weights.get(threading.get_ident())
        if own is not None:
            return own[-1]
        # Autograd runs the nodes of a GPU in threads of its own, which Python has not started.
        if self._weights and all(thread.ident != threading.get_ident() for thread in threading.enumerate()):
            return next(reversed(self._weights.values()))[-1]
        return None


_passes = _Passes()


@contextmanager
def backward_pass(weight: float = 1.0) -> Iterator[None]:
    """Let backward passes within the block carry rewards and messages; outside, nodes of LFP rules refuse to run.

    :func:`spikelfp.propagate` runs in it. Tests of layers may send messages by hand: ``out.backward(message)``.

    Args:
        weight: factor of each sample (one over the size of the batch, for a mean), for rules that normalise rewards.
    """
    _passes.begin(weight)
    try:
        yield
    finally:
        _passes.end()


def check_pass() -> float:
    """Return the weight of a sample in the running pass.

    Raises:
        UserError: in a backward pass that no reward has started: it would climb the loss, since parameters get
            ``−|w|`` times what arrives.
    """
    if torch.compiler.is_compiling():
        return 1.0  # traced at the first forward pass; the neurons are never traced, and ask
    weight = _passes.weight()
    if weight is None:
        raise UserError(
            "a backward pass by a loss or by autograd.grad reached layers that follow an LFP rule, where it would "
            "climb the loss: start it by spikelfp.propagate(outputs, reward), or train by gradients with "
            "rules.attach(net, rules.Surrogate()) or rules.Gradient()"
        )
    return weight


class NeuronNode:
    """Mixin of the autograd nodes of neurons, which take a reward in place of a message.

    A hidden neuron's reward arrives as a message and is multiplied by its activation, so a silent neuron gets
    nothing; with a margin (:mod:`spikelfp.functional.lif`), neurons that almost fire get theirs too. The *initial*
    reward belongs to the output neuron itself, spike or no spike (A.4 rewards silence
    too). :mod:`spikelfp.functional.propagation` finds the output neurons and marks their nodes, for one pass:

    Attributes:
        takes_reward: whether the values that arrive at the first output of the node are a reward and no message.
        output_reward: a reward that was left here, besides the arriving messages.
        collecting: whether this pass only gathers rewards, and stops here.
        normalise: how an initial reward is normalised, ``"sample"``, ``"step"`` or ``None``.
        margin: whether some neurons earn the message to an output of 0; :meth:`heard` then tells which.
    """

    takes_reward: bool = False
    output_reward: Tensor | None = None
    collecting: bool = False
    normalise: str | None = None
    margin: bool = False

    @staticmethod
    def heard(ctx: Any) -> Tensor | None:
        """Return which outputs earn their message, a boolean tensor of their shape; ``None`` where that is not known.

        It is asked in the backward pass, before the node itself runs.
        """
        return None

    @staticmethod
    def received(ctx: Any, arrived: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return message and reward of this pass; both are ``None`` while rewards are gathered.

        Raises:
            UserError: outside of a pass that a reward has started.
        """
        weight = check_pass()
        if getattr(ctx, "collecting", False):
            return None, None
        reward, ctx.output_reward = getattr(ctx, "output_reward", None), None
        message: Tensor | None = arrived
        if getattr(ctx, "takes_reward", False):
            ctx.takes_reward, message = False, None
            reward = arrived if reward is None or arrived is None else reward + arrived
        how = getattr(ctx, "normalise", None)
        if reward is not None and how is not None:
            reward = reward * _scale_of(reward, how, weight)
        return message, reward


def keep_node() -> None:
    """Keep torch's compiler from tracing a function, when called in its ``forward``.

    Its node would be lost in the traced graph, and with it the place where an output reward is handed over.
    """


keep_node._torchdynamo_disable = True  # type: ignore[attr-defined]


# Nodes that only move or cast values: a neuron's output stays a neuron's output after them.
MOVES = frozenset(
    f"{name}Backward0"
    for name in (
        "View", "UnsafeView", "ReshapeAlias", "Alias", "ToCopy", "Clone", "Squeeze", "Unsqueeze", "Permute",
        "Transpose", "T",
    )
)  # fmt: skip


def below_moves(node: Node | None) -> Node | None:
    """Return the first node below that does more than move values."""
    while node is not None and node.name() in MOVES:
        node = node.next_functions[0][0]
    return node


def forward_class(node: Node) -> type:
    """Return the :class:`torch.autograd.Function` of a node; ``object`` for torch's own operations."""
    return getattr(node, "_forward_cls", object)


def neurons_below(node: Node | None) -> Node | None:
    """Return the node of the neurons below nodes that only move values; ``None`` where there are none."""
    node = below_moves(node)
    return node if node is not None and issubclass(forward_class(node), NeuronNode) else None


def earners(x: Tensor) -> Callable[[], Tensor | None] | None:
    """Find out whether ``x`` holds outputs of neurons of which some earn the message to an output of 0.

    Args:
        x: outputs of a layer, perhaps moved.

    Returns:
        Function to a boolean tensor of the shape of ``x``, true where a message is earned, or to ``None`` where that is
        not known; for the backward pass. ``None`` in place of it where no output of 0 earns anything.
    """
    if torch.compiler.is_compiling():
        return None  # a traced product sends all messages
    node = neurons_below(x.grad_fn)
    if x.grad_fn is None or node is None or not getattr(node, "margin", False):
        return None
    return partial(_heard_as, x.grad_fn, tuple(x.shape))


def _heard_as(node: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Return :meth:`NeuronNode.heard` of the neurons below ``node``, moved to ``shape`` as their outputs were."""
    moves: list[Callable[[Tensor], Tensor]] = []
    while node.name() in MOVES:
        kind = node.name().removesuffix("Backward0")
        if kind in ("Permute", "Transpose", "T"):
            order = list(range(len(shape)))
            if kind == "Permute":
                order = [_axis(own, shape) for own in node._saved_dims]
            elif len(shape) > 1:
                one, other = (
                    (0, 1) if kind == "T" else (_axis(own, shape) for own in (node._saved_dim0, node._saved_dim1))
                )
                order[one], order[other] = other, one
            moves.append(partial(torch.permute, dims=order))
            shape = tuple(shape[order.index(axis)] for axis in range(len(order)))
        elif kind == "Unsqueeze":
            moves.append(partial(torch.reshape, shape=shape))
            axis = _axis(node._saved_dim, shape)
            shape = (*shape[:axis], *shape[axis + 1 :])
        elif kind in ("View", "UnsafeView", "ReshapeAlias", "Squeeze"):
            moves.append(partial(torch.reshape, shape=shape))
            shape = tuple(node._saved_self_sym_sizes)
        node = node.next_functions[0][0]
    heard: Tensor | None = forward_class(node).heard(node)  # type: ignore[attr-defined]
    for move in reversed(moves if heard is not None else []):
        assert heard is not None
        heard = move(heard)
    return heard


def _axis(saved: int, shape: tuple[int, ...]) -> int:
    """Return an axis as a node has saved it: a negative one stands there as an unsigned number."""
    return (saved - 2**64 if saved >= 2**63 else saved) % len(shape)


def stacked_heard(nodes: list[Any], step: tuple[int, ...]) -> list[Tensor] | None:
    """Return :meth:`NeuronNode.heard` of the neurons of each step; ``None`` where one of them is not known.

    Args:
        nodes: of the steps, from the first; ``None`` where there is nothing to learn.
        step: shape of the outputs of a step.
    """
    found = []
    for node in nodes:
        heard = torch.zeros(step, dtype=torch.bool) if node is None else forward_class(node).heard(node)  # type: ignore[attr-defined]
        if heard is None:
            return None
        found.append(heard)
    device = next((each.device for node, each in zip(nodes, found, strict=True) if node is not None), None)
    return [each.to(device) for each in found]


def leave_normalising(nodes: list[Any]) -> None:
    """Tell the nodes of single steps that the node of the sequence normalises their rewards together."""
    for node in nodes:
        if getattr(node, "normalise", None) is not None:
            node.normalise = None


def hand_to_steps(ctx: Any, arrived: Tensor) -> tuple[Tensor | None, ...]:
    """Leave the reward of a sequence at the nodes of its steps, ``ctx.nodes``, and return the messages to them.

    Args:
        ctx: context of the node of the sequence.
        arrived: values that arrived at that node, ``[T, …]``.
    """
    message, reward = NeuronNode.received(ctx, arrived)
    if reward is not None:
        for node, own in zip(ctx.nodes, reward.unbind(), strict=True):
            if node is not None:
                node.output_reward = own
    return (None,) * len(ctx.nodes) if message is None else message.unbind()


class MagnitudeStep(Function):
    """Identity whose backward pass gives ``−|w|`` times the gradient: eq. 7, for an optimiser that descends."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, eps: float | None = None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.output_eps = eps  # ε of the neurons that these weights drive, for linear outputs
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        check_pass()
        (weight,) = ctx.saved_tensors
        if not weight.is_contiguous():
            return torch.copysign(weight, -1.0).mul_(grad), None
        return torch.copysign(weight, -1.0, out=empty(weight.shape, weight)).mul_(grad), None  # −|w| in one pass


class SecantActivation(Function, NeuronNode):
    """``φ(z)`` whose backward pass is ``m_z = r / (z + sign(z) ε)`` with ``r = φ(z) · m_a`` (eq. 6).

    With ``opposite_sign`` it takes ``−r`` for ``r`` where ``z`` and ``φ(z)`` differ in sign (v3, footnote 12).
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, phi: Callable[[Tensor], Tensor], eps: float, opposite_sign: bool) -> Tensor:
        keep_node()
        activation = phi(z)
        ctx.save_for_backward(z, activation)
        ctx.eps, ctx.opposite_sign = eps, opposite_sign
        return activation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arrived: Tensor) -> tuple[Tensor | None, None, None, None]:
        z, activation = ctx.saved_tensors
        message, given = NeuronNode.received(ctx, arrived)
        reward = given if message is None else activation * message
        if reward is None:
            return None, None, None, None
        if given is not None and message is not None:
            reward = reward + given
        if ctx.opposite_sign:
            reward = torch.where((z < 0) & (activation > 0) | (z > 0) & (activation < 0), -reward, reward)
        return to_message(reward, z, ctx.eps), None, None, None


class SecantReLU(Function, NeuronNode):
    """:class:`SecantActivation` of ``max(z, 0)``, for which the output suffices: ``z = a`` wherever ``a > 0``.

    ``z`` is kept all the same, for rewards of silent output neurons, ``z ≤ 0``.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, eps: float) -> Tensor:
        keep_node()
        activation = torch.relu(z)
        ctx.save_for_backward(z, activation)
        ctx.eps = eps
        return activation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arrived: Tensor) -> tuple[Tensor | None, None]:
        z, activation = ctx.saved_tensors
        message, given = NeuronNode.received(ctx, arrived)
        if given is not None:
            return to_message(given if message is None else activation * message + given, z, ctx.eps), None
        if message is None:
            return None, None
        if ctx.eps == 0:
            return message * (activation > 0), None
        return (activation * message).div_(activation + ctx.eps), None


class HalfCredit(Function):
    """Identity whose backward pass halves the message: the share of one factor of a product of two.

    By the uniform rule of AttnLRP (Achtibat et al. 2024) each factor of ``a · b`` gets one half of the credit.
    """

    @staticmethod
    def forward(ctx: Any, factor: Tensor) -> Tensor:
        return factor.view_as(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> Tensor:
        check_pass()
        return message / 2


def _scale_of(reward: Tensor, how: str, weight: float) -> Tensor:
    """Compute the factor that makes the largest magnitude of each sample's ``reward`` ``[T, B, …]`` ``weight``.

    A reward so small that its inverse is not finite stays what it is, as a reward of 0 does: a softmax that is all but
    certain leaves such rewards.
    """
    if reward.dim() < 2:
        raise ShapeError(
            f"rewards are normalised for each sample of [T, B, …], time first, got shape {tuple(reward.shape)}"
        )
    others = [axis for axis in range(reward.dim()) if axis != 1 and not (how == "step" and axis == 0)]
    largest = reward.abs().amax(others, keepdim=True) if others and reward.numel() else reward.abs()
    divides = largest >= torch.finfo(largest.dtype).tiny
    return weight / torch.where(divides, largest, torch.ones_like(largest))


class NormalisedReward(Function):
    """Identity whose backward pass divides the reward ``a m`` of a layer by its largest magnitude (A.6.4).

    The largest magnitude is taken for each sample: over all neurons and steps (``"sample"``), or the neurons of each
    step (``"step"``). Updates of the samples then add up the same way in any batch, each times the weight of the pass.
    Neurons with a margin earn ``m`` wherever they are ``heard`` (:func:`earners`). Takes and returns ``[T, B, …]``.
    """

    @staticmethod
    def forward(ctx: Any, activation: Tensor, how: str, heard: Callable[[], Tensor | None] | None = None) -> Tensor:
        ctx.save_for_backward(activation)
        ctx.how, ctx.heard = how, heard
        return activation.view_as(activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, None, None]:
        (activation,) = ctx.saved_tensors
        reward = activation * message
        if ctx.heard is not None:
            heard = ctx.heard()
            if heard is None:
                raise UserError(
                    "rewards cannot be normalised behind a network that is recomputed in parts and ends in neurons "
                    "with a margin: leave out normalize, or the recomputation, or choose margin=1"
                )
            reward = torch.where(heard, message, 0)
        return message * _scale_of(reward, ctx.how, check_pass()), None, None


class LayerOutput(Function):
    """Identity after a layer, which marks its output in the graph.

    The mark distinguishes a layer with frozen weights from a product with constants, and a sum of branches from a sum
    of outputs in the user's code. With ``how``, an initial reward of ``z`` ``[T, B, …]`` is normalised as in
    :class:`NormalisedReward`; messages pass unchanged.

    Attributes:
        takes_reward: whether the arriving values are the start of a pass.
        output_eps: ε of the neurons that the layer drives; ``None``: that of the layers before it.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, eps: float | None = None, how: str | None = None) -> Tensor:
        if how is not None:
            ctx.save_for_backward(z)
        ctx.how, ctx.output_eps, ctx.takes_reward = how, eps, False
        return z.view_as(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, None, None]:
        if ctx.how is not None and ctx.takes_reward:
            ctx.takes_reward = False
            (z,) = ctx.saved_tensors
            message = message * _scale_of(z * message, ctx.how, check_pass())
        return message, None, None
