r"""Start a reward at the outputs of a network and run it back to every parameter.

:func:`propagate` takes outputs and their rewards. Between the outputs and the network's last layers stands the user's
own code: slices, stacks, sums over time, masks. All of it is linear, so a reward that is started like a gradient
arrives at each output neuron as the reward of that neuron::

    outputs = A spikes          reward of the spikes = Aᵀ reward of the outputs

The *frontier* is the set of neurons that are reached first on every way back. They take the arriving values as rewards,
spike or no spike. Without neurons the last layer's output itself is the output neuron: ``m = r / (o + sign(o) ε)``.

The walk also checks the rest of the graph. Operations without a rule would be trained by something other than the
paper's equations, so they are refused by name: parameters of other packages, functions without a rule, products of two
signals.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from spikelfp.checks import truth
from spikelfp.errors import GraphError, LearningWarning, NonFiniteError, ShapeError, UserError
from spikelfp.functional.credit import (
    MOVES,
    HalfCredit,
    LayerOutput,
    MagnitudeStep,
    NeuronNode,
    backward_pass,
    check_range,
    forward_class,
    to_message,
)
from spikelfp.functional.neuron import Carry
from spikelfp.functional.split import divide
from spikelfp.registry import checked_keywords
from spikelfp.scalars import as_number

EPS = 1e-6
"""ε of linear outputs whose layer does not state one."""

NEURONS_INSTEAD = {
    "snntorch": "convert the network, spikelfp.interop.from_snntorch(net), with example=x, an input of its forward, "
    "where it has one of its own",
    "norse": "convert the network, spikelfp.interop.from_norse(net), or the list of its layers where it has a forward "
    "of its own",
    "spikingjelly": "for a LIFNode put spikelfp.nn.LIF(beta=1 - 1 / tau, threshold=tau * v_threshold, reset='zero') in "
    "its place, reset='immediate' where v_reset is None, or read the NIR graph of the network, "
    "hw_export.from_nir(export_to_nir(net, x))",
    "sinabs": "for a LIF put spikelfp.nn.LIF(beta=(beta := exp(-1 / tau_mem)), threshold=spike_threshold / (1 - beta), "
    "reset='immediate') in its place, which fires once a step, as SingleSpike does, with threshold=spike_threshold "
    "where norm_input is False, or read the NIR graph of the network, hw_export.from_nir",
    "rockpool": "put neurons of spikelfp.nn with the same constants in its place, or read the NIR graph of the "
    "network, hw_export.from_nir",
}
"""Cures that a refusal of a neuron names, by the package that it comes from."""

_NOT_FINITE = "the reward holds NaN or infinity"


@checked_keywords()
def propagate(
    outputs: Tensor | list[Tensor] | tuple[Tensor, ...],
    reward: Tensor | list[Tensor] | tuple[Tensor, ...],
    *,
    eps: float | None = None,
    retain_graph: bool = False,
    weight: float = 1.0,
    default_eps: float | None = None,
) -> None:
    """Add ``−d_w`` (v3, eq. 7) to ``p.grad`` of every parameter that led to ``outputs``, summed over batch and time.

    A torch optimiser descends ``p.grad``, so its step ascends the reward. Calls accumulate, as ``backward`` does. Only
    this call starts a reward: ``loss.backward()`` on layers under an LFP rule is refused.

    Outputs may be sliced, indexed, stacked, concatenated, permuted, summed over time, masked or multiplied with
    constants before they are rewarded. All of this is linear, and each output neuron gets its own reward, spike or no
    spike (:func:`find`). A sum of spikes, ``spikes.sum(0)``, hands its reward to every step. A linear output starts
    with ``m_c = r_c / (o_c + sign(o_c) ε)``.

    Normalisation layers send rewards back by eq. 8-10 with constant mean and variance, as in the paper. Methods,
    trainers and the command line let messages pass through mean and variance instead
    (``constant_statistics=False``), which deep networks learn better from.

    Args:
        outputs: outputs of the network, ``[T, B, C]`` or any shape; or several of them (the chunks of a long sequence,
            the heads of a network), with as many rewards, in one pass.
        reward: ``r_c`` for each element of the outputs, of their shape.
        eps: ε of the first division of linear outputs; ``None``: that of the rule of the last layer.
        retain_graph: keep the graph for another call.
        weight: factor of every reward; 1 over the size of the batch makes a mean of the sum. A rule that normalises
            rewards divides by their largest magnitude first.
        default_eps: ε for ``eps=None`` where the last layer does not state one, as under ``torch.compile``; 1e-6.

    Raises:
        UserError: for outputs without a graph, or made of neurons and linear layers at once; for parameters that follow
            no rule and functions for which there is none, by name.
        ShapeError: for a reward of another shape.
        NonFiniteError: for a reward or an update that holds NaN or infinity. On CUDA nothing waits for the check: such
            a reward fails an assertion on the device, which torch reports later.
    """
    weights = send_rewards(outputs, reward, eps, default_eps, weight, retain_graph)
    _check_updates(weights)


def send_rewards(
    outputs: Tensor | list[Tensor] | tuple[Tensor, ...],
    reward: Tensor | list[Tensor] | tuple[Tensor, ...],
    eps: float | None = None,
    default_eps: float | None = None,
    weight: float = 1.0,
    retain_graph: bool = False,
) -> list[Tensor]:
    """Run :func:`propagate` without its check of the updates.

    Returns:
        the parameters that led to the outputs.
    """
    eps, default_eps, weight = check_start(eps, default_eps, weight)
    truth("retain_graph", retain_graph)
    roots = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    rewards = list(reward) if isinstance(reward, (list, tuple)) else [reward]
    if len(roots) != len(rewards):
        raise ShapeError(f"{len(roots)} outputs need as many rewards, got {len(rewards)}")
    if not roots:
        raise UserError("propagate was given no outputs: hand it what the network returned, and its reward")
    given = [_checked(root, own) for root, own in zip(roots, rewards, strict=True)]
    if weight != 1:
        given = [own * weight for own in given]
    return send_back(roots, given, eps=eps, default_eps=default_eps, weight=weight, retain_graph=retain_graph)


def _check_updates(weights: list[Tensor]) -> None:
    """Refuse updates (NonFiniteError) that are not finite, except on CUDA, which would have to be waited for.

    Spikes do not show them: a membrane that is NaN does not fire.
    """
    updates = [p.grad for p in weights if p.grad is not None and not p.is_cuda]
    if not updates or torch.isfinite(torch.stack(torch._foreach_norm(updates))).all():
        return
    wrong = next((grad for grad in updates if not torch.isfinite(grad).all()), None)
    if wrong is not None:
        raise NonFiniteError(
            f"the update of a parameter of shape {tuple(wrong.shape)} holds NaN or infinity: look for them in the "
            "inputs, the states and the weights (torch.isfinite), or make rewards and learning rate smaller; "
            "optimizer.zero_grad() before the next try"
        )


def check_start(eps: float | None, default_eps: float | None, weight: float) -> tuple[Any, Any, Any]:
    """Return ε, its default and the weight, as numbers of Python.

    Raises:
        UserError: for the first that is no finite number of at least 0.
    """
    found: list[Any] = []
    for name, value in (("eps", eps), ("default_eps", default_eps), ("weight", weight)):
        # a weight may be on a device, where nothing waits for it
        number = value if value is None or isinstance(value, Tensor) else as_number(value)
        if value is not None and (number is None or not (isinstance(number, Tensor) or 0 <= number < math.inf)):
            raise UserError(f"{name} must be a finite number, 0 or more, got {value!r}")
        found.append(number)
    return found[0], found[1], found[2]


def _checked(outputs: Tensor, reward: Tensor) -> Tensor:
    """Check outputs and reward, and return the reward in the dtype of the outputs."""
    for what, given in (("outputs", outputs), ("reward", reward)):
        if not isinstance(given, Tensor):
            raise UserError(
                "propagate takes tensors: propagate(outputs, reward), where reward is "
                f"rewards.SpikeSequence()(outputs, labels) or the like; the {what} given are {type(given).__name__}"
            )
    if outputs.is_nested or reward.is_nested:
        raise UserError(
            "outputs and reward are plain tensors, got nested ones: propagate([a, b], [reward_of_a, reward_of_b]) "
            "takes several outputs"
        )
    if outputs.grad_fn is None:
        raise UserError(
            "the outputs carry no graph to propagate through: run the network outside torch.no_grad() "
            "and with parameters that require grad"
        )
    check_range(outputs)
    if reward.shape != outputs.shape:
        raise ShapeError(f"reward has shape {tuple(reward.shape)}, the outputs {tuple(outputs.shape)}")
    if reward.is_complex() or reward.layout is not torch.strided or reward.device != outputs.device:
        raise UserError(
            f"a reward is dense and real, on the device of the outputs ({outputs.device}), got {reward.dtype}, "
            f"{str(reward.layout).removeprefix('torch.')}, on {reward.device}"
        )
    reward = reward.detach().to(outputs.dtype)
    finite = torch.isfinite(reward).all()
    if finite.is_cuda:
        torch._assert_async(finite, _NOT_FINITE)
    elif not finite:
        raise NonFiniteError(_NOT_FINITE)
    return reward


def _names(text: str) -> frozenset[str]:
    return frozenset(f"{name}Backward{number}" for name in text.split() for number in range(4))


_LINEAR = MOVES | {"CopySlices", "CopyBackwards", "BroadcastBackward", "GatherBackward", "LerpBackward0"} | _names(
    "AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D Add AsStrided AvgPool1D AvgPool2D AvgPool3D Cat Clone "
    "Col2Im ConstantPadNd Contiguous Copy Cumsum Detach Diagonal DiagonalScatter Expand Fill Flip Foreach Gather "
    "Im2Col Index IndexAdd IndexCopy IndexFill IndexPut IndexPutImpl IndexSelect Lift LiftFresh MaskedFill "
    "MaskedScatter MaskedSelect Mean MkldnnAdaptiveAvgPool2D Nansum Narrow Neg Permute PixelShuffle PixelUnshuffle "
    "Real ReflectionPad1D ReflectionPad2D Repeat RepeatInterleave ReplicationPad1D ReplicationPad2D Roll Rot90 Rsub "
    "Scatter ScatterAdd ScatterReduce SegmentReduce Select SelectScatter Slice SliceScatter Split SplitWithSizes "
    "Squeeze Stack Sub Sum Take ToCopy ToDense Trace Transpose Tril Triu Unbind Unfold UnsafeSplit "
    "UnsafeSplitWithSizes Unsqueeze UpsampleBilinear2D UpsampleNearest1D UpsampleNearest2D View Where Zero"
)  # fmt: skip
# The winner takes the reward: a choice among values, which passes it on like a move.
_CHOICES = _names(
    "MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D MaxPool1D Max "
    "Amax Min Amin Topk Sort Kthvalue Median MaxDim Maximum Minimum"
)  # fmt: skip
# Products: linear in each factor, so with constants a linear map, and with weights a layer.
_PRODUCTS = _names(
    "Mul Mm Bmm Mv Dot Vdot Addmm Addmv Addbmm Baddbmm Addr Linear Convolution ConvolutionOverrideable MkldnnLinear "
    "ThnnConv2D SlowConv2D SlowConvDilated2D ConvDepthwise2D CudnnConvolution MkldnnConvolution Addcmul Ger Outer "
    "Einsum SparseMm SparseAddmm Div"
)  # fmt: skip
# Operations inside of layers of this package, under the rules of docs/rules.md.
_OF_LAYERS = _names(
    "NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeLayerNorm NativeGroupNorm BatchNormImpl Softmax Relu "
    "LeakyRelu Threshold NativeDropout"
)  # fmt: skip


class NodeKind(Enum):
    """Kind of a node of a graph, for a reward on its way back."""

    NEURONS = "neurons"
    PARAMETER = "a parameter under |w|"
    OWN = "another operation of this package, or one that passes messages"
    THROUGH = "linear, or a choice among values"
    PRODUCT = "a product"
    LAYER = "an operation that layers are made of"
    LEAF = "the end of the graph"
    COMPILED = "a compiled region"
    HIDES = "has no rule, or cannot be looked into"


_kinds: dict[type, NodeKind] = {}


def _kind(node: Node) -> NodeKind:
    """Return the kind of a node, which depends on its type alone."""
    found = _kinds.get(type(node))
    if found is None:
        found = _kinds[type(node)] = _kind_of_type(node)
    return found


def _kind_of_type(node: Node) -> NodeKind:
    cls, name = forward_class(node), node.name().rpartition("::")[2]
    if issubclass(cls, NeuronNode):
        return NodeKind.NEURONS
    if cls is MagnitudeStep:
        return NodeKind.PARAMETER
    if cls is not object:
        package = cls.__module__.partition(".")[0]
        if package == "torch" and cls.__qualname__.endswith(("CompiledFunction", "ApplyTemplate")):
            return NodeKind.COMPILED
        if cls.__name__ in ("BackwardHookFunction", "_DDPSink") and package == "torch":
            return NodeKind.THROUGH
        if getattr(cls, "spreads_over_time", False):
            return NodeKind.THROUGH
        if getattr(cls, "of_gradients", False):
            return NodeKind.HIDES
        return NodeKind.OWN if package == "spikelfp" or getattr(cls, "passes_messages", False) else NodeKind.HIDES
    if "AccumulateGrad" in name:
        return NodeKind.LEAF
    if name.startswith("CompiledFunction"):
        return NodeKind.COMPILED
    if name in _PRODUCTS:
        return NodeKind.PRODUCT
    if name in _LINEAR or name in _CHOICES:
        return NodeKind.THROUGH
    return NodeKind.LAYER if name in _OF_LAYERS else NodeKind.HIDES


@dataclass
class Frontier:
    """The first neurons, or layers, on the way back from some outputs.

    Attributes:
        neurons: nodes of the output neurons.
        layers: the first nodes of layers with linear outputs.
        kinds: for each output, whether it comes from neurons.
        eps: for each linear output, the ε of its layer; ``None`` where the layer does not state one, and for neurons.
        nested: whether some neurons of the frontier also drive layers on the way to others.
        replicated: whether the way back leads through a module of ``DistributedDataParallel``.
        weights: the parameters of all layers further down.
    """

    neurons: list[Node] = field(default_factory=list)
    layers: list[Node] = field(default_factory=list)
    kinds: list[bool] = field(default_factory=list)
    eps: list[float | None] = field(default_factory=list)
    nested: bool = False
    replicated: bool = False
    weights: list[Tensor] = field(default_factory=list)


def find(outputs: Sequence[Tensor]) -> Frontier:
    """Find the frontier of ``outputs`` and check the graph below it.

    Args:
        outputs: tensors with a graph.

    Raises:
        UserError: for an output made of neurons and of linear layers at once, and for nodes that have no rule or cannot
            be looked into; it names the node.
    """
    found = Frontier()
    neurons: dict[Node, None] = {}
    layers: dict[Node, None] = {}
    passed: set[Node] = set()
    for output in outputs:
        own_neurons, own_layers = _above(output, passed)
        if own_neurons and own_layers:
            raise UserError(
                f"an output of shape {tuple(output.shape)} is made of neurons ({_name_of(own_neurons[0])}) and of a "
                f"linear layer or of inputs ({_name_of(own_layers[0])}), whose rewards start in different ways: reward "
                "each of them as an output of its own, propagate([spikes, linear], [reward, reward])"
            )
        if len(own_neurons) > 1:
            _warn_of_rest(own_neurons)
        found.kinds.append(bool(own_neurons))
        weighted = [] if own_neurons else _first_weights(own_layers)
        found.eps.append(float(weighted[0].output_eps) if weighted else None)  # type: ignore[attr-defined]
        neurons |= dict.fromkeys(own_neurons)
        layers |= dict.fromkeys(own_layers)
    found.neurons, found.layers = list(neurons), list(layers)
    found.replicated = any(forward_class(node).__name__ == "_DDPSink" for node in passed)
    found.nested = _check_below([*found.neurons, *found.layers], set(neurons), found.weights)
    return found


def _warn_of_rest(neurons: list[Node]) -> None:
    """Warn if an output is made of single steps that all started from rest: the user's loop drops the state."""
    first = getattr(neurons[0], "parameters", None)
    if first is None or any(getattr(node, "parameters", None) is not first for node in neurons):
        return
    try:
        saved: list[Any] = [getattr(node, "saved_tensors", (None,)) for node in neurons]
    except RuntimeError:  # sent back before: the pass itself says so
        return
    if any(each[0] is None or len(each[0]) != 1 or each[-1].is_cuda or each[-1].any() for each in saved):
        return
    warnings.warn(
        f"the outputs are {len(neurons)} single steps that all start from rest, so no membrane is carried from one to "
        "the next: layers keep no state between calls, outputs, state = net.run(x[t:t+1], state) does",
        LearningWarning,
        stacklevel=6,
    )


