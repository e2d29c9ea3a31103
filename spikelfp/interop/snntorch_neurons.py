r"""snnTorch's neurons and ours.

==================  ==========================  =============================================================
``snn.Leaky``       ``nn.LIF``                  ``U[t] = β U[t−1] + I[t] − θ S[t−1]``, or reset to zero
``snn.Synaptic``    ``nn.Synaptic``             ``Y[t] = α Y[t−1] + I[t]``, and the same with ``Y`` for ``I``
``snn.RLeaky``      ``nn.RecurrentLIF``         ``I[t] = X[t] + V S[t−1] + c``; sums in another order
``snn.Leaky``       ``nn.LI``                   ``reset_mechanism="none"``, read by its membrane
==================  ==========================  =============================================================

Both fire strictly above θ. Of snnTorch's resets (1.0.0), which depend on ``reset_delay``:

* ``subtract`` with delay is ours. Without delay it takes θ off twice where a membrane stays above θ, and then does
  not fire: nothing here does that, not our ``immediate`` either, which snnTorch does not have.
* ``zero`` restarts the membrane from 0 as ours. For ``Synaptic`` and ``RLeaky`` that holds without delay only: with
  it they also drop the input of the step after a spike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator, Reset
from spikelfp.interop.layers import Tensors, from_torch
from spikelfp.interop.peers import peer
from spikelfp.interop.refusal import ConversionError, check_no_hooks, refusal
from spikelfp.interop.values import constant_of
from spikelfp.nn.neurons.base import LEAST_DECAY


@dataclass(frozen=True)
class Options:
    """What the caller of the conversion has chosen."""

    tensors: Tensors
    denominator: Denominator
    membrane: bool  # whether this layer is read by its membrane


def neuron_classes() -> tuple[type[torch.nn.Module], ...]:
    """All of snnTorch's neurons, also those that do not convert."""
    snn = peer("snntorch")
    return (snn.SpikingNeuron, snn.LeakyParallel)


def from_neuron(name: str, neuron: Any, options: Options) -> nn.Layer:
    """The layer here that fires as ``neuron`` does; refused, by name, where there is none."""
    converters = {"Leaky": _leaky, "Synaptic": _synaptic, "RLeaky": _rleaky}
    kind = type(neuron).__name__
    if kind not in converters or type(neuron) is not getattr(peer("snntorch"), kind):
        raise refusal(
            name, neuron, "spikelfp has no such neurons",
            f"neurons that convert: {', '.join(f'snntorch.{known}' for known in converters)}",
        )  # fmt: skip
    _check_plain(name, neuron)
    try:
        return converters[kind](name, neuron, options)
    except ConversionError:
        raise
    except UserError as error:  # a constant out of range
        raise refusal(name, neuron, str(error), "change the value") from None


