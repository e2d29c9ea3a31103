"""Networks of this package as snnTorch models."""

from __future__ import annotations

from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.interop.chain import check_once, layers_of, renamed
from spikelfp.interop.layers import Tensors, to_torch
from spikelfp.interop.peers import peer
from spikelfp.interop.refusal import refusal
from spikelfp.nn.neurons.base import check_one_number

NEURONS = (nn.Neurons, nn.Heaviside, nn.LI)


def to_snntorch(net: torch.nn.Module, *, copy: bool = False, output: bool = False) -> torch.nn.Sequential:
    """The same network as a ``torch.nn.Sequential`` of torch's layers and snnTorch's neurons, with the same spikes.

    Its neurons have ``init_hidden=True``, as in ``snntorch.backprop``: reset them before a sequence, then call the
    model once a step with ``[B, …]``::

        snntorch.utils.reset(model)
        spikes = torch.stack([model(step) for step in x])

    It **shares its parameters** with ``net``; ``copy=True`` clones them. output: the last neurons also return their
    membrane (snnTorch's ``output=True``). A last :class:`~spikelfp.nn.LI` becomes ``Leaky(reset_mechanism="none",
    output=True)``, whose second output is the membrane. Rules and denominators belong to training and stay behind.
    Nested containers are opened, since ``utils.reset`` does not look into them: ``0.1`` becomes ``0_1``.

    Raises :class:`~spikelfp.errors.UserError`, with the name of the layer and the reason, for what snnTorch does not
    have.
    """
    chain = layers_of(net)
    check_once(chain, NEURONS)
    tensors, like = Tensors(copy), _like(net)
    converted = []
    for k, (name, layer) in enumerate(chain):
        last = k == len(chain) - 1
        if isinstance(layer, NEURONS):
            converted.append((name, _neuron(name, layer, tensors, like, last, output and last)))
        else:
            converted.append((name, to_torch(name, layer, tensors, "snnTorch")))
    return torch.nn.Sequential(renamed(converted)).train(net.training)


def _neuron(
    name: str, layer: torch.nn.Module, tensors: Tensors, like: torch.Tensor, last: bool, output: bool
) -> torch.nn.Module:
    """snnTorch's neurons for ``layer``, their constants on the device of ``like``."""
    check_one_number(name, layer, "snnTorch's neurons are written with")
    snn = peer("snntorch")
    options: dict[str, Any] = {"init_hidden": True, "output": output, "reset_mechanism": "zero"}
    if type(layer) is nn.Heaviside:  # S = 1 where I > 0: no memory, and a threshold of 0
        return snn.Leaky(beta=like.new_tensor(0.0), threshold=like.new_tensor(0.0), **options)
    if type(layer) is nn.LI:
        if not last:
            raise refusal(
                name, layer, "inside a network snnTorch's neurons hand on spikes, not membranes",
                "use leaky integrators as the last layer",
            )  # fmt: skip
        return snn.Leaky(beta=like.new_tensor(layer.beta), reset_mechanism="none", init_hidden=True, output=True)
    if not isinstance(layer, nn.Neurons) or type(layer) not in (nn.LIF, nn.Synaptic, nn.RecurrentLIF):
        raise refusal(name, layer, "snnTorch has no such neurons", "use LIF, Synaptic, RecurrentLIF or Heaviside")
    if layer.reset == "immediate":
        raise refusal(
            name, layer, "snnTorch subtracts one step after a spike, and without that delay takes the threshold off "
            "twice where a membrane stays above it",
            'train with reset="subtract" or "zero"',
        )  # fmt: skip
    options |= {
        "beta": like.new_tensor(layer.beta),
        "threshold": like.new_tensor(layer.threshold),
        "reset_mechanism": layer.reset,
    }
    neuron: Any
    if type(layer) is nn.LIF:
        neuron = snn.Leaky(**options)
    elif type(layer) is nn.Synaptic:
        alpha = like.new_tensor(layer.alpha)
        neuron = snn.Synaptic(alpha=alpha, reset_delay=layer.reset == "subtract", **options)
    else:
        assert isinstance(layer, nn.RecurrentLIF)
        neuron = _recurrent(name, layer, tensors, options)
    neuron.to(like.device)
    if layer.decay is not None:
        del neuron.beta
        neuron.beta = tensors.own(layer.decay)
    return neuron


def _recurrent(name: str, layer: nn.RecurrentLIF, tensors: Tensors, options: dict[str, Any]) -> Any:
    snn = peer("snntorch")
    connections = to_torch(f"{name}.recurrent", layer.recurrent, tensors, "snnTorch")
    if isinstance(connections, torch.nn.Linear):
        shape: dict[str, Any] = {"linear_features": connections.out_features}
    elif isinstance(connections, torch.nn.Conv2d):
        shape = {"conv2d_channels": connections.out_channels, "kernel_size": connections.kernel_size}
    else:
        raise refusal(
            f"{name}.recurrent", layer.recurrent, "snntorch.RLeaky connects its neurons by Linear or Conv2d",
            "use nn.Linear or nn.Conv2d",
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # the weights it draws are replaced
        neuron = snn.RLeaky(reset_delay=layer.reset == "subtract", **shape, **options)
    neuron.recurrent = connections
    return neuron


def _like(net: torch.nn.Module) -> torch.Tensor:
    """A float32 tensor on the device of the parameters of ``net``; refused for parameters of another dtype."""
    for name, parameter in net.named_parameters():
        if parameter.dtype != torch.float32:
            raise UserError(
                f"parameter {name!r} is {parameter.dtype}, and snnTorch's spikes are always float32, which its next "
                "layer would not take: convert net.float()"
            )
    return next((p.detach() for p in net.parameters()), torch.zeros(0))