def _above(output: Tensor, passed: set[Node]) -> tuple[list[Node], list[Node]]:
    """Find the neurons and the layers reached first from ``output``; add the operations in between to ``passed``."""
    assert output.grad_fn is not None
    neurons: dict[Node, None] = {}
    layers: dict[Node, None] = {}
    # A view of several outputs of one node starts at one of them.
    waiting: list[tuple[Node, int]] = [(output.grad_fn, output.output_nr)]
    seen: set[tuple[Node, int]] = set()
    while waiting:
        node, place = waiting.pop()
        if (node, place) in seen:
            continue
        seen.add((node, place))
        kind = _kind(node)
        _check_inside(node, kind)
        if kind == NodeKind.PRODUCT:
            kind = _product(node)
        if kind == NodeKind.NEURONS and place == 0:
            neurons[node] = None
        elif kind == NodeKind.COMPILED and not _has_leaf(node):
            raise _refusal(node, "hides how its inputs became the outputs: call it outside of torch.compile")
        elif kind == NodeKind.HIDES:
            raise _refusal(node, _why(node))
        elif kind == NodeKind.LAYER and node.name().startswith(("Relu", "LeakyRelu", "Threshold", "Softmax")):
            raise _refusal(
                node, "is not linear: reward what the network returned, and put activations into the network"
            )
        elif kind == NodeKind.THROUGH:
            passed.add(node)
            ways = node.next_functions
            if forward_class(node) is not object and len(ways) > 1:  # an identity of several tensors, each in its place
                ways = ways[place : place + 1]
            waiting += [(child, number) for child, number in ways if child is not None]
        else:
            layers[node] = None
    return list(neurons), list(layers)


