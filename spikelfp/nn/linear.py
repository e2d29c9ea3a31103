"""Layers with weights: dense products and convolutions, event by event where that pays."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.checks import whole
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import earners
from spikelfp.functional.sequence import is_constant, is_sparse, over_time, repeat
from spikelfp.kernels.events import linear as products
from spikelfp.kernels.events.conv import conv_choice, convolve
from spikelfp.kernels.events.conv_kernels import Steps
from spikelfp.kernels.events.sparse import merge
from spikelfp.nn.layer import Quantizable, check_kind, check_windows, spares_silent, sparse_input
from spikelfp.rules import Rule


class Linear(torch.nn.Linear, Quantizable):
    """``I[t] = W X[t] + b``: ``[T, B, …, in]`` to ``[T, B, …, out]``; parameters as in ``torch.nn.Linear``.

    Sparse inputs, such as spikes, are multiplied event by event (:mod:`spikelfp.kernels.events`). Under an LFP rule no
    message is computed for neurons that did not fire, since they earn nothing: a hook on their spikes sees 0 there.
    With a margin those above it get theirs.

    A sparse sequence (COO, :mod:`spikelfp.functional.sequence`) is multiplied entry by entry. It is never made dense,
    and gets no message. Where event-driven products do not run (CUDA, float16, autocast, ``SPIKELFP_EVENTS=never``) it
    is made dense for the dense product. ``torch.compile`` leaves layers with sparse inputs as they are.

    Args:
        in_features: features of the input.
        out_features: features of the output.
        bias: whether there is a bias ``b``.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.Linear``, such as ``device`` and ``dtype``.

    Raises:
        UserError: for sizes that are no whole numbers.
        ShapeError: for inputs of another shape or dtype.
    """

    fires = False
    has_weights = True
    arguments = ("in_features", "out_features", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rule: Rule | None = None, **options: Any
    ) -> None:
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            whole(f"{name} of {type(self).__name__}", size)
        super().__init__(in_features, out_features, bias, **options)
        self.rule = rule
        self.choice = products.linear_choice()

    def forward(self, x: Tensor) -> Tensor:
        check_kind(self, x, self.weight)
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, features]")
        if x.shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear was built for {self.in_features} input features, got {x.shape[-1]} (shape {tuple(x.shape)})"
            )
        if is_sparse(x):
            x = sparse_input(self, x)
        rule, active_only, heard = self.rule, spares_silent(self.rule, x), earners(x)
        x = rule.incoming(x)
        if is_constant(x):
            return rule.outgoing(repeat(self._product(x[0], False), len(x)))
        return rule.outgoing(self._product(x, active_only, heard))

    def _product(self, x: Tensor, active_only: bool, heard: products.Heard | None = None) -> Tensor:
        op = partial(products.linear, choice=self.choice, active_only=active_only, heard=heard)
        return self.product(op, x)


class Conv2d(torch.nn.Conv2d, Quantizable):
    """Convolution of every step, ``[T, B, C, H, W]``; arguments and parameters of ``torch.nn.Conv2d``.

    Sparse inputs, such as spikes, are convolved event by event (:mod:`spikelfp.kernels.events`). Under an LFP rule no
    message is computed for neurons that did not fire, since they earn nothing: a hook on their spikes sees 0 there.
    With a margin those above it get theirs.

    A sparse sequence (COO, :mod:`spikelfp.functional.sequence`) is convolved entry by entry. It is never made dense,
    and gets no message. Where event-driven convolutions do not run (as for :class:`~spikelfp.nn.Linear`, and with
    dilation, groups or a padding other than zeros) it is made dense for the dense convolution.

    Args:
        *arguments: arguments of ``torch.nn.Conv2d``.
        rule: rule of this layer alone.
        **options: keyword arguments of ``torch.nn.Conv2d``.

    Raises:
        UserError: for a stride below 1.
        ShapeError: for inputs of another shape or dtype.
    """

    fires = False
    has_weights = True
    arguments = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
    )  # fmt: skip

    def __init__(self, *arguments: Any, rule: Rule | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if any(stride < 1 for stride in self.stride):
            raise UserError(f"the stride of a Conv2d is at least 1, got {self.stride}")
        self.rule = rule
        self.choice = conv_choice()

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x, 1)

    def pooled(self, x: Tensor, side: int) -> Tensor:
        """Convolve, then max-pool in squares, as one operation that keeps no unpooled output.

        Args:
            x: inputs ``[T, B, C, H, W]``.
            side: of the squares; 1 for no pooling. Above 1 only under rules that make one product
                (:attr:`~spikelfp.rules.Rule.one_product`).
        """
        check_kind(self, x, self.weight)
        self._expect(x, 5, "[T, B, channels, height, width]")
        if x.shape[2] != self.in_channels:
            raise ShapeError(
                f"Conv2d was built for {self.in_channels} input channels, got {x.shape[2]} (shape {tuple(x.shape)})"
            )
        check_windows(self, x, self.kernel_size, self.padding, self.dilation)
        if side > 1 and min(self._sides(x)) < side:
            raise ShapeError(
                f"MaxPool2d has windows of {side}×{side} pixels, which do not fit the outputs of the Conv2d before it, "
                f"images of {'×'.join(map(str, self._sides(x)))}: take smaller windows, or fewer layers before them "
                "that make images smaller"
            )
        if is_sparse(x):
            x = sparse_input(self, x)
        rule, steps, active_only, heard = self.rule, self._steps(), spares_silent(self.rule, x), earners(x)
        x = rule.incoming(x)
        if steps is None:
            op = partial(self._as_torch, side=side)
        else:
            op = partial(convolve, choice=self.choice, steps=steps, pool=side, active_only=active_only, heard=heard)
        if x.is_sparse:
            return rule.outgoing(self.product(op, merge(x, 0, 1)).unflatten(0, x.shape[:2]))
        return rule.outgoing(over_time(lambda step: self.product(op, step), x))

    def _as_torch(self, x: Tensor, weight: Tensor, bias: Tensor | None, side: int) -> Tensor:
        out = self._conv_forward(x.to_dense() if x.is_sparse else x, weight, bias)
        return F.max_pool2d(out, side) if side > 1 else out

    def _sides(self, x: Tensor) -> list[int]:
        """Height and width of the outputs."""
        if self.padding == "same":
            return list(x.shape[-2:])
        padding = (0, 0) if isinstance(self.padding, str) else self.padding
        geometry = zip(x.shape[-2:], self.kernel_size, self.stride, padding, self.dilation, strict=True)
        return [(length + 2 * pad - apart * (size - 1) - 1) // step + 1 for length, size, step, pad, apart in geometry]

    def _steps(self) -> Steps | None:
        """Strides and padding for the kernels; ``None`` unless the padding is as many zeros on either side."""
        if self.padding_mode != "zeros":
            return None
        padding = self.padding
        if isinstance(padding, str):
            whole = [
                0 if padding == "valid" else dilation * (kernel - 1)
                for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True)
            ]
            if any(total % 2 for total in whole):
                return None
            padding = tuple(total // 2 for total in whole)
        return Steps(self.stride, padding, self.dilation, self.groups)  # type: ignore[arg-type]
