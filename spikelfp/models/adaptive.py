"""Networks whose hidden neurons have thresholds that rise with every spike."""

from __future__ import annotations

from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.nn import graph


def make_adaptive(net: torch.nn.Module, phi: float = 0.2, rho: float = 0.97) -> None:
    """Replace the LIF neurons of hidden layers by :class:`spikelfp.nn.ALIF`, in place.

    Recurrent ones become :class:`spikelfp.nn.RecurrentALIF` with the same connections. Neurons keep their constants and
    rules, and decays that learn go on learning. The output layer keeps its threshold: there, a rise would take from the
    class that is ahead::

        net = models.lif_mlp([700, 256, 20])
        models.make_adaptive(net, phi=0.2, rho=0.97)

    Args:
        net: the network.
        phi: rise of the threshold by a spike, 0 or more, in units of the membrane.
        rho: decay of the rise per step, (0, 1].

    Raises:
        UserError: for hidden neurons of another kind, and a network without hidden neurons; nothing is changed then.
    """
    last, made = graph.last_layer(net), dict[nn.Neurons, nn.Neurons]()
    hidden = [  # neurons that stand in several places are one also then
        (name, layer) for name, layer in net.named_modules(remove_duplicate=False)
        if isinstance(layer, nn.Neurons) and layer is not last
    ]  # fmt: skip
    for name, layer in hidden:
        if layer in made:
            continue
        if type(layer) not in (nn.LIF, nn.RecurrentLIF):
            raise UserError(
                f"layer {name} is a {type(layer).__name__}, which has no form with a threshold that rises: take a "
                "network of nn.LIF or nn.RecurrentLIF (lif-mlp, lif-conv, lif-rnn), or leave out --adapt"
            )
        options: dict[str, Any] = {
            "threshold": layer.threshold, "reset": layer.reset, "denominator": layer.denominator,
            "rho": rho, "phi": phi, "floor": layer.floor, "margin": layer.margin, "rule": vars(layer).get("_own_rule"),
        }  # fmt: skip
        connections = layer.recurrent if isinstance(layer, nn.RecurrentLIF) else None
        own = nn.ALIF(**options) if connections is None else nn.RecurrentALIF(connections, **options)
        if layer.decay is None:
            own.beta = layer.beta
        else:
            own.decay = layer.decay
        made[layer] = own
    if not made:
        raise UserError("the network has no hidden neurons whose thresholds could rise: choose --hidden, or no --adapt")
    for name, layer in hidden:
        holder, _, place = name.rpartition(".")
        setattr(net.get_submodule(holder), place, made[layer])
