"""Random weights that bring an error to hidden layers, and the base of the methods that have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.data.loader import generator
from spikelfp.errors import UserError
from spikelfp.methods.base import Method
from spikelfp.options import option
from spikelfp.registry import Registry

feedback_inits: Registry[Callable[[int, int, torch.Generator], Tensor]] = Registry("feedback weights")
"""Feedback weights by name: functions ``(C, n, generator)`` to ``B`` ``[C, n]``, of ``C`` outputs and ``n`` neurons."""

Feedback = Annotated[str, option("fixed weights that bring the error to a hidden layer", names=feedback_inits)]


@feedback_inits.register("kaiming")
def kaiming(outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers in ``±1/√C`` (He et al. 2015, as torch starts ``Linear(C, n)``).

    Args:
        outputs: ``C``.
        width: ``n``.
        generator: source of the random numbers.
    """
    return (torch.rand(outputs, width, generator=generator) * 2 - 1) / math.sqrt(outputs)


@feedback_inits.register("trinomial")
def trinomial(outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw −1, 0 and 1 with equal chance (F³, section 4.3).

    Args:
        outputs: ``C``.
        width: ``n``.
        generator: source of the random numbers.
    """
    return torch.randint(-1, 2, (outputs, width), generator=generator).float()


@feedback_inits.register("binomial")
def binomial(outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw 0 and 1 with equal chance (F³, section 4.3).

    Args:
        outputs: ``C``.
        width: ``n``.
        generator: source of the random numbers.
    """
    return torch.randint(0, 2, (outputs, width), generator=generator).float()


@feedback_inits.register("identity")
def identity(outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Repeat the identity along the longer axis, with alternating signs: ``±I`` of F³, section 4.3.

    Args:
        outputs: ``C``.
        width: ``n``.
        generator: not used.
    """
    row, column = torch.arange(outputs).unsqueeze(1), torch.arange(width)
    short = min(outputs, width)
    repeat = torch.maximum(row, column) // short
    return torch.where(row % short == column % short, 1.0 - 2.0 * (repeat % 2), 0.0)


class FeedbackMethod(Method):
    """Base of the methods with random weights ``[C, n]`` of hidden layers, drawn from a seed when a layer first learns.

    Attributes:
        weights: of the layers that have learned, by name.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self._seed = 0
        self._net: Module | None = None

    def hidden_names(self) -> list[str]:
        """List the names of the layers that may have such weights."""
        raise NotImplementedError

    def prepare(self, net: Module) -> None:
        self._seed = int(torch.randint(2**62, ()))

    def state_dict(self) -> dict[str, Any]:
        """Copy the random weights of the layers that have learned, by name, and their seed."""
        return {"seed": torch.tensor(self._seed), "weights": {name: own.clone() for name, own in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        seed, weights = state.get("seed"), state.get("weights")
        if not isinstance(seed, Tensor) or seed.shape or not isinstance(weights, Mapping):
            raise UserError("seed and weights of the feedback are missing")
        hidden = self.hidden_names()
        for name, own in weights.items():
            if name not in hidden:
                raise UserError(f"there are feedback weights for {name}, and the hidden layers are {', '.join(hidden)}")
            if not isinstance(own, Tensor) or own.dim() != 2 or not own.is_floating_point():
                raise UserError(f"the feedback weights of {name} are no matrix [outputs, neurons]")
            if not torch.isfinite(own).all():
                raise UserError(f"the feedback weights of {name} are not finite")
        self._seed = int(seed)
        device = None if self._net is None else next((p.device for p in self._net.parameters()), None)
        self.weights = {name: own.to(device, copy=True) for name, own in weights.items()}

    def random_weights(self, name: str, init: str, outputs: int, width: int, like: Tensor) -> Tensor:
        """Return the random weights ``[C, n]`` of a hidden layer.

        Args:
            name: of the layer.
            init: name in :data:`feedback_inits`.
            outputs: ``C``.
            width: ``n``.
            like: a tensor of the dtype and on the device of the weights.

        Raises:
            UserError: for weights of another shape, such as those of a checkpoint of another network.
        """
        own = self.weights.get(name)
        if own is None:
            own = _checked(feedback_inits[init](outputs, width, generator("feedback", self._seed, name)), init)
        if own.shape != (outputs, width):
            raise UserError(
                f"the feedback weights of {name} are {list(own.shape)}, and the network has {outputs} outputs and "
                f"{width} neurons there: [{outputs}, {width}]"
            )
        own = self.weights[name] = own.to(like)
        return own


def _checked(weights: Tensor, name: str) -> Tensor:
    if not isinstance(weights, Tensor) or not torch.isfinite(weights).all():
        raise UserError(f"the feedback weights {name!r} are not a tensor of finite numbers")
    return weights
