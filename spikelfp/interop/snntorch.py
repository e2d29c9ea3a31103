r"""Networks of this package from and to snnTorch.

==================  ==========================  =============================================================
``snn.Leaky``       ``nn.LIF``                  ``U[t] = β U[t−1] + I[t] − θ S[t−1]``, or reset to zero
``snn.Synaptic``    ``nn.Synaptic``             ``Y[t] = α Y[t−1] + I[t]``, and the same with ``Y`` for ``I``
``snn.RLeaky``      ``nn.RecurrentLIF``         ``I[t] = X[t] + V S[t−1] + c``; sums in another order
``snn.Lapicque``    ``nn.Lapicque``             its circuit, ``R`` and ``C``; subtracting reset
``snn.Alpha``       ``nn.Alpha``                two synapses; reset to zero
``snn.Leaky``       ``nn.LI``                   ``reset_mechanism="none"``, read by its membrane
==================  ==========================  =============================================================

Both fire strictly above θ. Of snnTorch's resets (1.0.0), which depend on ``reset_delay``:

* ``subtract`` with delay is ours. Without delay it takes θ off twice where a membrane stays above θ, and then does
  not fire: nothing here does that, not our ``immediate`` either, which snnTorch does not have.
* ``zero`` restarts the membrane from 0 as ours. For ``Synaptic`` and ``RLeaky`` that holds without delay only: with
  it they also drop the input of the step after a spike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset
from spikelfp.interop.base import (
    AS_LIST,
    Chain,
    ConversionError,
    Tensors,
    TracedLayer,
    chain_of_list,
    check_credit,
    check_no_hooks,
    check_once,
    constant_of,
    flat_names,
    from_torch,
    layer_chain,
    number_of,
    peer,
    refusal,
    to_torch,
    trace,
    with_credit,
)
from spikelfp.nn import graph
from spikelfp.nn.neurons.base import LEAST_DECAY
from spikelfp.registry import check_name


def from_snntorch(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    *,
    example: Tensor | tuple[Any, ...] | None = None,
    copy: bool = False,
    denominator: Denominator = "inflow",
    floor: float = FLOOR,
    margin: float = MARGIN,
    membrane_output: bool = False,
) -> nn.Sequential:
    """Convert a snnTorch network to an :class:`spikelfp.nn.Sequential`: ``[T, B, …]`` to the same spikes ``[T, B, …]``.

    It **shares its parameters** with ``model``: training it trains ``model`` in place. So does moving it to another
    device, which leaves snnTorch's own constants where they are: move ``model`` first. ``copy=True`` clones the
    parameters.

    Decays and thresholds of each neuron are copied; a decay that learns (``learn_beta``) is shared like a weight.
    Layers keep their names, with dots as underscores. Surrogate gradients are left out: LFP has none. Two layers train
    differently, though they agree in evaluation mode: Dropout draws one mask a sequence, not a step, and batch norm
    takes its statistics over the sequence.

    Args:
        model: a ``Sequential`` of snnTorch's neurons (with ``init_hidden`` or without) and layers of torch or of
            :mod:`spikelfp.nn`, a list of layers in the order they run, or any module with its own forward, together
            with ``example``.
        example: an input of that forward, or the tuple of all its arguments. The forward is run once on it, in
            evaluation mode and from rest, to find its layers and check that they form a chain; the output of every
            converted layer is compared. Layers that the forward never calls are left out, and so is what it does with
            the last spikes.
        copy: whether parameters are cloned.
        denominator: how the reward on a membrane is normalised (:class:`spikelfp.nn.LIF`); snnTorch has none.
        floor: least denominator, in units of the threshold, likewise.
        margin: share of the threshold above which a membrane earns its message, likewise.
        membrane_output: whether the last neurons, with ``reset_mechanism="none"``, are read by their membrane: they
            become an :class:`spikelfp.nn.LI`.

    Raises:
        UserError: with the name of the layer and the reason, for a layer that cannot be converted, and for a forward
            that is no chain of layers.
    """
    check_name("denominator", denominator, get_args(Denominator))
    credit = check_credit(floor, margin)
    neurons = neuron_classes()

    def is_theirs(module: torch.nn.Module) -> bool:
        return isinstance(module, neurons)

    seen: list[TracedLayer] = []
    if example is not None and isinstance(model, torch.nn.Module):
        seen = trace(model, example, is_theirs)
        chain: Chain = [(layer.name, layer.layer) for layer in seen]
    else:
        chain = _stated(model)
    if not chain:
        raise UserError("the model has no layers")
    check_once(chain, is_theirs)
    last = max((k for k, (_, layer) in enumerate(chain) if is_theirs(layer)), default=-1)
    if membrane_output and last != len(chain) - 1:
        raise refusal(*chain[-1], "membrane_output=True reads neurons, and it has none", "leave membrane_output out")
    tensors = Tensors(copy)
    converted = []
    for k, (name, layer) in enumerate(chain):
        if is_theirs(layer):
            options = Options(tensors, denominator, membrane_output and k == last)
            made = from_neuron(name, layer, options)
            with_credit(made, credit)
            converted.append((name, made))
        else:
            converted.append((name, from_torch(name, layer, tensors)))
    for before, (_, after) in zip(seen, converted, strict=bool(seen)):
        _check_same(before, after)
    net = nn.Sequential(flat_names(converted))
    return net.train(model.training if isinstance(model, torch.nn.Module) else True)


def _stated(model: torch.nn.Module | Sequence[torch.nn.Module]) -> Chain:
    """Return the chain of a model whose order of layers is known."""
    if not isinstance(model, torch.nn.Module):
        return chain_of_list(model)
    if not graph.in_order(model):
        raise UserError(
            f"{type(model).__name__} has a forward of its own, so the order of its layers is not known: add "
            f"example=…, an input of that forward, to find and check it; or {AS_LIST}"
        )
    return layer_chain(model)


@torch.no_grad()
def _check_same(before: TracedLayer, after: nn.Layer) -> None:
    """Refuse a layer whose output differs from that of the user's layer, on the same input."""
    training = after.training
    result = after.eval()(before.given)
    after.train(training)
    expected = before.returned
    if graph.has_trait(after, "has_membrane") and not graph.has_trait(after, "fires"):
        assert before.membrane is not None
        expected = before.membrane
    if graph.has_trait(after, "fires"):
        wrong = result != expected
    else:
        wrong = ~torch.isclose(result, expected, rtol=1e-4, atol=1e-5)
    if wrong.any():
        step = int(wrong.flatten(1).any(1).nonzero()[0, 0])
        raise refusal(
            before.name, before.layer,
            f"in the forward it returned something else: {int(wrong.sum())} of {wrong.numel()} values, from step "
            f"{step} on, differ from those of {type(after).__name__} on the same input",
            f"start the neurons from rest and leave their states alone between steps, or {AS_LIST}",
        )  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Choices of the caller of a conversion, for one layer.

    Attributes:
        tensors: hand parameters over.
        denominator: how the reward on a membrane is normalised.
        membrane: whether this layer is read by its membrane.
    """

    tensors: Tensors
    denominator: Denominator
    membrane: bool  # whether this layer is read by its membrane


def neuron_classes() -> tuple[type[torch.nn.Module], ...]:
    """Return the base classes of snnTorch's neurons, also of those that do not convert."""
    snn = peer("snntorch")
    return (snn.SpikingNeuron, snn.LeakyParallel)


