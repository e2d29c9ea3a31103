r"""Self-attention, and the layers around it that turn images into tokens (Vision Transformer, Dosovitskiy et al. 2021).

Reward passes as in AttnLRP (Achtibat et al. 2024, arXiv:2402.05602). A product of two signals, ``Q Kᵀ`` or ``A V``,
needs both factors for all of it, so each factor is credited with half of the reward. In messages the softmax is its own
backward pass: ``m_x = s (m_s − Σ s m_s)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.nn.container import Sequential
from spikelfp.nn.layer import Layer, check_dense, check_kind, run_layer
from spikelfp.nn.linear import Linear
from spikelfp.nn.neurons.lif import LIF
from spikelfp.nn.norm import BatchNorm1d
from spikelfp.rules import Rule
from spikelfp.scalars import as_number, as_whole
from spikelfp.terminal import brief

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


TOKENS = "[T, B, tokens, features]"
"""Axes of tokens, for errors."""


class _OfTokens(Layer):
    """Base of the layers of tokens, whose sizes are chosen where they are made, as their weights are made for them."""

    _sizes: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._sizes:
            kind = type(self).__name__
            raise UserError(
                f"{name} of {kind} is chosen where the layer is made, nn.{kind}(…), and stays as it is, got "
                f"{brief(value)}: make a new layer"
            )
        super().__setattr__(name, value)

    def _expect_tokens(self, x: Tensor, dim: int | None = None) -> None:
        """Refuse an input that is no ``[T, B, N, D]``, or has other features than ``dim``; ``None``: any number."""
        self._expect(x, 4, TOKENS)
        if dim not in (None, x.shape[3]):
            raise ShapeError(
                f"{type(self).__name__} was built for tokens of {dim} features, the last axis of {TOKENS}, got "
                f"{x.shape[3]} (shape {tuple(x.shape)})"
            )

    def _expect_like(self, x: Tensor, axis: int, weight: Tensor) -> None:
        """Refuse tokens whose axes from ``axis`` on differ from the axes of a weight; torch would broadcast a 1."""
        self._expect_tokens(x)
        if x.shape[axis:] != weight.shape:
            raise ShapeError(
                f"{type(self).__name__} was built for [{'tokens, features' if axis == 2 else 'features'}] = "
                f"{list(weight.shape)}, got {list(x.shape[axis:])} (shape {tuple(x.shape)})"
            )

    def _expect_some(self, x: Tensor) -> None:
        """Refuse an input that is no ``[T, B, N, D]``, or has no tokens."""
        self._expect_tokens(x)
        if not x.shape[2]:
            raise ShapeError(f"{type(self).__name__} takes {TOKENS} with at least one token, got {tuple(x.shape)}")


class ToTokens(_OfTokens):
    """Feature maps ``[T, B, D, H, W]`` as tokens ``[T, B, H·W, D]``, or features in a row as a number of tokens.

    Args:
        tokens: their number ``N`` if the input is ``[T, B, N·D]``, the features of a token side by side; ``None`` for
            feature maps, each place of which is a token.

    Raises:
        UserError: for what is no whole number of at least one token.
        ShapeError: for inputs of another shape, and features that are not as many for each token.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("tokens",)
    _sizes = ("tokens",)

    tokens: int | None

    def __init__(self, tokens: int | None = None) -> None:
        super().__init__()
        self.__dict__["tokens"] = None if tokens is None else checks.count("the number of tokens", tokens)

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        if self.tokens is None:
            self._expect(x, 5, "[T, B, channels, height, width]")
            return x.flatten(3).transpose(2, 3)
        self._expect(x, 3, "[T, B, features]")
        if x.shape[2] % self.tokens or not x.shape[2]:
            raise ShapeError(f"{x.shape[2]} features cannot be divided into {self.tokens} tokens")
        return x.unflatten(2, (self.tokens, -1))

    def extra_repr(self) -> str:
        return "" if self.tokens is None else f"tokens={self.tokens}"


class ClassToken(_OfTokens):
    """Puts a learned token before the tokens ``[T, B, N, D]``: its weights are contributions with ``a = 1`` (eq. 7).

    Args:
        dim: features ``D`` of a token.
        rule: rule of this layer alone.

    Raises:
        UserError: for features that are no whole number of at least 1.
        ShapeError: for inputs of another shape.
    """

    arguments = ("dim",)
    _sizes = ("dim",)

    def __init__(self, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.empty(check_dim(dim)))
        torch.nn.init.trunc_normal_(self.token, std=0.02)
        self.rule = rule

    @property
    def dim(self) -> int:
        """Features of a token."""
        return self.token.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect_like(x, 3, self.token)
        token = self.rule.parameter(self.token).to(x.dtype)
        return torch.cat([token.expand(*x.shape[:2], 1, -1), x], 2)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def saved_repr(self) -> str:
        """Leave out the features, which the shape of the weights tells."""
        return ""


