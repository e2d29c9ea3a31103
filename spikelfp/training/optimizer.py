"""Optimisers by name; any other torch optimiser can be handed to a trainer: a class, a function or an object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from spikelfp.errors import UserError
from spikelfp.options import option
from spikelfp.registry import Registry

MakeOptimizer = Callable[[Iterable[Parameter], float], Optimizer]

DEFAULT_LR = 3e-3
"""Learning rate of a trainer that is given none."""


class Momentum(torch.optim.SGD):
    """Momentum as in LFP v3, eq. 5 (v1, eq. 5), which averages the updates::

        d = α d_old + (1 − α) d_lfp        w ← w + η d        (d_old: the d of the step before, 0 at first)

    torch's SGD with ``momentum=α`` sums them, ``d = α d_old + d_lfp``: steps of 1 / (1 − α) times the size. With
    ``dampening=α`` it averages, except that it starts from ``d_lfp``; here its memory starts at zeros.

    lr: η. alpha: α in [0, 1). weight_decay: λ of ``d_lfp − λ w`` in place of ``d_lfp``.
    """

    def __init__(self, params: Iterable[Any], lr: float, alpha: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(
            params, lr=_positive(lr), momentum=_share(alpha), dampening=alpha, weight_decay=_decay(weight_decay)
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            self.state[p]["momentum_buffer"] = torch.zeros_like(p)


optimizers: Registry[Callable[..., Optimizer]] = Registry("optimizer", takes=("parameters", "params", "lr"))
"""Functions ``(parameters, lr, *, options…)``, or classes."""

Share = Annotated[float, option("α of momentum (v3 eq. 5) and of sgd", within="[0, 1)")]
Decay = Annotated[float, option("λ of λw, taken from every update w", within="[0, ∞)")]


@optimizers.register("adam")
def adam(parameters: Iterable[Parameter], lr: float, *, weight_decay: Decay = 0.0) -> Optimizer:
    """Adam with β₁ = 0.9 and β₂ = 0.99, fused.

    Updates by reward come in bursts, as neurons fall silent or wake; a second moment that remembers 100 steps
    follows them better than one that remembers 1000 (docs/training.md has the comparison).
    """
    decay = _decay(weight_decay)
    return torch.optim.Adam(parameters, lr=_positive(lr), betas=(0.9, 0.99), weight_decay=decay, fused=True)


@optimizers.register("sgd")
def sgd(parameters: Iterable[Parameter], lr: float, *, momentum: Share = 0.9, weight_decay: Decay = 0.0) -> Optimizer:
    """Stochastic gradient descent with momentum as torch has it: updates are summed, not averaged."""
    return torch.optim.SGD(parameters, lr=_positive(lr), momentum=_share(momentum), weight_decay=_decay(weight_decay))


@optimizers.register("momentum")
def momentum(
    parameters: Iterable[Parameter], lr: float, *, momentum: Share = 0.9, weight_decay: Decay = 0.0
) -> Optimizer:
    """:class:`Momentum`, eq. 5."""
    return Momentum(parameters, lr, momentum, weight_decay)


def make_optimizer(chosen: Any, net: torch.nn.Module, lr: float | None) -> Optimizer:
    """Make the optimiser of a network.

    Args:
        chosen: a name of :data:`optimizers`, a function ``(parameters, lr)`` or ``(parameters)``, a class of torch's,
            or an optimiser over parameters of the network.
        net: the network.
        lr: learning rate; ``None`` for :data:`DEFAULT_LR`, or that of the object.

    Raises:
        UnknownNameError: for a name that no optimiser has.
        UserError: for an optimiser that holds parameters of another network or cannot step from ``p.grad``, for a
            network with nothing to train, and for what the optimiser itself refuses.
    """
    parameters = list(net.parameters())
    if not any(p.requires_grad for p in parameters):
        raise UserError(f"{type(net).__name__} has no parameter that requires grad, so there is nothing to train")
    if any(p.dtype == torch.float16 for p in parameters):
        raise UserError(
            "weights in float16 are too coarse for updates, which underflow: train net.float() (or net.bfloat16()) and "
            "take net.half() afterwards"
        )
    if isinstance(chosen, Optimizer):
        return _own(chosen, net, lr)
    rate = DEFAULT_LR if lr is None else lr
    try:
        if isinstance(chosen, str):
            made = optimizers[chosen](parameters, rate)
        elif isinstance(chosen, type) and issubclass(chosen, Optimizer):
            made = chosen(parameters, lr=_positive(rate))  # type: ignore[call-arg]
        elif not callable(chosen):
            raise UserError(f"an optimizer is a name, a class, a function or an object of torch.optim, got {chosen!r}")
        else:
            made = chosen(parameters) if positional(chosen) == 1 else chosen(parameters, rate)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the optimiser cannot be made: {str(error).splitlines()[0]}") from None
    if not isinstance(made, Optimizer):
        raise UserError(f"the function for the optimiser returned {type(made).__name__}, not a torch.optim.Optimizer")
    return _own(made, net, None)


def positional(function: Callable[..., Any]) -> int:
    """Count the arguments a function takes by position; 2 where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _own(optimizer: Optimizer, net: torch.nn.Module, lr: float | None) -> Optimizer:
    """The optimiser, checked to be able to train the network."""
    kind = type(optimizer).__name__
    if lr is not None:
        raise UserError(f"lr={lr} and an optimiser that is made already: its learning rate is its own, leave out lr")
    step = inspect.signature(type(optimizer).step).parameters.get("closure")
    if isinstance(optimizer, torch.optim.LBFGS) or (step is not None and step.default is step.empty):
        raise UserError(
            f"{kind} runs a batch several times through a closure and compares losses, which a reward has not: choose "
            "an optimiser that steps once from p.grad, such as adam"
        )
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise UserError("SparseAdam takes sparse gradients, and those of a network are dense: choose Adam")
    known = {id(p) for p in net.parameters()}
    foreign = sum(id(p) not in known for group in optimizer.param_groups for p in group["params"])
    if foreign:
        raise UserError(
            f"the optimiser holds {foreign} parameters that are not of this network: make it of net.parameters(), "
            "after the last conversion of the network"
        )
    return optimizer