def _product(node: Node) -> NodeKind:
    """Tell the kind of a product from its factors: a layer, or a linear map with constants.

    Raises:
        UserError: for a product of two signals, a division by one, and weights that follow no rule.
    """
    children = [child for child, _ in node.next_functions]
    name = node.name()
    if name.startswith("Div"):
        if getattr(node, "_saved_rounding_mode", None) is not None:
            raise _refusal(node, "rounds, through which no reward comes back: reward what it was given")
        if len(children) > 1 and children[1] is not None:
            raise _refusal(node, "divides by a signal, for which there is no rule")
        return NodeKind.THROUGH
    factors = (
        children[1:3] if name.startswith(("Addmm", "Addmv", "Addbmm", "Baddbmm", "Addr", "Addcmul")) else children[:2]
    )
    sides = [_side(child) for child in factors]
    if NodeKind.PARAMETER in sides or any(_side(child) == NodeKind.PARAMETER for child in children):
        return NodeKind.LAYER
    given = [side for side in sides if side is not None]
    if len(given) == 2:
        if all(side == NodeKind.OWN for side in given):
            return NodeKind.LAYER  # attention: half of the credit to each factor
        raise _refusal(
            node,
            "multiplies two signals, for which there is no rule: give each factor half of the credit by rule.factor(x)",
        )
    return NodeKind.THROUGH