class PositionEmbedding(_OfTokens):
    """Adds a learned vector to each token of ``[T, B, N, D]``: contributions with ``a = 1`` (eq. 7).

    Args:
        tokens: their number ``N``.
        dim: features ``D`` of a token.
        rule: rule of this layer alone.

    Raises:
        UserError: for tokens or features that are no whole number of at least 1.
        ShapeError: for inputs of another shape, also one that torch would broadcast.
    """

    arguments = ("tokens", "dim")
    _sizes = ("tokens", "dim")

    def __init__(self, tokens: int, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        shape = checks.count("the number of tokens", tokens), check_dim(dim)
        self.positions = torch.nn.Parameter(torch.empty(shape))
        torch.nn.init.trunc_normal_(self.positions, std=0.02)
        self.rule = rule

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.positions.shape[0]

    @property
    def dim(self) -> int:
        """Features of a token."""
        return self.positions.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect_like(x, 2, self.positions)
        return x + self.rule.parameter(self.positions)

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}, dim={self.dim}"

    def saved_repr(self) -> str:
        """Leave out the sizes, which the shape of the weights tells."""
        return ""


class FirstToken(_OfTokens):
    """The first token of ``[T, B, N, D]``, ``[T, B, D]``.

    Raises:
        ShapeError: for inputs of another shape, or without tokens.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect_some(x)
        return x[:, :, 0]


class MeanToken(_OfTokens):
    """The mean of all tokens of ``[T, B, N, D]``, ``[T, B, D]``.

    Raises:
        ShapeError: for inputs of another shape, or without tokens.
    """

    passes_scale = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect_some(x)
        return x.mean(2)


class SelfAttention(_OfTokens):
    """Multi-head self-attention of tokens ``[T, B, N, D]``: ``softmax(Q Kᵀ / √d) V``, then a dense layer.

    Args:
        dim: features ``D`` of a token.
        heads: number of heads.
        head_dim: features ``d`` of a token in each head; ``None`` for ``D / heads``.
        rule: rule of this layer alone.

    Raises:
        UserError: if ``heads`` does not divide ``dim`` and there is no ``head_dim``, or if one of them is no whole
            number of at least 1.
        ShapeError: for inputs of another shape: without an axis of tokens samples would attend to each other.
    """

    _sizes = ("dim", "heads", "head_dim")

    heads: int

    def __init__(self, dim: int, heads: int, *, head_dim: int | None = None, rule: Rule | None = None) -> None:
        super().__init__()
        dim = check_dim(dim)
        heads = check_heads(dim, heads) if head_dim is None else checks.count("the number of heads", heads)
        head_dim = dim // heads if head_dim is None else checks.count("head_dim", head_dim)
        self.__dict__["heads"] = heads
        self.rule = rule
        self.project = Linear(dim, 3 * heads * head_dim)
        self.out = Linear(heads * head_dim, dim)

    @property
    def dim(self) -> int:
        """Features of a token."""
        return self.project.in_features

    @property
    def head_dim(self) -> int:
        """Features of a token in each head."""
        return self.out.in_features // self.heads

    def forward(self, x: Tensor) -> Tensor:
        check_kind(self, x)
        self._expect_tokens(x, _inputs(self.project))
        query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, -1))
        factor = self.rule.factor
        scores = factor(query) @ factor(key).transpose(-2, -1) * query.shape[-1] ** -0.5
        return self.out(join_heads(factor(scores.softmax(-1)) @ factor(value)))

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Queries, keys and values are parts of one projection; their product goes to the last layer."""
        return flow.through(self.out, flow.function("attention", flow.through(self.project, given)))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class SpikingSelfAttention(_OfTokens):
    """Self-attention of spikes without softmax (Spikformer, Zhou et al. 2023, eq. 5-6), tokens ``[T, B, N, D]``::

        Q, K, V = LIF(BN(W x))          out = LIF(BN(W LIF(s · Q Kᵀ V)))

    Keeps no state between calls; ``run`` takes and returns that of its neurons.

    Args:
        dim: features ``D`` of a token.
        heads: number of heads, a divisor of ``dim``.
        scale: the factor ``s``, 0.125 in the paper; may be set later.
        rule: rule of this layer alone.
        **neuron: arguments of :class:`~spikelfp.nn.LIF`.

    Raises:
        UserError: if ``heads`` does not divide ``dim``, if one of them is no whole number of at least 1, and for a
            ``scale`` that is no finite number.
        ShapeError: for inputs of another shape: without an axis of tokens samples would attend to each other.
    """

    _sizes = ("dim", "heads")

    heads: int
    scale: float

    def __init__(self, dim: int, heads: int, scale: float = 0.125, *, rule: Rule | None = None, **neuron: Any) -> None:
        super().__init__()
        dim = check_dim(dim)
        self.__dict__["heads"] = check_heads(dim, heads)
        self.scale = scale
        self.rule = rule
        self.query, self.key, self.value, self.out = (dense_spikes(dim, dim, **neuron) for _ in range(4))
        self.mix = LIF(**neuron)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _finite("scale", value) if name == "scale" else value)

    @property
    def dim(self) -> int:
        """Features of a token."""
        first: Any = self.query[0]
        return first.in_features

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.out(self.mix(self._attend(self.query(x), self.key(x), self.value(x))))

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the spikes ``[T, B, N, D]`` and the states to go on from.

        Args:
            x: tokens ``[T, B, N, D]``.
            state: as ``run`` returned it; ``None`` to start from rest.

        Raises:
            ShapeError: for inputs of another shape, and for anything but five states.
        """
        self._check(x)
        before = (None,) * 5 if state is None else state
        if not isinstance(before, tuple | list) or len(before) != 5:
            raise ShapeError(
                "SpikingSelfAttention starts from the states that run returned, one for each of its 5 parts, or None "
                f"for rest, got {brief(state)}"
            )
        parts = [run_layer(p, x, own) for p, own in zip((self.query, self.key, self.value), before[:3], strict=True)]
        mixed, mix = self.mix.run(self._attend(*(spikes for spikes, _ in parts)), before[3])
        out, last = run_layer(self.out, mixed, before[4])
        return out, (*(after for _, after in parts), mix, last)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Queries, keys and values are of the input; their product goes to the neurons in front of the last layer."""
        parts = [flow.through(part, given) for part in (self.query, self.key, self.value)]
        return flow.through(self.out, flow.through(self.mix, flow.function("attention", *parts)))

    def _check(self, x: Tensor) -> None:
        check_kind(self, x)
        self._expect_tokens(x, _inputs(self.query))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        factor = self.rule.factor
        scores = factor(query) @ factor(key).transpose(-2, -1) * float(self.scale)
        return join_heads(factor(scores) @ factor(value))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}"


