r"""The leaky integrator as one differentiable operation::

    U[t] = β U[t−1] + I[t]                     forward
    M[t] = m[t] + β M[t+1]                     backward: message to I[t], from messages m to the membranes

It is a linear map of the input sequence, so under every rule its backward pass is autograd's own: its transpose,
the same integration run backwards in time.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.functional.lif import Constant
from spikelfp.kernels import scan_for


class LeakyIntegration(Function):
    """``(I [T, …], U before the first step […], β) → U [T, …]``."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, start: Tensor, beta: Constant) -> Tensor:
        ctx.beta = beta
        return scan_for(current).integrate(current, start, beta, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, Tensor, None]:
        messages = scan_for(message).integrate(message, message.new_zeros(message.shape[1:]), ctx.beta, True)
        return messages, ctx.beta * messages[0], None