def from_neuron(name: str, neuron: Any, options: Options) -> nn.Layer:
    """Make the neurons that fire as ``neuron`` does.

    Args:
        name: name of the layer, for errors.
        neuron: snnTorch's neurons.
        options: choices of the caller.

    Raises:
        ConversionError: where this package has none.
    """
    converters = {
        "Leaky": _leaky, "Synaptic": _synaptic, "RLeaky": _rleaky, "Lapicque": _lapicque, "Alpha": _alpha,
    }  # fmt: skip
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
    """Refuse options that change the spikes and have no counterpart here."""
    if neuron.inhibition:
        raise refusal(name, neuron, "inhibition lets only the strongest neuron fire", "use inhibition=False")
    if neuron.state_quant:
        raise refusal(
            name, neuron, "state_quant rounds its membrane",
            "use state_quant=False; hw_export quantises a trained network",
        )  # fmt: skip
    if number_of(name, neuron, "graded_spikes_factor", neuron.graded_spikes_factor) != 1.0:
        raise refusal(
            name, neuron, "graded_spikes_factor scales its spikes",
            "use a factor of 1 and scale the weights after it",
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
    """Return its reset, which snnTorch fixes in the state function when it builds a neuron; attributes may differ."""
    step = neuron.state_function.__name__
    return {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}.get(step, step)


def _reset(name: str, neuron: Any, zero_with_delay: bool) -> Reset:
    """Return its reset here.

    Args:
        name: name of the layer.
        neuron: snnTorch's neurons.
        zero_with_delay: whether its delayed ``zero`` is the ``zero`` of this package.
    """
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
    delayed = getattr(neuron, "reset_delay", True)  # Alpha and Lapicque have no other
    if does == "subtract" and not delayed:
        raise refusal(
            name, neuron, "snnTorch's subtraction without delay takes the threshold off twice where a membrane stays "
            "above it",
            'use reset_delay=True (snnTorch\'s default) or reset_mechanism="zero"',
        )  # fmt: skip
    if does == "zero" and delayed and not zero_with_delay:
        raise refusal(
            name, neuron, f"{type(neuron).__name__} with a delayed reset to zero drops the input after each spike",
            'use reset_delay=False, which restarts the membrane from 0, or reset_mechanism="subtract"',
        )  # fmt: skip
    return "zero" if does == "zero" else "subtract"


def _beta(name: str, neuron: Any) -> tuple[Constant, torch.nn.Parameter | None]:
    """Return its decay as snnTorch clamps it, and the parameter where it learns."""
    beta = neuron.beta
    if not beta.requires_grad:
        return _clamped(name, neuron, "beta"), None
    value = beta.detach()
    if not bool(((value >= LEAST_DECAY) & (value <= 1)).all()):
        raise refusal(
            name, neuron, f"a decay that learns lies in [{LEAST_DECAY}, 1] here, got {value.tolist()}",
            "start it there, or hold it at its value with layer.beta.requires_grad_(False)",
        )  # fmt: skip
    return (value if value.dim() else float(value)), beta


def _clamped(name: str, neuron: Any, what: str) -> Constant:
    value = constant_of(name, neuron, what, getattr(neuron, what))
    return value.clamp(0.0, 1.0) if isinstance(value, Tensor) else min(max(value, 0.0), 1.0)


def _threshold(name: str, neuron: Any) -> Constant:
    return constant_of(name, neuron, "threshold", neuron.threshold)


def _with_decay(layer: nn.Neurons, decay: torch.nn.Parameter | None, options: Options) -> nn.Neurons:
    if decay is not None:  # made to learn, so that it is of the shape of this parameter
        layer.decay = options.tensors.own(decay)
    return layer


def _leaky(name: str, neuron: Any, options: Options) -> nn.Layer:
    if options.membrane:
        return _integrator(name, neuron)
    beta, decay = _beta(name, neuron)
    reset, threshold = _reset(name, neuron, zero_with_delay=True), _threshold(name, neuron)
    numbers = not isinstance(beta, Tensor) and not isinstance(threshold, Tensor)
    if numbers and beta == threshold == 0 and reset == "zero":
        return nn.Heaviside()
    made = nn.LIF(beta, threshold, reset, options.denominator, learn_beta=decay is not None)
    return _with_decay(made, decay, options)


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
    made = nn.Synaptic(alpha, beta, threshold, reset, options.denominator, learn_beta=decay is not None)
    return _with_decay(made, decay, options)


def _rleaky(name: str, neuron: Any, options: Options) -> nn.Layer:
    if not neuron.all_to_all:
        raise refusal(
            name, neuron, "connections from each neuron to itself alone (all_to_all=False) have no layer here",
            "use all_to_all=True with linear_features or conv2d_channels",
        )  # fmt: skip
    beta, decay = _beta(name, neuron)
    reset, threshold = _reset(name, neuron, zero_with_delay=False), _threshold(name, neuron)
    recurrent = from_torch(f"{name}.recurrent", neuron.recurrent, options.tensors)
    made = nn.RecurrentLIF(recurrent, beta, threshold, reset, options.denominator, learn_beta=decay is not None)
    return _with_decay(made, decay, options)


def _lapicque(name: str, neuron: Any, options: Options) -> nn.Layer:
    """Convert its circuit; β only sets R and C when the neuron is made, and is not read again."""
    if neuron.beta.requires_grad:
        raise refusal(
            name, neuron, "its beta is trainable, but snnTorch takes R and C from it where it is made and never again",
            "hold it at its value with layer.beta.requires_grad_(False), or use snntorch.Leaky",
        )  # fmt: skip
    if _does(neuron) == "zero":
        raise refusal(
            name, neuron, "snnTorch's Lapicque that resets to zero drops the input of the step after a spike",
            'use reset_mechanism="subtract"',
        )  # fmt: skip
    reset, threshold = _reset(name, neuron, zero_with_delay=False), _threshold(name, neuron)
    circuit: dict[str, Any] = {own: constant_of(name, neuron, own, getattr(neuron, own)) for own in ("R", "C")}
    step = number_of(name, neuron, "time_step", neuron.time_step)
    return nn.Lapicque(**circuit, time_step=step, threshold=threshold, reset=reset, denominator=options.denominator)


def _alpha(name: str, neuron: Any, options: Options) -> nn.Layer:
    if neuron.beta.requires_grad:
        raise refusal(
            name, neuron, "its beta is trainable, and LFP has no rule for the decay of a synapse",
            "hold it at its value with layer.beta.requires_grad_(False)",
        )  # fmt: skip
    if _does(neuron) == "subtract":
        raise refusal(
            name, neuron, "snnTorch's Alpha takes the threshold off a synapse, and another amount off the membrane",
            'use reset_mechanism="zero" (its default)',
        )  # fmt: skip
    reset, threshold = _reset(name, neuron, zero_with_delay=True), _threshold(name, neuron)
    alpha, beta = (_clamped(name, neuron, own) for own in ("alpha", "beta"))
    return nn.Alpha(alpha, beta, threshold, reset, options.denominator)


def to_snntorch(net: torch.nn.Module, *, copy: bool = False, output: bool = False) -> torch.nn.Sequential:
    """Convert a network to a ``torch.nn.Sequential`` of torch's layers and snnTorch's neurons, with the same spikes.

    Its neurons have ``init_hidden=True``, as in ``snntorch.backprop``: reset them before a sequence, then call the
    model once a step with ``[B, …]``::

        snntorch.utils.reset(model)
        spikes = torch.stack([model(step) for step in x])

    It **shares its parameters** with ``net``. Rules and denominators belong to training and are left out. Nested
    containers are opened, since ``utils.reset`` does not look into them: ``0.1`` becomes ``0_1``. A last
    :class:`~spikelfp.nn.LI` becomes ``Leaky(reset_mechanism="none", output=True)``, whose second output is the
    membrane.

    Args:
        net: the network.
        copy: whether parameters are cloned.
        output: whether the last neurons also return their membrane (snnTorch's ``output=True``).

    Raises:
        UserError: with the name of the layer and the reason, for a layer that snnTorch does not have.
    """
    chain = graph.chain(net)
    check_once(chain)
    tensors, like = Tensors(copy), _like(net)
    converted = []
    for k, (name, layer) in enumerate(chain):
        last = k == len(chain) - 1
        if graph.is_neuron(layer):
            converted.append((name, _neuron(name, layer, tensors, like, last, output and last)))
        else:
            converted.append((name, to_torch(name, layer, tensors, "snnTorch")))
    return torch.nn.Sequential(flat_names(converted)).train(net.training)


def _neuron(
    name: str, layer: torch.nn.Module, tensors: Tensors, like: torch.Tensor, last: bool, output: bool
) -> torch.nn.Module:
    """Make snnTorch's neurons for ``layer``, their constants on the device of ``like``."""
    snn = peer("snntorch")
    if type(layer) not in _EXPORTS:
        raise refusal(
            name, layer, "snnTorch has no such neurons",
            f"use {', '.join(kind.__name__ for kind in _EXPORTS if kind is not nn.LI)}",
        )  # fmt: skip

    def constant(value: Constant) -> torch.Tensor:
        return value.detach().to(like, copy=True) if isinstance(value, Tensor) else like.new_tensor(value)

    options: dict[str, Any] = {"init_hidden": True, "output": output, "reset_mechanism": "zero"}
    if type(layer) is nn.Heaviside:  # S = 1 where I > 0: no memory, and a threshold of 0
        return snn.Leaky(beta=constant(0.0), threshold=constant(0.0), **options)
    own: Any = layer
    if type(layer) is nn.LI:
        if not last:
            raise refusal(
                name, layer, "inside a network snnTorch's neurons hand on spikes, not membranes",
                "use leaky integrators as the last layer",
            )  # fmt: skip
        return snn.Leaky(beta=constant(own.beta), reset_mechanism="none", init_hidden=True, output=True)
    if own.reset == "immediate":
        raise refusal(
            name, layer, "snnTorch subtracts one step after a spike, and without that delay takes the threshold off "
            "twice where a membrane stays above it",
            'train with reset="subtract" or "zero"',
        )  # fmt: skip
    options |= {
        "beta": constant(own.beta),
        "threshold": constant(own.threshold),
        "reset_mechanism": own.reset,
    }
    neuron: Any
    if type(layer) is nn.LIF:
        neuron = snn.Leaky(**options)
    elif type(layer) is nn.Synaptic:
        neuron = snn.Synaptic(alpha=constant(own.alpha), reset_delay=own.reset == "subtract", **options)
    elif type(layer) is nn.Alpha:
        return snn.Alpha(alpha=constant(own.alpha), **options).to(like.device)
    elif type(layer) is nn.Lapicque:
        return _circuit(name, own, constant, options).to(like.device)
    else:
        neuron = _recurrent(name, own, tensors, options)
    neuron.to(like.device)
    if own.decay is not None:
        del neuron.beta
        neuron.beta = tensors.own(own.decay)
    return neuron


_EXPORTS = (nn.LIF, nn.Synaptic, nn.RecurrentLIF, nn.Alpha, nn.Lapicque, nn.Heaviside, nn.LI)


def _circuit(name: str, layer: nn.Lapicque, constant: Any, options: dict[str, Any]) -> Any:
    """Make snnTorch's Lapicque; the circuit is set by hand, since its constructor takes one number for all neurons."""
    if layer.decay is not None:
        raise refusal(
            name, layer, "snnTorch's Lapicque takes its decay from R and C where it is made, so that none learns",
            "use nn.LIF, or learn_beta=False",
        )  # fmt: skip
    if layer.reset == "zero":
        raise refusal(
            name, layer, "snnTorch's Lapicque that resets to zero drops the input of the step after a spike",
            'train with reset="subtract"',
        )  # fmt: skip
    beta, gain = (torch.as_tensor(each, dtype=torch.float64) for each in (layer.beta, layer.gain))
    if bool((beta == 1).any()):
        raise refusal(name, layer, "with a decay of 1 its RC is infinite", "use a longer time_step or a shorter RC")
    neuron = peer("snntorch").Lapicque(R=1.0, C=2.0, **{key: options[key] for key in options if key != "beta"})
    neuron.R, neuron.C = constant(gain / (1 - beta)), constant(1 / gain)
    neuron.beta = constant(torch.exp(beta - 1))  # which it keeps and does not look at
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
    """Return a float32 tensor on the device of the parameters; refuse parameters of another dtype."""
    for name, parameter in net.named_parameters():
        if parameter.dtype != torch.float32:
            raise UserError(
                f"parameter {name!r} is {parameter.dtype}, and snnTorch's spikes are always float32, which its next "
                "layer would not take: convert net.float()"
            )
    return next((p.detach() for p in net.parameters()), torch.zeros(0))
