r"""Self-attention, and the layers around it that turn images into tokens (Vision Transformer, Dosovitskiy et al. 2021).

Reward passes as in AttnLRP (Achtibat et al. 2024, arXiv:2402.05602). A product of two signals, ``Q Kᵀ`` or ``A V``,
needs both factors for all of it, so each factor is credited with half of the reward. In messages the softmax is its own
backward pass: ``m_x = s (m_s − Σ s m_s)``.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.nn.container import Sequential
from spikelfp.nn.layer import Layer, check_dense, run_layer
from spikelfp.nn.linear import Linear
from spikelfp.nn.neurons.lif import LIF
from spikelfp.nn.norm import BatchNorm1d
from spikelfp.rules import Rule
from spikelfp.terminal import brief

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


class ToTokens(Layer):
    """Feature maps ``[T, B, D, H, W]`` as tokens ``[T, B, H·W, D]``, or features in a row as a number of tokens.

    Args:
        tokens: their number ``N`` if the input is ``[T, B, N·D]``, the features of a token side by side; ``None`` for
            feature maps, each place of which is a token.

    Raises:
        UserError: for less than one token.
        ShapeError: for features that are not as many for each token.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("tokens",)

    def __init__(self, tokens: int | None = None) -> None:
        super().__init__()
        self.tokens = None if tokens is None else _count("the number of tokens", tokens)

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        if self.tokens is None:
            self._expect(x, 5, "[T, B, channels, height, width]")
            return x.flatten(3).transpose(2, 3)
        self._expect(x, 3, "[T, B, features]")
        if x.shape[2] % self.tokens:
            raise ShapeError(f"{x.shape[2]} features cannot be divided into {self.tokens} tokens")
        return x.unflatten(2, (self.tokens, -1))


class ClassToken(Layer):
    """Puts a learned token before the tokens ``[T, B, N, D]``: its weights are contributions with ``a = 1`` (eq. 7).

    Args:
        dim: features ``D`` of a token.
        rule: rule of this layer alone.
    """

    arguments = ("dim",)

    def __init__(self, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.token = torch.nn.Parameter(torch.empty(dim))
        torch.nn.init.trunc_normal_(self.token, std=0.02)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        token = self.rule.parameter(self.token).to(x.dtype)
        return torch.cat([token.expand(*x.shape[:2], 1, -1), x], 2)


class PositionEmbedding(Layer):
    """Adds a learned vector to each token of ``[T, B, N, D]``: contributions with ``a = 1`` (eq. 7).

    Args:
        tokens: their number ``N``.
        dim: features ``D`` of a token.
        rule: rule of this layer alone.
    """

    arguments = ("tokens", "dim")

    def __init__(self, tokens: int, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.tokens, self.dim = tokens, dim
        self.positions = torch.nn.Parameter(torch.empty(tokens, dim))
        torch.nn.init.trunc_normal_(self.positions, std=0.02)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x + self.rule.parameter(self.positions)


class FirstToken(Layer):
    """The first token of ``[T, B, N, D]``, ``[T, B, D]``."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x[:, :, 0]


class MeanToken(Layer):
    """The mean of all tokens of ``[T, B, N, D]``, ``[T, B, D]``."""

    passes_scale = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x.mean(2)


class SelfAttention(Layer):
    """Multi-head self-attention of tokens ``[T, B, N, D]``: ``softmax(Q Kᵀ / √d) V``, then a dense layer.

    Args:
        dim: features ``D`` of a token.
        heads: number of heads.
        head_dim: features ``d`` of a token in each head; ``None`` for ``D / heads``.
        rule: rule of this layer alone.

    Raises:
        UserError: if ``heads`` does not divide ``dim`` and there is no ``head_dim``, or if either is less than 1.
    """

    def __init__(self, dim: int, heads: int, *, head_dim: int | None = None, rule: Rule | None = None) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads) if head_dim is None else _count("the number of heads", heads)
        head_dim = dim // self.heads if head_dim is None else _count("head_dim", head_dim)
        self.rule = rule
        self.project = Linear(dim, 3 * self.heads * head_dim)
        self.out = Linear(self.heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, -1))
        factor = self.rule.factor
        scores = factor(query) @ factor(key).transpose(-2, -1) * query.shape[-1] ** -0.5
        return self.out(join_heads(factor(scores.softmax(-1)) @ factor(value)))

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Queries, keys and values are parts of one projection; their product goes to the last layer."""
        return flow.through(self.out, flow.function("attention", flow.through(self.project, given)))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class SpikingSelfAttention(Layer):
    """Self-attention of spikes without softmax (Spikformer, Zhou et al. 2023, eq. 5-6), tokens ``[T, B, N, D]``::

        Q, K, V = LIF(BN(W x))          out = LIF(BN(W LIF(s · Q Kᵀ V)))

    Keeps no state between calls; ``run`` takes and returns that of its neurons.

    Args:
        dim: features ``D`` of a token.
        heads: number of heads, a divisor of ``dim``.
        scale: the factor ``s``, 0.125 in the paper.
        rule: rule of this layer alone.
        **neuron: arguments of :class:`~spikelfp.nn.LIF`.

    Raises:
        UserError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int, scale: float = 0.125, *, rule: Rule | None = None, **neuron: Any) -> None:
        super().__init__()
        self.heads, self.scale = check_heads(dim, heads), scale
        self.rule = rule
        self.query, self.key, self.value, self.out = (dense_spikes(dim, dim, **neuron) for _ in range(4))
        self.mix = LIF(**neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self._attend(self.query(x), self.key(x), self.value(x))))

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the spikes ``[T, B, N, D]`` and the states to go on from."""
        before = state or (None,) * 5
        parts = [run_layer(p, x, own) for p, own in zip((self.query, self.key, self.value), before[:3], strict=True)]
        mixed, mix = self.mix.run(self._attend(*(spikes for spikes, _ in parts)), before[3])
        out, last = run_layer(self.out, mixed, before[4])
        return out, (*(after for _, after in parts), mix, last)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Queries, keys and values are of the input; their product goes to the neurons in front of the last layer."""
        parts = [flow.through(part, given) for part in (self.query, self.key, self.value)]
        return flow.through(self.out, flow.through(self.mix, flow.function("attention", *parts)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        factor = self.rule.factor
        scores = factor(query) @ factor(key).transpose(-2, -1) * self.scale
        return join_heads(factor(scores) @ factor(value))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale}"


class TokenNorm(BatchNorm1d):
    """Batch normalisation of tokens ``[T, B, N, D]`` over time, batch and tokens."""

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 4, "[T, B, tokens, features]")
        return super().forward(x.flatten(1, 2)).unflatten(1, x.shape[1:3])


def dense_spikes(inputs: int, outputs: int, **neuron: Any) -> Sequential:
    """Dense layer, batch normalisation and LIF neurons on tokens ``[T, B, N, D]``."""
    return Sequential(Linear(inputs, outputs), TokenNorm(outputs), LIF(**neuron))


def check_heads(dim: int, heads: int) -> int:
    """``heads``, or :class:`~spikelfp.errors.UserError` unless it divides ``dim``."""
    if dim % _count("the number of heads", heads):
        raise UserError(f"the number of heads must divide the features of a token, got {heads} for {dim}")
    return heads


def _count(name: str, value: Any) -> int:
    """Return a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {brief(value)}")
    return int(value)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[T, B, N, D]`` as ``[T, B, heads, N, D / heads]``."""
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """The inverse of :func:`split_heads`."""
    return x.transpose(-3, -2).flatten(-2)