class TokenNorm(BatchNorm1d):
    """Batch normalisation of tokens ``[T, B, N, D]`` over time, batch and tokens.

    Raises:
        ShapeError: for inputs of another shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 4, TOKENS)
        if x.shape[3] != self.num_features:
            raise ShapeError(
                f"TokenNorm was built for tokens of {self.num_features} features, got {x.shape[3]} (shape "
                f"{tuple(x.shape)})"
            )
        return super().forward(x.flatten(1, 2)).unflatten(1, x.shape[1:3])


def dense_spikes(inputs: int, outputs: int, **neuron: Any) -> Sequential:
    """Dense layer, batch normalisation and LIF neurons on tokens ``[T, B, N, D]``."""
    return Sequential(Linear(inputs, outputs), TokenNorm(outputs), LIF(**neuron))


def check_dim(dim: Any) -> int:
    """Return the features of a token.

    Raises:
        UserError: for what is no whole number of at least 1.
    """
    return checks.count("dim, the features of a token,", dim)


def check_heads(dim: int, heads: Any) -> int:
    """Return the number of heads.

    Args:
        dim: features of a token.
        heads: the number.

    Raises:
        UserError: unless it is a whole number of at least 1 that divides ``dim``.
    """
    heads = checks.count("the number of heads", heads)
    if dim % heads:
        raise UserError(f"the number of heads must divide the features of a token, got {heads} for {dim}")
    return heads


def _finite(name: str, value: Any) -> float:
    """Return a finite number; a whole one stays whole, as the texts of old checkpoints have it."""
    number, whole = as_number(value), as_whole(value)
    if number is None or not math.isfinite(number):
        raise UserError(f"{name} must be a finite number, got {brief(value)}")
    return number if whole is None else whole


def _inputs(part: torch.nn.Module) -> int | None:
    """Return the features that a part takes now, as pruning changes them; ``None`` for one of a user's own."""
    first = part[0] if isinstance(part, torch.nn.Sequential) and len(part) else part
    return getattr(first, "in_features", None)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[T, B, N, D]`` as ``[T, B, heads, N, D / heads]``."""
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """The inverse of :func:`split_heads`."""
    return x.transpose(-3, -2).flatten(-2)