def _side(node: Node | None) -> NodeKind | None:
    """Tell the kind of a factor: a parameter under ``|w|``, a factor with half credit, a signal, or a constant."""
    while node is not None:
        kind = _kind(node)
        if kind == NodeKind.PARAMETER or (kind == NodeKind.COMPILED and _has_leaf(node)):
            return NodeKind.PARAMETER
        cls = forward_class(node)
        if cls is HalfCredit:
            return NodeKind.OWN
        if kind == NodeKind.LEAF and isinstance(getattr(node, "variable", None), torch.nn.Parameter):
            raise _foreign(node)
        moved = node.name() in MOVES or node.name().startswith(("Expand", "ToCopy"))
        if not moved and not getattr(cls, "of_parameters", False):
            return NodeKind.PARAMETER if _is_of_parameters(node) else NodeKind.LEAF
        node = node.next_functions[0][0]
    return None


def _is_of_parameters(node: Node) -> bool:
    """Whether a factor is a linear map of parameters under ``|w|`` and constants, as a masked weight is."""
    waiting, found = [node], False
    while waiting:
        node = waiting.pop()
        kind = _kind(node)
        below = [child for child, _ in node.next_functions if child is not None]
        if kind == NodeKind.PARAMETER:
            found = True
        elif (kind == NodeKind.PRODUCT and len(below) == 1) or kind == NodeKind.THROUGH:
            waiting += below
        else:
            return False
    return found


