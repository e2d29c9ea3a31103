"""Find the first value that is not finite, and say where it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikelfp.errors import NonFiniteError
from spikelfp.nn.graph import Call, watching
from spikelfp.training.parallel import ALONE, World


def check_gradients(net: nn.Module, x: Tensor, step: int, world: World = ALONE) -> None:
    """Raise :class:`~spikelfp.errors.NonFiniteError` naming layer and step if any ``p.grad`` holds NaN or infinity.

    All workers have the same gradients, so all of them raise the same.
    """
    named = [(name, p.grad) for name, p in net.named_parameters() if p.grad is not None]
    if not named or torch.isfinite(torch.stack(torch._foreach_norm([g for _, g in named]))).all():
        return
    update = next((name for name, grad in named if not torch.isfinite(grad).all()), None)
    if update is None:  # their norm alone has overflowed
        return
    cause = Cause(
        f"the update of {update}",
        "outputs and weights are finite, so it comes from the reward or loss, or from the way back: if it was so from "
        "the first step on, look into them, else a smaller --lr, --clip 0.01 or --normalize-reward usually helps",
    )
    cause = next((found for found in world.gather(first_cause(net, x)) if found), cause)
    raise NonFiniteError(
        f"step {step}: {cause.what} is not finite; the weights are still those of the step before: {cause.advice}"
    )


class Cause(NamedTuple):
    """The first thing that is not finite, and what to do about it."""

    what: str
    advice: str


@torch.no_grad()
def first_cause(net: nn.Module, x: Tensor) -> Cause | None:
    """The first of: the input, a parameter, a layer's output that is not finite when ``net`` runs on ``x``."""
    if not torch.isfinite(x.values() if x.is_sparse else x).all():
        return Cause("the input", "look for NaN and infinity in the data (torch.isfinite)")
    for name, p in net.named_parameters():
        if not torch.isfinite(p).all():
            return Cause(
                f"the parameter {name}",
                "the network was started with it, or the optimiser's last step overflowed, against which a smaller "
                "--lr or --max-weight helps",
            )
    found: list[Cause] = []

    def look(call: Call) -> None:
        if isinstance(call.outputs, Tensor) and not torch.isfinite(call.outputs).all():
            advice = "its inputs and weights are finite, so their products overflow"
            advice += ": scale the inputs to [0, 1], and keep weights small by a smaller --lr or --max-weight"
            found.append(Cause(f"the output of layer {call.name} ({type(call.layer).__name__})", advice))

    with watching(net, look):
        net(x)
    return found[0] if found else None