def describe(optimizer: Optimizer) -> str:
    """Write an optimiser in one line: its class and its options that are numbers."""
    numbers = ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                        for name, value in options_of(optimizer).items() if value)  # fmt: skip
    return f"{type(optimizer).__name__}({numbers})"


def group_options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Copy the options of each parameter group, without the parameters."""
    return [
        {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in group.items()
         if name != "params"}
        for group in optimizer.param_groups
    ]  # fmt: skip


def reset_groups(optimizer: Optimizer, options: list[dict[str, Any]]) -> None:
    """Put parameter groups back to the ``options`` that they had, for a new schedule to start from."""
    for group, own in zip(optimizer.param_groups, options, strict=True):
        for name in [name for name in group if name != "params" and name not in own]:
            del group[name]  # what a schedule has added
        group.update({name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in own.items()})


def plain_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Find the options of parameter groups that are numbers, for a checkpoint to compare."""
    keep = (int, float, tuple)
    return [
        {name: float(value) if isinstance(value, torch.Tensor) else value for name, value in group.items()
         if isinstance(value, (torch.Tensor, *keep)) and not isinstance(value, bool)}
        for group in groups
    ]  # fmt: skip


def options_of(optimizer: Optimizer) -> dict[str, Any]:
    """The numbers an optimiser was made with: learning rate, momenta, weight decay, …"""
    numbers = {name: value for name, value in optimizer.defaults.items() if isinstance(value, (int, float, tuple))}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def _positive(lr: float) -> float:
    if not 0 < lr < float("inf"):
        raise UserError(f"the learning rate must be a finite number above 0, got {lr}")
    return lr


def _share(momentum: float) -> float:
    if not 0 <= momentum < 1:
        raise UserError(f"the momentum must be at least 0 and below 1 (at 1 no update arrives), got {momentum}")
    return momentum


def _decay(weight_decay: float) -> float:
    if not 0 <= weight_decay < float("inf"):
        raise UserError(f"the weight decay must be a finite number of 0 or more, got {weight_decay}")
    return weight_decay