def _check_below(starts: list[Node], neurons: set[Node], weights: list[Tensor]) -> bool:
    """Check the graph below the frontier and add its parameters to ``weights``.

    Returns:
        whether neurons of the frontier are reached again.

    Raises:
        UserError: for operations without a rule.
    """
    nested = False
    waiting = [(child, place, start) for start in starts for child, place in start.next_functions if child is not None]
    for start in starts:
        if _kind(start) == NodeKind.PRODUCT:
            _product(start)
        elif _kind(start) == NodeKind.LEAF:
            _check_leaf(start, start)
    seen: set[Node] = set(starts)
    while waiting:
        node, place, parent = waiting.pop()
        if place == 0 and node in neurons:
            nested = True
        if node in seen:
            continue
        seen.add(node)
        kind = _kind(node)
        _check_inside(node, kind)
        if kind == NodeKind.HIDES:
            raise _refusal(node, _why(node))
        if kind == NodeKind.PRODUCT:
            _product(node)
        elif kind == NodeKind.PARAMETER:
            weights += _checked_weight(node)
            continue
        elif kind == NodeKind.LEAF:
            _check_leaf(node, parent)
            continue
        waiting += [(child, number, node) for child, number in node.next_functions if child is not None]
    return nested


def _check_inside(node: Node, kind: NodeKind) -> None:
    """Refuse what a node does beyond its kind.

    It stands for a whole network and has found something without a rule in it, or it multiplies signals where others
    of its kind add them up.
    """
    if kind == NodeKind.THROUGH and getattr(node, "_saved_reduce", None) == "prod":
        raise _refusal(node, "multiplies signals, for which there is no rule")
    refusal = getattr(node, "refusal", None) if kind in (NodeKind.OWN, NodeKind.NEURONS) else None
    if refusal is not None:
        raise UserError(refusal)


