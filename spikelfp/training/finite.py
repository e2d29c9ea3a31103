"""Find the first value that is not finite, and say where it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikelfp.errors import NonFiniteError
from spikelfp.nn import leaves
from spikelfp.training.parallel import ALONE, World


def check_gradients(net: nn.Module, x: Tensor, step: int, world: World = ALONE) -> None:
    """Raise :class:`~spikelfp.errors.NonFiniteError` naming layer and step if any ``p.grad`` holds NaN or infinity.

    All workers have the same gradients, so all of them raise the same.
    """
    named = [(name, p.grad) for name, p in net.named_parameters() if p.grad is not None]
    if not named or torch.isfinite(torch.stack(torch._foreach_norm([g for _, g in named]))).all():
        return
    update = next(f"the update of {name}" for name, grad in named if not torch.isfinite(grad).all())
    culprit = next((found for found in world.gather(first_layer(net, x)) if found), update)
    raise NonFiniteError(
        f"step {step}: {culprit} is not finite; the weights are still those of the step before. "
        "A smaller --lr, --clip 0.01 or --normalize-reward usually helps"
    )


@torch.no_grad()
def first_layer(net: nn.Module, x: Tensor) -> str | None:
    """The first of: the input, a parameter, a layer's output that is not finite when ``net`` runs on ``x``."""
    if not torch.isfinite(x.values() if x.is_sparse else x).all():
        return "the input"
    for name, p in net.named_parameters():
        if not torch.isfinite(p).all():
            return f"the parameter {name}"
    found: list[str] = []

    def look(name: str, kind: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"the output of layer {name} ({kind})")

        return hook

    names = {layer: name for name, layer in net.named_modules()}
    handles = [layer.register_forward_hook(look(names[layer], type(layer).__name__)) for layer in leaves(net)]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