def _check_plain(name: str, neuron: Any) -> None:
    """Refuse what changes the spikes and has no counterpart here."""
    if neuron.inhibition:
        raise refusal(name, neuron, "inhibition lets only the strongest neuron fire", "use inhibition=False")
    if neuron.state_quant:
        raise refusal(
            name, neuron, "state_quant rounds its membrane",
            "use state_quant=False; hw_export quantises a trained network",
        )  # fmt: skip
    if constant_of(name, neuron, "graded_spikes_factor", neuron.graded_spikes_factor) != 1.0:
        raise refusal(
            name, neuron, "graded_spikes_factor scales its spikes",
            "use a factor of 1 and scale the weights behind it",
        )  # fmt: skip
    check_no_hooks(name, neuron)
    with torch.no_grad():
        below_at_above = neuron.spike_grad(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    if below_at_above != [0.0, 0.0, 1.0]:
        raise refusal(
            name, neuron, f"its spike_grad makes {below_at_above} of a membrane below, at and above the threshold",
            "use a surrogate whose forward pass is 1 above the threshold and else 0",
        )  # fmt: skip


def _does(neuron: Any) -> str:
    """Its reset. snnTorch fixes it in the state function when a neuron is built; the attributes only say so."""
    step = neuron.state_function.__name__
    return {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}.get(step, step)


def _reset(name: str, neuron: Any, zero_with_delay: bool) -> Reset:
    """Its reset here; ``zero_with_delay``: whether its delayed ``zero`` is ours."""
    does, says = _does(neuron), neuron.reset_mechanism
    if not does == says == list(neuron.reset_dict)[int(neuron.reset_mechanism_val)]:
        raise refusal(
            name, neuron, f"it resets by {does!r} although its reset_mechanism says {says!r}: snnTorch fixes the reset "
            "when a neuron is built",
            "build the neuron with the reset you mean",
        )  # fmt: skip
    if does == "none":
        raise refusal(
            name, neuron, 'with reset_mechanism="none" it fires at every step above threshold, and neurons here reset',
            'use "subtract" or "zero"; if it is the last layer and read by its membrane, '
            "from_snntorch(..., membrane_output=True) makes an nn.LI of it",
        )  # fmt: skip
    if does == "subtract" and not neuron.reset_delay:
        raise refusal(
            name, neuron, "snnTorch's subtraction without delay takes the threshold off twice where a membrane stays "
            "above it",
            'use reset_delay=True (snnTorch\'s default) or reset_mechanism="zero"',
        )  # fmt: skip
    if does == "zero" and neuron.reset_delay and not zero_with_delay:
        raise refusal(
            name, neuron, f"{type(neuron).__name__} with a delayed reset to zero drops the input after each spike",
            'use reset_delay=False, which restarts the membrane from 0, or reset_mechanism="subtract"',
        )  # fmt: skip
    return "zero" if does == "zero" else "subtract"


def _beta(name: str, neuron: Any) -> tuple[float, torch.nn.Parameter | None]:
    """Its decay as snnTorch clamps it, and the parameter where it learns."""
    beta = neuron.beta
    if not beta.requires_grad:
        return _clamped(name, neuron, "beta"), None
    if beta.dim() > 0 or not LEAST_DECAY <= float(beta.detach()) <= 1.0:
        raise refusal(
            name, neuron, f"a decay that learns is one number in [{LEAST_DECAY}, 1] here, got {beta.detach().tolist()}",
            "use one number, or hold it at its value with layer.beta.requires_grad_(False)",
        )  # fmt: skip
    return float(beta.detach()), beta


def _clamped(name: str, neuron: Any, what: str) -> float:
    return min(max(constant_of(name, neuron, what, getattr(neuron, what)), 0.0), 1.0)


def _threshold(name: str, neuron: Any) -> float:
    return constant_of(name, neuron, "threshold", neuron.threshold)


def _with_decay(layer: nn.Neurons, decay: torch.nn.Parameter | None, options: Options) -> nn.Neurons:
    if decay is not None:
        layer.decay = options.tensors.own(decay)
    return layer


def _leaky(name: str, neuron: Any, options: Options) -> nn.Layer:
    if options.membrane:
        return _integrator(name, neuron)
    beta, decay = _beta(name, neuron)
    reset, threshold = _reset(name, neuron, zero_with_delay=True), _threshold(name, neuron)
    if beta == threshold == 0 and reset == "zero":
        return nn.Heaviside()
    return _with_decay(nn.LIF(beta, threshold, reset, options.denominator), decay, options)


def _integrator(name: str, neuron: Any) -> nn.Layer:
    if _does(neuron) != "none":
        raise refusal(
            name, neuron, "membrane_output=True asks for its membrane, which spikes reset; nn.LI has no reset",
            'use reset_mechanism="none" for neurons that are read by their membrane',
        )  # fmt: skip
    return nn.LI(_clamped(name, neuron, "beta"))


def _synaptic(name: str, neuron: Any, options: Options) -> nn.Layer:
    (beta, decay), alpha = _beta(name, neuron), _clamped(name, neuron, "alpha")
    reset, threshold = _reset(name, neuron, zero_with_delay=False), _threshold(name, neuron)
    return _with_decay(nn.Synaptic(alpha, beta, threshold, reset, options.denominator), decay, options)


def _rleaky(name: str, neuron: Any, options: Options) -> nn.Layer:
    if not neuron.all_to_all:
        raise refusal(
            name, neuron, "connections from each neuron to itself alone (all_to_all=False) have no layer here",
            "use all_to_all=True with linear_features or conv2d_channels",
        )  # fmt: skip
    beta, decay = _beta(name, neuron)
    reset, threshold = _reset(name, neuron, zero_with_delay=False), _threshold(name, neuron)
    recurrent = from_torch(f"{name}.recurrent", neuron.recurrent, options.tensors)
    return _with_decay(nn.RecurrentLIF(recurrent, beta, threshold, reset, options.denominator), decay, options)