def _check_leaf(leaf: Node, parent: Node) -> None:
    """Refuse a parameter that is used by an operation without a rule."""
    if isinstance(getattr(leaf, "variable", None), torch.nn.Parameter) and _kind(parent) not in (
        NodeKind.NEURONS, NodeKind.PARAMETER, NodeKind.OWN, NodeKind.COMPILED,
    ):  # fmt: skip
        raise _foreign(leaf)


def _checked_weight(node: Node) -> list[Tensor]:
    """Return the weight below a node. A weight computed from other parameters is refused: LFP has no rule for it."""
    below: Node | None = node.next_functions[0][0]
    while below is not None and _kind(below) != NodeKind.LEAF:
        if below.name() not in MOVES and _kind(below) != NodeKind.OWN:
            raise _refusal(
                below,
                "computes a weight from other parameters (weight or spectral normalisation, adapters), for which LFP "
                "has no rule: make it a parameter (torch.nn.utils.parametrize.remove_parametrizations), take what is "
                "linear, such as a mask, into the function that rule.linear is given, or train by gradients",
            )
        below = below.next_functions[0][0]
    weight = getattr(below, "variable", None)
    return [] if weight is None else [weight]


def _has_leaf(node: Node) -> bool:
    return any(child is not None and _kind(child) == NodeKind.LEAF for child, _ in node.next_functions)


