"""Base of all layers: rule, traits and state, and checks of inputs."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spikelfp.checks import LARGEST, whole
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import neurons_below
from spikelfp.functional.grid import Grid, Represented, Rounded
from spikelfp.functional.sequence import compact, is_sparse
from spikelfp.functional.split import LinearMap
from spikelfp.registry import nearest
from spikelfp.rules import HasRule, Rule

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources
    from spikelfp.quantized import Quantization

State = Any
"""State of a layer between calls: ``None`` at rest or for layers without memory."""


TWINS: dict[type[torch.nn.Module], type[Layer]] = {}
"""Torch's layers, and those of this package with the same name, which compute the same for every step."""


class Layer(HasRule, torch.nn.Module):
    """A layer of sequences ``[T, B, …]``, time first, whose backward pass follows its ``rule`` (default LFP-ε).

    Layers keep no state between calls. ``layer(x)`` starts from rest; ``layer.run(x, state)`` starts from
    ``state`` and returns the output with the state to go on from.

    A rule given to a layer (``rule=``, ``layer.rule = …``, :func:`spikelfp.rules.attach`) trains it, inside trainers
    too. Layers without one follow the rule of the trainer's method (:class:`spikelfp.rules.HasRule`).

    The rest of the package knows a layer by its *traits*, attributes of its class, which hold in evaluation mode. A
    layer of a user's own works everywhere by its traits alone.

    Attributes:
        fires: whether its outputs are spikes, 0 and 1.
        has_membrane: whether it keeps a membrane over time.
        has_threshold: whether it compares its membrane with a ``threshold``.
        passes_scale: whether ``f(c x) = c f(x)`` for every ``c > 0``.
        passes_spikes: whether its outputs are spikes if its inputs are.
        has_weights: whether it multiplies its inputs by ``weight``; it may add a ``bias``.
        arguments: names of the arguments of its constructor that make the layer again, each an attribute of the same
            name (``bias`` states whether there is one); ``None`` where they are not stated.
        in_order: whether it is a ``Sequential`` that runs its layers one after the other.
        in_parts: whether it runs a sequence in parts of ``steps`` steps.
        only_draws: whether its state is what chance draws in training, and nothing of the signal.
    """

    fires: ClassVar[bool] = False
    has_membrane: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = False
    passes_scale: bool = False
    passes_spikes: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False
    arguments: ClassVar[tuple[str, ...] | None] = None
    in_order: ClassVar[bool] = False
    in_parts: ClassVar[bool] = False
    only_draws: ClassVar[bool] = False

    @property
    def draws_once(self) -> bool:
        """Whether chance draws something for a whole sequence, which is its state then."""
        return False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        theirs = getattr(torch.nn, cls.__name__, None)
        if theirs is not None and cls.arguments is not None and cls.__module__.startswith("spikelfp.nn."):
            TWINS[theirs] = cls

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """State how values flow between the layers inside. A layer without this method counts as a single layer.

        Args:
            flow: ``flow.through(layer, given)`` follows values into a layer inside,
                ``flow.function(label, *given)`` into a function between layers; both return the sources of the result.
            given: sources of the input.

        Returns:
            Sources of the output.
        """
        raise NotImplementedError  # marks layers that do not state their flow, and is not called

    def run(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return the output and the next state; for a layer without memory simply ``(self(x), None)``.

        Args:
            x: inputs ``[T, B, …]``.
            state: as ``run`` returned it; ``None`` to start from rest.

        Raises:
            UserError: for a layer with neurons inside that has no ``run`` of its own.
            ShapeError: for a state, which the layer does not have.
        """
        check_forgets_nothing(self)
        check_stateless(self, state)
        return self(x), None

    def saved_repr(self) -> str:
        """Write the options of this layer that its weights do not show; checkpoints compare this text."""
        return self.extra_repr()

    def __setattr__(self, name: str, value: Any) -> None:
        check_attribute(self, name, value)
        super().__setattr__(name, value)

    def _expect(self, x: Tensor, dims: int, layout: str) -> None:
        if x.dim() != dims:
            raise ShapeError(
                f"{type(self).__name__} takes {layout}, time first, got shape {tuple(x.shape)}; "
                "nn.constant(x, steps) turns a static batch into a sequence"
            )


LARGEST_BIAS = 2**24 - 1
"""Largest integer of a bias: it is added to sums, which are wider than a weight, and float32 is exact up to here."""


class Quantizable(Layer):
    """A layer with ``weight`` and ``bias`` that :class:`~spikelfp.quantized.WeightGrids` may put on a grid.

    Attributes:
        quantization: options of the quantisation; ``None`` for a layer that computes in floats.
        weight_scale: real value of one step of a weight, a scalar buffer of quantised layers, kept in checkpoints.
        bias_on_grid: whether the bias is an integer too.
        bias_steps: number of steps of the bias in one step of a weight.
    """

    quantization: Quantization | None = None
    bias_on_grid: bool = False
    bias_steps: int = 1
    weight_scale: Tensor
    weight: Tensor
    bias: Any  # Tensor | None, which torch's layers declare in several ways

    @property
    def grid(self) -> Grid | None:
        """Grid of the weights: the forward pass uses ``grid.to_integers(weight)``; ``None`` for floats."""
        if self.quantization is None:
            return None
        return Grid.symmetric(self.weight_scale.item(), self.quantization.bits)

    @property
    def bias_grid(self) -> Grid | None:
        """Grid of the bias, whose step is ``grid.scale / bias_steps``; ``None`` for a float."""
        if self.quantization is None or not self.bias_on_grid:
            return None
        return Grid((self.weight_scale / self.bias_steps).item(), -LARGEST_BIAS, LARGEST_BIAS)

    def live_grids(self) -> tuple[Grid, Grid | None]:
        """Return :attr:`grid` and :attr:`bias_grid` with tensors as scales, so that nothing waits for a GPU."""
        assert self.quantization is not None
        wide = Grid(self.weight_scale / self.bias_steps, -LARGEST_BIAS, LARGEST_BIAS) if self.bias_on_grid else None
        return Grid.symmetric(self.weight_scale, self.quantization.bits), wide

    def put_on_grid(self, options: Quantization, bias_steps: int | None) -> None:
        """Quantise the layer; the caller then sets ``weight_scale``, which is 1.

        Args:
            options: options of the quantisation.
            bias_steps: number of steps of the bias in one step of a weight; ``None`` for a float bias.
        """
        self.quantization, self.bias_on_grid, self.bias_steps = options, bias_steps is not None, bias_steps or 1
        self.register_buffer("weight_scale", self.weight.new_ones(()))

    def product(self, op: LinearMap, x: Tensor) -> Tensor:
        """Compute ``op(x, weight, bias)`` under the layer's rule, with weights on their grid if there is one.

        The rule gets the parameters and ``op`` rounds them, so that steps are ``|w|`` times a sum, while contributions
        and messages are those of the quantised network.
        """
        weight, bias, options = self.weight, self.bias, self.quantization
        if options is None:
            return self.rule.linear(op, x, weight, bias)
        grid, wide = self.live_grids()
        if options.update == "stochastic":
            weight = Represented.apply(weight, grid)
            bias = bias if bias is None or wide is None else Represented.apply(bias, wide)

        def on_grid(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            rounded = bias if bias is None or wide is None else Rounded.apply(bias, wide)
            return op(x, Rounded.apply(weight, grid), rounded)

        return self.rule.linear(on_grid, x, weight, bias)


_MEANT = {
    "tau": "beta", "tau_mem": "beta", "decay_rate": "beta", "leak": "beta", "v_th": "threshold", "vth": "threshold",
    "v_threshold": "threshold", "theta": "threshold", "reset_mechanism": "reset", "v_reset": "reset", "eps": "rule",
    "normalize": "rule", "spike_grad": "rule", "surrogate_function": "rule", "rules": "rule",
}  # fmt: skip
"""Attributes of other packages' neurons, and of rules, with the options of layers that decide the same."""
_OPTIONS = frozenset(("alpha", "beta", "threshold", "reset", "denominator", "floor", "margin", "rule"))
"""Options of layers that users may try to set on networks, which do not have them."""


def check_attribute(layer: torch.nn.Module, name: str, value: Any) -> None:
    """Refuse a new attribute that looks like an option, since a layer of this package would not use it.

    Raises:
        UserError: naming the option that was meant.
    """
    kind: Any = type(layer)
    if name[:1] == "_" or name in layer.__dict__ or hasattr(kind, name) or not kind.__module__.startswith("spikelfp."):
        return
    if isinstance(value, torch.nn.Module | Tensor) or any(
        name in layer.__dict__.get(held, ()) for held in ("_parameters", "_buffers", "_modules")
    ):
        return
    options = _options_of(kind)
    if name in options:
        return
    meant = _MEANT.get(name, name if name in _OPTIONS else nearest(name, options & _OPTIONS, cutoff=0.7))
    if meant is None:
        return
    if meant in options:
        raise UserError(f"{kind.__name__} has no attribute {name!r}, and would not look at it: did you mean {meant!r}?")
    how = "rules.attach(net, rule)" if meant == "rule" else f"net[1].{meant} = … or the like"
    raise UserError(
        f"{kind.__name__} has no attribute {name!r}, and would not look at it: {meant} is of the layers inside, {how}"
    )


@cache
def _options_of(kind: Any) -> frozenset[str]:
    chain = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    return frozenset(name for each in chain for name in inspect.signature(each).parameters) - {"self"}


_PACKAGES = ("spikelfp", "hw_export", "torch")


def is_own(kind: type) -> bool:
    """Whether a class is neither torch's nor of this package."""
    return kind.__module__.partition(".")[0] not in _PACKAGES


def plain_attributes(layer: torch.nn.Module) -> dict[str, str]:
    """List the plain attributes of a user's own layer as text, since its outputs may depend on them.

    These are numbers, texts, booleans, and tuples, lists and dicts of them, of the layer and of its classes. Names that
    begin with ``_`` and attributes of this package, such as traits, are left out.
    """
    line = type(layer).__mro__
    if not is_own(line[0]):
        return {}
    known = {name for kind in line if not is_own(kind) for name in vars(kind)}
    found: dict[str, Any] = {}
    for kind in reversed([each for each in line if is_own(each) and issubclass(each, torch.nn.Module)]):
        found |= {name: value for name, value in vars(kind).items() if name not in known}
    found |= vars(layer)
    texts = {name: _plain_text(found[name]) for name in sorted(found) if name[0] != "_" and name != "training"}
    return {name: text for name, text in texts.items() if text is not None}


def _plain_text(value: Any) -> str | None:
    """Write a plain value as text, the same in every process; ``None`` for other values."""
    kind = type(value)
    if isinstance(value, np.generic):
        return _plain_text(value.item())
    if kind in (tuple, list, dict):
        inside = [*value, *value.values()] if kind is dict else value
        return repr(value) if all(_plain_text(each) is not None for each in inside) else None
    return repr(value) if kind in (bool, int, float, complex, str) else None


def run_layer(layer: torch.nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Run ``layer.run(x, state)``; torch's own modules run as layers without memory."""
    if isinstance(layer, Layer):
        return layer.run(x, state)
    check_forgets_nothing(layer)
    check_stateless(layer, state)
    return layer(x), None


def check_called(layer: torch.nn.Module, state: tuple[Any, ...]) -> None:
    """Refuse a call with a state, as of other packages' neurons: a call starts from rest.

    Args:
        layer: layer that was called.
        state: arguments of the call after the input.

    Raises:
        UserError: with the way to hand over a state.
    """
    if state:
        raise UserError(
            f"{type(layer).__name__}(x) starts from rest and returns its outputs alone: outputs, state = layer.run(x, "
            "state) goes on from a state, with x of [T, B, …] (x[None] for a single step) and state None at first"
        )


def check_stateless(layer: torch.nn.Module, state: State) -> None:
    """Refuse a state for a layer without memory, which would not look at it: the states are those of another network.

    Raises:
        ShapeError: naming the layer.
    """
    if state is not None:
        raise ShapeError(
            f"{type(layer).__name__} has no state, and was handed a {type(state).__name__}: states go to the layers "
            "that returned them, in the same order"
        )


def has_run(module: torch.nn.Module) -> bool:
    """Whether a module has its own ``run``, which carries its state."""
    return isinstance(module, Layer) and type(module).run is not Layer.run


def remembers(module: torch.nn.Module) -> bool:
    """Whether a module itself has a state, besides the layers inside."""
    whole = isinstance(module, Layer) and (module.has_membrane or not list(module.children()))
    return whole and has_run(module) and not module.only_draws


def draws_once(module: torch.nn.Module) -> bool:
    """Whether chance draws something for a whole sequence in it, which chunks of it have to share."""
    return isinstance(module, Layer) and module.draws_once


def check_forgets_nothing(module: torch.nn.Module) -> None:
    """Refuse to run a module that would start from rest at each call, though layers inside have a state.

    Raises:
        UserError: naming the module and the first such layer.
    """
    if not module._modules:
        return
    inside = next((own for own in module.modules() if own is not module and remembers(own)), None)
    if inside is not None:
        raise UserError(
            f"{type(module).__name__} has a {type(inside).__name__} inside, whose state run(x, state) would lose from "
            "call to call: derive it from nn.Layer and give it a run(x, state) that returns (outputs, next state)"
        )


def check_carries(net: torch.nn.Module) -> None:
    """Refuse a network that would forget the states of its layers at the end of a chunk.

    Raises:
        UserError: for a network without ``run``, and one with a module that has layers with a state inside, but no
            ``run`` of its own.
    """
    if not isinstance(net, Layer):
        raise UserError(
            f"only layers of this package carry their state from chunk to chunk, got {type(net).__name__}: put "
            "nn.Sequential around torch's own layers, spikelfp.convert the network, or derive your own module from "
            "nn.Layer and give it a run(x, state) that returns (outputs, next state)"
        )
    for name, module in net.named_modules():
        inside = [own for own in module.modules() if own is not module and (remembers(own) or draws_once(own))]
        if inside and _is_called(module) and not has_run(module):
            raise UserError(
                f"layer {name or '(the network itself)'} ({type(module).__name__}) has a {type(inside[0]).__name__} "
                "inside, whose state it cannot carry from chunk to chunk: give it a run(x, state), or train without "
                "chunks"
            )


def _is_called(module: torch.nn.Module) -> bool:
    """Whether it can be called at all; lists of layers and the like only hold them."""
    return type(module).forward is not torch.nn.Module.forward


def check_kind(layer: torch.nn.Module, x: Tensor, weight: Tensor | None = None) -> None:
    """Refuse an input that is no tensor of floats, or of another dtype or on another device than ``weight``.

    Under autocast torch chooses the dtypes itself.

    Raises:
        ShapeError: with what to hand in.
        UserError: for tensors of ``torch.inference_mode`` where there is something to learn, and within the transforms
            of ``torch.func``.
    """
    check_tensor(layer, x)
    kind = type(layer).__name__
    if not x.is_floating_point():
        raise ShapeError(
            f"{kind} takes floating-point values, got {x.dtype}: spikes are 0.0 and 1.0, x.float() makes them"
        )
    if weight is not None and x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ShapeError(
            f"{kind} has weights of {weight.dtype} and was given {x.dtype}: hand it x.to({weight.dtype}), or move the "
            f"network, net.to({x.dtype})"
        )
    if weight is not None and x.device != weight.device:
        raise ShapeError(
            f"{kind} has its weights on {weight.device} and was given an input on {x.device}: hand it "
            f"x.to({str(weight.device)!r}), or move the network, net.to({str(x.device)!r})"
        )
    if torch.compiler.is_compiling():
        return
    if torch._C._are_functorch_transforms_active() and _has_own_functions(layer):
        raise UserError(
            f"the transforms of torch.func (vmap, grad, jacrev, …) cannot follow a {kind} of this package, whose "
            "backward pass is its own: loop over the samples; gradients come by loss.backward() or "
            "torch.autograd.grad, rewards by propagate"
        )
    if torch.is_grad_enabled() and weight is not None and (x.is_inference() or weight.is_inference()):
        what = "an input" if x.is_inference() else "weights"
        raise UserError(
            f"{kind} has {what} of torch.inference_mode, whose tensors hand nothing back: make it outside, or a copy, "
            "x.clone() and copy.deepcopy(net); without training, run the network in torch.no_grad()"
        )


def _has_own_functions(layer: torch.nn.Module) -> bool:
    """Whether functions of this package are the backward pass of a layer: under LFP rules, and of all neurons."""
    rule = getattr(layer, "rule", None)
    return rule is not None and (not rule.of_gradients or getattr(layer, "fires", False) or remembers(layer))


def check_tensor(layer: torch.nn.Module, x: Tensor) -> None:
    """Refuse an input that is no tensor, or a nested one.

    Raises:
        ShapeError: with what to hand in.
    """
    kind = type(layer).__name__
    if not isinstance(x, Tensor):
        made = ": torch.as_tensor(x) makes one" if hasattr(x, "__array__") or isinstance(x, list) else ""
        cure = ": run(x, state) returns outputs and state" if isinstance(x, tuple) else made
        raise ShapeError(f"{kind} takes a tensor [T, B, …], time first, got {type(x).__name__}{cure}")
    if x.is_nested:
        raise ShapeError(
            f"{kind} takes a tensor [T, B, …], time first, got a nested one: torch.nested.to_padded_tensor(x, 0.0) "
            "makes one, and sequences of unequal lengths go to trainers by data.arrays(X, y, lengths=…)"
        )


def check_windows(layer: torch.nn.Module, x: Tensor, sizes: Any, padding: Any = 0, dilation: Any = 1) -> None:
    """Refuse images ``[T, B, C, H, W]`` that are smaller than a window.

    Args:
        layer: layer that moves the window over the images.
        x: the images.
        sizes: height and width of the window, or one number for both.
        padding: pixels that are added at each side, likewise; "same" leaves no image too small.
        dilation: distance of the pixels of a window, likewise.

    Raises:
        UserError: for windows whose sides are no whole numbers of at least 1.
        ShapeError: with both sizes.
    """
    kind = type(layer).__name__
    sizes = tuple(whole(f"each side of the windows of {kind}", size, 1) for size in _pair(sizes))
    padding = {"valid": 0, "same": LARGEST}.get(padding, 0) if isinstance(padding, str) else padding
    each = list(zip(*map(_pair, (sizes, padding, dilation, tuple(x.shape[-2:]))), strict=True))
    if any(length < 1 or length + 2 * pad < apart * (size - 1) + 1 for size, pad, apart, length in each):
        tall, wide = (apart * (size - 1) + 1 for size, _, apart, _ in each)
        more = f", with {_pair(padding)} pixels of padding at each side" if any(_pair(padding)) else ""
        raise ShapeError(
            f"{kind} has windows of {tall}×{wide} pixels, which do not fit images of "
            f"{x.shape[-2]}×{x.shape[-1]} (shape {tuple(x.shape)}){more}: take smaller windows, or fewer layers before "
            "them that make images smaller"
        )


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, tuple | list) else (value, value)


def as_given(outputs: Tensor, x: Tensor) -> Tensor:
    """Return the ``outputs`` of neurons in the dtype of their input ``x``, which the next layer expects.

    Spikes are exact in every dtype. Under autocast the outputs stay as they are.
    """
    return outputs if outputs.dtype == x.dtype or torch.is_autocast_enabled(x.device.type) else outputs.to(x.dtype)


def check_dense(layer: torch.nn.Module, x: Tensor) -> None:
    """Refuse a sparse sequence for a layer that only computes dense ones.

    Raises:
        ShapeError: with what to hand in.
    """
    check_kind(layer, x)
    if is_sparse(x):
        raise ShapeError(
            f"{type(layer).__name__} has no event-driven way for sparse sequences, got one of shape {tuple(x.shape)}; "
            "hand it x.to_dense(), or put a Linear or Conv2d before it"
        )


def sparse_input(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """Return a sparse sequence as event-driven layers take it: coalesced, without entries of 0.

    Raises:
        ShapeError: for layouts other than COO, dense dimensions, and values that are not floating-point.
        UserError: for a sequence that requires grad, which it would never get.
    """
    kind = type(layer).__name__
    if x.layout is not torch.sparse_coo or x.dense_dim():
        raise ShapeError(
            f"{kind} takes sparse sequences as COO tensors without dense dimensions, got layout {x.layout} with "
            f"{x.dense_dim()} of them; x.to_dense().to_sparse() is one"
        )
    check_kind(layer, x)
    if x.requires_grad:
        raise UserError(
            f"this sparse sequence requires grad, but {kind} sends no messages to sparse inputs; pass x.detach(), or "
            "x.to_dense() for messages to the input"
        )
    return compact(x)


def check_current(layer: Layer, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the current ``[T, B, …]`` in at least float32, and the state ``[B, …]`` to start from (rest: zeros).

    Raises:
        ShapeError: for shapes, dtypes or devices that do not fit.
    """
    kind = type(layer).__name__
    check_dense(layer, x)
    if x.dim() < 2 or len(x) < 1:
        raise ShapeError(f"{kind} takes [T, B, …] with at least one step, got shape {tuple(x.shape)}")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()  # a membrane sums many small currents
    if state is None:
        return x, x.new_zeros(x.shape[1:])
    if not isinstance(state, Tensor):
        raise ShapeError(
            f"{kind} starts from the state that run returned, a tensor of the shape of a step, or None for rest, got "
            f"{type(state).__name__}"
        )
    if state.dtype != x.dtype or state.device != x.device:
        raise ShapeError(
            f"{kind} keeps its state in {x.dtype} on {x.device} here, and was handed one in {state.dtype} on "
            f"{state.device}: state.to({x.dtype})"
        )
    if state.shape != x.shape[1:]:
        raise ShapeError(f"the state handed in has shape {tuple(state.shape)}, a step {tuple(x.shape[1:])}")
    if x.requires_grad and state.is_inference() and torch.is_grad_enabled():
        raise UserError(
            f"{kind} was handed a state of torch.inference_mode, whose tensors hand nothing back: state.clone(), or "
            "run the steps before in torch.no_grad()"
        )
    return x, state


def spares_silent(rule: Rule, x: Tensor) -> bool:
    """Whether messages to zeros in ``x`` can be left out, since these are silent neurons, which earn nothing."""
    return rule.one_product and rule.silent_earn_nothing and neurons_below(x.grad_fn) is not None
