"""Backward passes that cannot be differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from spikelfp.errors import UserError


def no_second_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate ``backward`` of an autograd function so that it refuses to be part of a second derivative.

    Torch's decorator of this name only refuses where the gradient that arrives has a graph. At the end of a network it
    has none, and a penalty on gradients would be left out of the loss in silence.

    Raises:
        UserError: by the decorated function, in a backward pass with ``create_graph=True``.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *arrived: Any) -> Any:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            name = backward.__qualname__.partition(".")[0]
            events = name in ("EventLinear", "EventConvolution", "BlockedConvolution")
            instead = "set SPIKELFP_EVENTS=never, or " if events else ""
            raise UserError(
                f"create_graph=True asks for second derivatives, as a penalty on gradients or a Hessian does, and "
                f"{name} of this package has none: {instead}leave it out"
            )
        return backward(ctx, *arrived)

    return checked