def _first_weights(layers: list[Node]) -> list[Node]:
    """Find the nodes of the weights that are reached first; layers further down and earlier steps are left out."""
    waiting, seen, found = list(layers), set(layers), list[Node]()
    while waiting:
        node = waiting.pop(0)
        if getattr(node, "output_eps", None) is not None:
            found.append(node)
        elif node in layers or (_kind(node) != NodeKind.NEURONS and forward_class(node) is not Carry):
            new = [child for child, _ in node.next_functions if child is not None and child not in seen]
            seen.update(new)
            waiting += new
    return found


def _why(node: Node) -> str:
    """Explain why a node is refused, and what to do instead."""
    cls = forward_class(node)
    if cls.__name__ == "CheckpointFunction":
        return (
            "hides the layers inside: call torch.utils.checkpoint with use_reentrant=False, or put nn.Recomputed "
            "around the network"
        )
    if cls is object:
        return (
            "is a function for which there is no rule: use the layer of spikelfp.nn, or spikelfp.convert the network; "
            "to train by gradients, rules.attach(net, rules.Gradient())"
        )
    if getattr(cls, "of_gradients", False):
        return "belongs to a rule of gradients: train it by a loss and loss.backward()"
    package = cls.__module__.partition(".")[0]
    if package in NEURONS_INSTEAD:
        return f"is a neuron of {package}, with a surrogate derivative: {NEURONS_INSTEAD[package]}"
    return (
        f"is a function of {cls.__module__}, which may do anything to messages: say passes_messages = True in its "
        "class if its backward pass sends them on as docs/own_layers.md describes"
    )


def _refusal(node: Node, why: str) -> UserError:
    return UserError(f"the reward meets {_name_of(node)}, which {why}")


def _name_of(node: Node) -> str:
    cls = forward_class(node)
    return node.name() if cls is object else f"{cls.__module__}.{cls.__qualname__}"


def _foreign(leaf: Node) -> UserError:
    """Make the error for a parameter outside of :mod:`spikelfp.nn`, and find its module for the message."""
    parameter: Tensor = leaf.variable  # type: ignore[attr-defined]
    owner = ""
    for table in gc.get_referrers(parameter):
        if isinstance(table, dict):
            names = [name for name, value in table.items() if value is parameter]
            for module in gc.get_referrers(table) if names else ():
                members = module if isinstance(module, dict) else vars(module) if hasattr(module, "__dict__") else {}
                if members.get("_parameters") is table and isinstance(names[0], str):
                    holders = [module] if not isinstance(module, dict) else gc.get_referrers(module)
                    found = next((h for h in holders if isinstance(h, torch.nn.Module)), None)
                    if found is not None:
                        owner = f", {names[0]} of {type(found).__module__}.{type(found).__name__},"
    if "of spikelfp." in owner:
        return UserError(
            f"a parameter of shape {tuple(parameter.shape)}{owner} follows a rule of gradients in this pass: train it "
            "by a loss and loss.backward(), or give its layer an LFP rule (rules.attach)"
        )
    return UserError(
        f"a parameter of shape {tuple(parameter.shape)}{owner} follows no rule: only layers of spikelfp.nn learn from "
        "a reward. Put the layer of spikelfp.nn in its place, or spikelfp.convert the network (docs/own_layers.md for "
        "one of your own); to freeze it, requires_grad_(False)"
    )


