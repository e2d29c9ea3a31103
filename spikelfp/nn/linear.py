"""Dense layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import is_constant, is_sparse, repeat
from spikelfp.kernels.events import linear as products
from spikelfp.nn.layer import Quantizable, check_kind, spares_silent, sparse_input
from spikelfp.rules import Rule


class Linear(torch.nn.Linear, Quantizable):
    """``I[t] = W X[t] + b``: ``[T, B, …, in]`` to ``[T, B, …, out]``; parameters as in ``torch.nn.Linear``.

    Sparse inputs, such as spikes, are multiplied event by event (:mod:`spikelfp.kernels.events`). Under an LFP rule no
    message is computed for neurons that did not fire, since they earn nothing: a hook on their spikes sees 0 there.

    A sparse sequence (COO, :mod:`spikelfp.functional.sequence`) is multiplied by its entries alone, and no dense one is
    made of it, nor a message to it. Where event-driven products do not run (CUDA, float16, autocast,
    ``SPIKELFP_EVENTS=never``) there is only the dense product: it is made dense for that. ``torch.compile`` leaves
    layers that are given one as they are.
    """

    fires = False
    has_weights = True
    arguments = ("in_features", "out_features", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rule: Rule | None = None, **options: Any
    ) -> None:
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
        rule, active_only = self.rule, spares_silent(self.rule, x)
        x = rule.incoming(x)
        if is_constant(x):
            return rule.outgoing(repeat(self._product(x[0], False), len(x)))
        return rule.outgoing(self._product(x, active_only))

    def _product(self, x: Tensor, active_only: bool) -> Tensor:
        op = partial(products.linear, choice=self.choice, active_only=active_only)
        return self.product(op, x)
