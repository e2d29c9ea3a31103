r"""Normalisation layers. Under LFP their statistics are constants of the backward pass (v3, section 3.1.3).

BatchNorm, with ``ã = (a − E[a]) / √(Var[a] + ε_bn)`` (eq. 8-10), ``n_j = r_j / (a_j + sign(a_j) ε)``::

    a^bn = γ ã + β          r_in = γ a / √(Var[a] + ε_bn) · n          d_γ = |γ| ã n          d_β = |β| n

The reward passes as if the mean were zero, since a shift across zero would turn rewards into punishments. A β
or γ of exactly 0 is never updated: it contributes nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.checks import whole
from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import over_time
from spikelfp.nn.layer import Layer, check_dense, check_kind
from spikelfp.rules import Rule

_HALF = (torch.float16, torch.bfloat16)
_BIAS = ("bias",) if "bias" in inspect.signature(torch.nn.BatchNorm1d).parameters else ()  # of newer versions of torch


class _BatchNorm(Layer):
    """Base of both batch normalisations: one mean and one variance per channel, over batch, time and space.

    A single value per channel has no variance, so it is normalised by the running statistics even in training.
    """

    fires = False
    arguments = ("num_features", "eps", "momentum", "affine", "track_running_stats", *_BIAS)

    num_features: int
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    momentum: float | None
    eps: float

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise ``x`` ``[N, C, …]``."""
        channels = next((len(own) for own in (self.weight, self.running_mean) if own is not None), self.num_features)
        if x.shape[1] != channels:
            raise ShapeError(
                f"{type(self).__name__} was built for {channels} channels, got {x.shape[1]} (shape {tuple(x.shape)})"
            )
        if self.training and not x.numel():
            raise ShapeError(
                f"{type(self).__name__} measures mean and variance of a batch in training, and this one is empty "
                f"(shape {tuple(x.shape)}): leave it out"
            )
        if self.weight is not None and not (x.dtype in _HALF and self.weight.dtype == torch.float32):
            check_kind(self, x, self.weight)  # torch normalises 16-bit values by 32-bit parameters
        mean, var = self.running_mean, self.running_var
        single = x.numel() == x.shape[1]
        if (self.training and not single) or mean is None or var is None:
            if single:
                raise ShapeError(
                    f"{type(self).__name__} without running statistics needs more than one value per channel, got one"
                )
            if self.rule.constant_statistics is False:
                return self._scaled(x, mean, var, True, self._count() if self.training else 0.0)
            var, mean = self._measure(x)
        return self._scaled(x, mean, var, False, 0.0)

    def _scaled(self, x: Tensor, mean: Tensor | None, var: Tensor | None, measure: bool, rate: float) -> Tensor:
        """Compute ``γ ã + β`` with ``mean`` and ``var``; with ``measure``, the batch gives them and updates these."""

        def scale(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            return F.batch_norm(x, mean, var, weight, bias, measure, rate, self.eps)

        if self.weight is None:
            return scale(x, None, None)
        return self.rule.affine(scale, x, self.weight, self.bias)

    @torch.no_grad()
    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Measure variance and mean of the batch, in the dtype of the parameters, and update the running ones."""
        kind = next((each.dtype for each in (self.weight, self.running_mean) if each is not None), x.dtype)
        var, mean = torch.var_mean(x.to(kind), [d for d in range(x.dim()) if d != 1], correction=0)
        if self.training and self.running_mean is not None and self.running_var is not None:
            rate = self._count()
            count = x.numel() // x.shape[1]
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
            self.running_var.lerp_(var.to(self.running_var.dtype) * (count / max(count - 1, 1)), rate)
        return var, mean

    def _count(self) -> float:
        """Count a batch, and return its weight in the running statistics, as in torch."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1.0 / float(self.num_batches_tracked)
        return 0.0 if self.momentum is None else self.momentum


class BatchNorm1d(torch.nn.BatchNorm1d, _BatchNorm):  # type: ignore[misc]
    """Batch normalisation of ``[T, B, C]`` over time and batch; arguments and buffers of ``torch.nn.BatchNorm1d``.

    A sequence that is constant over time (``spikelfp.nn.constant``) is normalised once and counts as one step in the
    running variance, as torch's layer has it for the images themselves.

    Args:
        num_features: channels ``C``.
        *arguments: further arguments of ``torch.nn.BatchNorm1d``.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.BatchNorm1d``.
    """

    def __init__(self, num_features: int, *arguments: Any, rule: Rule | None = None, **options: Any) -> None:
        super().__init__(whole("num_features of BatchNorm1d", num_features), *arguments, **options)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 3, "[T, B, features]")
        return self.rule.outgoing(over_time(self._normalise, x))


class BatchNorm2d(torch.nn.BatchNorm2d, _BatchNorm):  # type: ignore[misc]
    """Batch normalisation of ``[T, B, C, H, W]`` per channel; arguments and buffers of ``torch.nn.BatchNorm2d``.

    A sequence that is constant over time (``spikelfp.nn.constant``) is normalised once and counts as one step in the
    running variance, as torch's layer has it for the images themselves.

    Args:
        num_features: channels ``C``.
        *arguments: further arguments of ``torch.nn.BatchNorm2d``.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.BatchNorm2d``.
    """

    def __init__(self, num_features: int, *arguments: Any, rule: Rule | None = None, **options: Any) -> None:
        super().__init__(whole("num_features of BatchNorm2d", num_features), *arguments, **options)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return self.rule.outgoing(over_time(self._normalise, x))


class LayerNorm(torch.nn.LayerNorm, Layer):
    """Layer normalisation of the last axes, ``[T, B, …, features]``; arguments of ``torch.nn.LayerNorm``.

    Under LFP, as in AttnLRP (arXiv:2402.05602), the standard deviation is a constant of the backward pass, and
    subtracting the mean is a linear map.

    Args:
        *arguments: arguments of ``torch.nn.LayerNorm``.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.LayerNorm``.

    Raises:
        ShapeError: for inputs whose last axes are others; time and batch are never among them.
    """

    fires = False
    arguments = ("normalized_shape", "eps", "elementwise_affine", "bias")

    def __init__(self, *arguments: Any, rule: Rule | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        axes = tuple(self.normalized_shape)
        if x.dim() < 2 + len(axes) or tuple(x.shape[-len(axes) :]) != axes:
            raise ShapeError(
                f"LayerNorm was built for last axes {list(axes)} of [T, B, …], time and batch not counted, got an "
                f"input of shape {tuple(x.shape)}"
            )
        normalise = self._plain if self.rule.constant_statistics is False else self._normalise
        return self.rule.outgoing(over_time(normalise, x))

    def _plain(self, x: Tensor) -> Tensor:
        """Normalise by torch's function, in which messages pass through the standard deviation too."""

        def scale(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)

        return scale(x, None, None) if self.weight is None else self.rule.affine(scale, x, self.weight, self.bias)

    def _normalise(self, x: Tensor) -> Tensor:
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(axes, keepdim=True)
        with torch.no_grad():
            scale = (centred.square().mean(axes, keepdim=True) + self.eps).rsqrt()
        if self.weight is None:
            return centred * scale
        return self.rule.affine(_scaled, centred * scale, self.weight, self.bias)


def _scaled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x * weight if bias is None else torch.addcmul(bias, x, weight)