def send_back(
    outputs: Sequence[Tensor],
    rewards: Sequence[Tensor],
    *,
    eps: float | None = None,
    default_eps: float | None = None,
    weight: float = 1.0,
    retain_graph: bool = False,
    messages: Sequence[tuple[Tensor, Tensor]] = (),
) -> list[Tensor]:
    """Run ``rewards`` of ``outputs`` back to every parameter, and with them ``messages`` to other tensors.

    Args:
        outputs: tensors with a graph.
        rewards: of each output, of its shape.
        eps: ε of linear outputs; ``None``: that of the last layer of each.
        default_eps: ε for ``eps=None`` where the layer states none, since it is compiled or has no weights.
        weight: factor of every reward, as of :func:`~spikelfp.functional.credit.backward_pass`.
        retain_graph: keep the graph for another pass.
        messages: further ends of the graph, each with the message to start from.

    Returns:
        the parameters that led to the outputs.

    Raises:
        UserError: for what :func:`find` refuses.
        GraphError: for a graph that is gone or out of date.
    """
    frontier = find(outputs)
    starts = list[Tensor]()
    for output, reward, neurons, own in zip(outputs, rewards, frontier.kinds, frontier.eps, strict=True):
        if neurons:
            starts.append(reward)
            continue
        chosen = next((e for e in (eps, own, default_eps) if e is not None), EPS)
        starts.append(to_message(reward, output.detach(), chosen))
        divide(output.grad_fn, chosen)
    for node in _first_weights(frontier.layers):
        if getattr(node, "how", None) is not None:
            if any(forward_class(layer) is LayerOutput and layer is not node for layer in frontier.layers):
                raise UserError(
                    "a rule that normalises rewards takes those of the outputs at the last layer with weights, and "
                    "this network ends in a sum of branches: put a layer after the sum, or leave out normalize"
                )
            node.takes_reward = True  # type: ignore[attr-defined]
    roots = list(outputs)
    with backward_pass(weight):
        if frontier.nested or (messages and frontier.neurons):
            starts = _handed_over(frontier, roots, starts)
        else:
            _mark(frontier.neurons, "takes_reward", True)
        try:
            torch.autograd.backward(
                [*roots, *(end for end, _ in messages)], [*starts, *(own for _, own in messages)], retain_graph
            )
        except RuntimeError as error:
            raise _graph_error(error) or error from None
        finally:
            _mark(frontier.neurons, "takes_reward", False)
    return frontier.weights


def _graph_error(error: RuntimeError) -> GraphError | None:
    """Make a one-line error of torch's, where it is about a graph that is gone or out of date."""
    if "second time" in str(error):
        return GraphError(
            "a graph is sent back a second time, after the first has freed it: run the network again, detach states "
            "that go on into the next part, or call propagate(…, retain_graph=True) the first time"
        )
    if "modified inplace" in str(error) or "modified by an inplace operation" in str(error):
        return GraphError(
            "weights or values of this graph were changed in place since the network ran, by an optimiser's step or an "
            "assignment: propagate before that, or run the network again"
        )
    return None


def _handed_over(frontier: Frontier, roots: list[Tensor], starts: list[Tensor]) -> list[Tensor]:
    """Leave the rewards of spiking outputs at their neurons, and start those outputs from zero.

    Neurons that are both outputs and hidden get a reward and messages, which must not be added: the rewards are
    gathered first, in a pass of their own that ends at the frontier.
    """
    if frontier.replicated:
        raise UserError(
            "neurons that are outputs and also drive others cannot be rewarded through DistributedDataParallel with "
            "find_unused_parameters or static_graph: leave those out, or reward the last layer alone"
        )
    spiking = [(root, start) for root, start, own in zip(roots, starts, frontier.kinds, strict=True) if own]
    edges = [GradientEdge(node, 0) for node in frontier.neurons]
    _mark(frontier.neurons, "collecting", True)
    try:
        found = torch.autograd.grad(
            [root for root, _ in spiking], edges, [start for _, start in spiking], retain_graph=True, allow_unused=True
        )
    finally:
        _mark(frontier.neurons, "collecting", False)
    for node, reward in zip(frontier.neurons, found, strict=True):
        node.output_reward = reward  # type: ignore[attr-defined]
    return [torch.zeros_like(start) if own else start for start, own in zip(starts, frontier.kinds, strict=True)]


def _mark(nodes: Sequence[Node], name: str, value: object) -> None:
    for node in nodes:
        setattr(node, name, value)
