"""Graph of a network: its layers, the edges between them, and their outputs.

Layers state their *traits* (:class:`~spikelfp.nn.Layer`); torch's layers have the traits of their twins here.

* **Layers** by name: :func:`leaves`, and :func:`chain` where the order has to be known.
* **Edges** between layers: :func:`neighbours`, which reads them from containers (``flow_inside``), or finds them by
  running the network on an example, whatever its ``forward`` does.
* **Outputs**: :func:`record`, :func:`run_order`, and :func:`watching`, which calls a function after each layer.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from spikelfp.errors import UserError
from spikelfp.nn.layer import TWINS, Layer, has_run

Trait = Literal["fires", "has_membrane", "has_threshold", "passes_scale", "passes_spikes", "has_weights"]

INPUT, OUTPUT, UNKNOWN = "<input>", "<output>", "<unknown>"
"""Ends of edges that are no layers: input and output of the network, and modules that do not state their flow."""

_ARGUMENTS: dict[type[torch.nn.Module], tuple[str, ...]] = {
    torch.nn.Flatten: ("start_dim", "end_dim"),
    torch.nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    torch.nn.GELU: ("approximate",),
    torch.nn.Sigmoid: (),
}
"""Arguments of torch's layers that are not those of their twins here."""
_HOLDERS = (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.ParameterList, torch.nn.ParameterDict)


def twin_of(layer: torch.nn.Module) -> type[Layer] | None:
    """Find the layer of :mod:`spikelfp.nn` that computes what one of torch's does; ``None`` for other modules."""
    return TWINS.get(type(layer))


def has_trait(layer: torch.nn.Module, trait: Trait) -> bool:
    """Tell whether a layer of this package, of a user or of torch has a trait.

    ``passes_scale`` and ``passes_spikes`` describe what ``forward`` computes, so a class that overrides ``forward``
    does not inherit them and has to state them itself.

    Raises:
        UserError: for an unknown trait.
    """
    if trait not in get_args(Trait):
        raise UserError(f"layers have the traits {', '.join(get_args(Trait))}, got {trait!r}")
    if not isinstance(layer, Layer):
        twin = TWINS.get(type(layer))
        return twin is not None and getattr(twin, trait) is True
    if trait.startswith("passes_") and not _said_with(type(layer), trait):
        return False
    return bool(getattr(layer, trait))


def _said_with(kind: type, name: str, way: str = "forward") -> bool:
    """Whether ``name`` is stated by the class that defines ``forward``, or by a class derived from it."""
    line = kind.__mro__
    stated = next((place for place, base in enumerate(line) if name in vars(base)), len(line))
    return stated <= next((place for place, base in enumerate(line) if way in vars(base)), len(line))


def tells(layer: torch.nn.Module) -> bool:
    """Tell whether the class of a layer, or of its twin here, states that it fires or does not."""
    kind = TWINS.get(type(layer), type(layer))
    return any("fires" in vars(base) for base in kind.__mro__ if base is not Layer)


def is_neuron(layer: torch.nn.Module) -> bool:
    """Tell whether a layer is one of neurons: it fires, or has a membrane."""
    return has_trait(layer, "fires") or has_trait(layer, "has_membrane")


def arguments(layer: torch.nn.Module) -> dict[str, Any]:
    """List the arguments that make a layer again, without weights and rule: ``rebuild(type(layer), …)``.

    Raises:
        UserError: for a layer whose class does not state them (``arguments``).
    """
    return {
        name: layer._parameters[name] is not None if name in layer._parameters else getattr(layer, name)
        for name in argument_names(type(layer))
    }


def rebuild(kind: type[torch.nn.Module], given: Mapping[str, Any]) -> torch.nn.Module:
    """Make a layer of a class from all of its :func:`arguments`, with new weights.

    Raises:
        UserError: for arguments that the class does not list, and for missing ones.
    """
    names = argument_names(kind)
    if wrong := [*(name for name in given if name not in names), *(name for name in names if name not in given)]:
        raise UserError(
            f"{kind.__name__} is made of {', '.join(names) or 'no arguments'}, got {', '.join(given) or 'none'}: "
            f"{wrong[0]} is {'too many' if wrong[0] in given else 'missing'}"
        )
    return kind(**given)


def argument_names(kind: type[torch.nn.Module]) -> tuple[str, ...]:
    """List the names of the arguments that make a layer of a class, of this package or torch's.

    Raises:
        UserError: for a class that does not state them.
    """
    names = _ARGUMENTS.get(kind, getattr(TWINS.get(kind, kind), "arguments", None))
    if isinstance(names, tuple):
        return names
    raise UserError(
        f"{kind.__name__} does not tell what it is made of: state arguments = (…), the names of the arguments of its "
        "constructor, each an attribute of the same name"
    )


# The layers of a network


def leaves(net: torch.nn.Module, whole: Callable[[torch.nn.Module], bool] | None = None) -> dict[str, torch.nn.Module]:
    """Find the layers without layers inside by name, in the order of ``net.modules()``, each once.

    Args:
        net: the network; where it is a single layer, its name is ``""``.
        whole: test of modules that count as one layer with all inside; by default neurons do (:func:`is_neuron`).
    """
    opened = _opened(net, "", set(), whole or is_neuron)
    found = {name: layer for name, layer in opened if not isinstance(layer, _HOLDERS)}
    return found or {"": net}


def _opened(
    layer: torch.nn.Module, name: str, seen: set[torch.nn.Module], whole: Callable[[torch.nn.Module], bool]
) -> Iterator[tuple[str, torch.nn.Module]]:
    if layer in seen:
        return
    seen.add(layer)
    if not any(True for _ in layer.children()) or whole(layer):
        yield name, layer
        return
    for own, child in layer.named_children():
        yield from _opened(child, f"{name}.{own}" if name else own, seen, whole)


def in_order(module: torch.nn.Module) -> bool:
    """Tell whether a module is a ``Sequential``, torch's or ours, that runs its layers one after the other.

    A derived class that overrides ``forward`` or ``run`` is none, since the order in it is unknown.
    """
    if not isinstance(module, torch.nn.Sequential) or vars(module).get("forward"):
        return False
    kind = type(module)
    if isinstance(module, Layer):
        return module.in_order and all(_said_with(kind, "in_order", way) for way in ("forward", "run"))
    return kind.forward is torch.nn.Sequential.forward


def chain(
    net: torch.nn.Module, opens: Callable[[torch.nn.Module], bool] = in_order
) -> list[tuple[str, torch.nn.Module]]:
    """List the layers of a ``Sequential`` and of those inside in the order they run, with dotted names.

    A layer that runs twice is listed twice, under both of its names.

    Args:
        net: the network.
        opens: test of modules that run their children one after the other.

    Raises:
        UserError: for a network that is no ``Sequential``, since only there the order is known, and for derived
            classes, at any depth, that override ``forward``.
    """
    if not opens(net):
        why = "has a forward or run of its own" if isinstance(net, torch.nn.Sequential) else "is no Sequential"
        raise UserError(
            f"{type(net).__name__} {why}, so that the order of its layers is not known: put them into an nn.Sequential"
        )
    return list(_chained(net, "", opens))


def _chained(
    net: torch.nn.Module, prefix: str, opens: Callable[[torch.nn.Module], bool]
) -> Iterator[tuple[str, torch.nn.Module]]:
    for own, layer in net._modules.items():  # named_children would leave out a layer that runs twice
        assert layer is not None
        name = prefix + own
        if opens(layer):
            yield from _chained(layer, f"{name}.", opens)
        elif isinstance(layer, torch.nn.Sequential):
            raise UserError(
                f"layer {name} ({type(layer).__name__}) has a forward or run of its own, so that the order of the "
                "layers inside is not known: put them into an nn.Sequential"
            )
        else:
            yield name, layer


# Edges

Sources = frozenset[str]
"""Names of the layers, or of other ends of edges, from which a value comes."""
Past = Callable[[torch.nn.Module | None], bool]
"""Test of layers that are skipped; it gets ``None`` for a function between layers, such as a sum."""


class Flow:
    """Follows values through a network, and records the sources of the inputs of each layer.

    A user's container states by ``flow_inside(self, flow, given)`` how values flow inside, and returns the sources of
    its outputs.
    """

    def __init__(self, net: torch.nn.Module) -> None:
        self.layers = leaves(net)
        self.names = {layer: name for name, layer in self.layers.items()}
        self.before: dict[str, Sources] = dict.fromkeys(self.layers, frozenset())
        self._functions = 0

    def through(self, module: torch.nn.Module, given: Sources) -> Sources:
        """Follow values into a module inside, and return the sources of its outputs."""
        name = self.names.get(module)
        if name is not None:
            return self.give(name, given)
        if in_order(module):
            for _, inner in module._modules.items():
                assert inner is not None
                given = self.through(inner, given)
            return given
        if (
            isinstance(module, Layer)
            and type(module).flow_inside is not Layer.flow_inside
            and _said_with(type(module), "flow_inside")
        ):
            return module.flow_inside(self, given)
        for inner in module.children():
            self.give(UNKNOWN, self.through(inner, frozenset((UNKNOWN,))))
        return frozenset((UNKNOWN,))

    def function(self, label: str, *given: Sources) -> Sources:
        """Follow values into a function between layers, such as a sum of branches."""
        self._functions += 1
        return self.give(f"<{label} {self._functions}>", frozenset[str]().union(*given))

    def give(self, name: str, given: Sources) -> Sources:
        """Record the sources of the inputs of the layer of that name, and return the sources of its outputs."""
        self.before[name] = self.before.get(name, frozenset()) | given
        return frozenset((name,))


@dataclass(frozen=True)
class Neighbours:
    """Edges between the layers of a network.

    Attributes:
        layers: layers by name, as :func:`leaves` finds them.
        before: names of the layers before each layer. Besides layers there are :data:`INPUT`, :data:`OUTPUT`,
            :data:`UNKNOWN` and functions between layers, ``"<sum 1>"`` or the like.
    """

    layers: Mapping[str, torch.nn.Module]
    before: Mapping[str, Sources]

    @cached_property
    def after(self) -> dict[str, Sources]:
        """Names of the layers after each layer."""
        found: dict[str, set[str]] = {name: set() for name in self.layers}
        for name, given in self.before.items():
            for source in given:
                found.setdefault(source, set()).add(name)
        return {name: frozenset(takers) for name, takers in found.items()}

    def nearest(self, name: str, past: Past, *, after: bool = False) -> Sources:
        """Find the nearest layers before one, or after it, skipping those that ``past`` accepts.

        Args:
            name: name of the layer.
            past: test of layers to skip; it gets ``None`` for functions between layers.
            after: whether to look after the layer instead of before it.

        Returns:
            Names of layers, of functions that were not skipped, and of the ends of the network.
        """
        edges: Mapping[str, Sources] = self.after if after else self.before
        found, seen, left = set[str](), {name}, list(edges.get(name, ()))
        while left:
            each = left.pop()
            if each in seen:
                continue
            seen.add(each)
            if each in (INPUT, OUTPUT, UNKNOWN) or not past(self.layers.get(each)):
                found.add(each)
            else:
                left += edges.get(each, ())
        return frozenset(found)

    @cached_property
    def drives(self) -> dict[str, tuple[str, ...]]:
        """Names of the neurons that each layer with weights drives; other layers in between are skipped."""
        return self._facing("has_weights", after=True)

    @cached_property
    def weights(self) -> dict[str, tuple[str, ...]]:
        """Names of the layers with weights before each layer of neurons; other layers in between are skipped."""
        return self._facing("neurons", after=False)

    def _facing(self, own: str, after: bool) -> dict[str, tuple[str, ...]]:
        def weighs(layer: torch.nn.Module) -> bool:
            return has_trait(layer, "has_weights")

        ours, others = (weighs, is_neuron) if own == "has_weights" else (is_neuron, weighs)
        found = {}
        for name in (name for name, layer in self.layers.items() if ours(layer)):
            near = self.nearest(
                name, lambda layer: layer is None or not (weighs(layer) or is_neuron(layer)), after=after
            )
            found[name] = tuple(each for each in self.layers if each in near and others(self.layers[each]))
        return found


def neighbours(net: torch.nn.Module, x: Tensor | None = None) -> Neighbours:
    """Find the edges between the layers of a network.

    Without an example they are read from the structure: from ``Sequential`` and every layer with a ``flow_inside``,
    such as ``Sum``, ``Concat``, attention, ``Recomputed`` and converted networks. A module that overrides ``forward``
    without ``flow_inside`` has :data:`UNKNOWN` around it. With an example the network runs, and values are followed
    through torch's functions.

    Args:
        net: the network.
        x: example of an input, ``[T, B, …]``.
    """
    flow = Flow(net)
    if x is None:
        flow.give(OUTPUT, flow.through(net, frozenset((INPUT,))))
    else:
        _follow(net, x, flow)
    return Neighbours(flow.layers, flow.before)


def _follow(net: torch.nn.Module, x: Tensor, flow: Flow) -> None:
    """Run a network, and record the sources of the inputs of each layer."""
    sources: Any = WeakIdKeyDictionary()
    inside: list[str] = []

    def of(values: Any) -> Sources:
        found = [sources[each] for each in tree_leaves(values) if isinstance(each, Tensor) and each in sources]
        return frozenset[str]().union(*found)

    def mark(values: Any, given: Sources) -> None:
        for each in tree_leaves(values):
            if isinstance(each, Tensor):
                sources[each] = given

    class Functions(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            if not inside and any(isinstance(each, Tensor) for each in tree_leaves(out)):
                given = of((args, kwargs))
                if given and not any(isinstance(a, Tensor) and a is out for a in args):
                    mark(out, flow.function(getattr(function, "__name__", "function"), given))
            return out

    def enter(name: str, given: Any) -> None:
        flow.give(name, of(given) or frozenset((UNKNOWN,)))
        inside.append(name)

    def leave(call: Call) -> None:
        inside.pop()
        mark(call.outputs, frozenset((call.name,)))

    x = x.clone() if x.layout is torch.strided else x  # the expansion of a constant sequence could not be followed
    sources[x] = frozenset((INPUT,))
    with watching(net, leave, before=enter), torch.no_grad(), Functions():
        out = net(x)
    flow.give(OUTPUT, of(out) or frozenset((UNKNOWN,)))


# Outputs


@dataclass
class Call:
    """One run of a layer.

    Attributes:
        name: name of the layer.
        layer: the layer.
        outputs: its outputs, or a ``Trace`` of it.
        start: state before a ``run``; else ``None``.
        end: state after a ``run``; else ``None``.
    """

    name: str
    layer: torch.nn.Module
    outputs: Any = None
    start: Any = None
    end: Any = None


@dataclass
class _Watch:
    """Hooks of the ``forward`` and the ``run`` of a layer, one of which may call the other."""

    name: str
    layer: torch.nn.Module
    look: Callable[[Call], Any]
    before: Callable[[str, Any], None] | None
    trace: bool
    open: list[Call] = field(default_factory=list)

    def enter(self, given: Any, start: Any = None) -> None:
        if not self.open and self.before is not None:
            self.before(self.name, given)
        self.open.append(Call(self.name, self.layer, start=start))

    def leave(self, outputs: Any, end: Any = None, kept: Any = None) -> Any:
        """End a run; return what takes the place of its outputs, or ``None``."""
        call = self.open.pop()
        if call.outputs is None:  # else the trace that the inner of two calls left
            call.outputs = outputs if kept is None else kept
        call.end = end
        if self.open:
            self.open[-1].outputs = kept
            return None
        return self.look(call)

    def after(self, _: torch.nn.Module, given: Any, outputs: Any) -> Any:
        """Look at the outputs of a layer without a ``run``."""
        return self.look(Call(self.name, self.layer, outputs))

    def run(self, original: Callable[..., Any]) -> Callable[..., Any]:
        traced = self.trace and has_trait(self.layer, "has_membrane")
        if traced and "trace" not in inspect.signature(original).parameters:
            raise UserError(
                f"layer {self.name} ({type(self.layer).__name__}) has a membrane, but its run takes no trace=True to "
                "return it"
            )

        def run(x: Tensor, state: Any = None, *more: Any, **options: Any) -> Any:
            asked = bool(more and more[0]) or options.get("trace", False)  # for a trace, by the network itself
            self.enter(x, state)
            if traced and not asked:
                outputs, end = original(x, state, trace=True)
            else:
                outputs, end = original(x, state, *more, **options)
            instead = self.leave(outputs, end, outputs if traced else None)
            if instead is not None:
                return instead, end
            return (outputs[0] if traced and not asked else outputs), end

        run._torchdynamo_disable = True  # type: ignore[attr-defined]  # as those of the layers here
        return run


@contextmanager
def watching(
    net: torch.nn.Module,
    look: Callable[[Call], Any],
    which: Callable[[torch.nn.Module], bool] | None = None,
    *,
    before: Callable[[str, Any], None] | None = None,
    trace: bool = False,
    whole: Callable[[torch.nn.Module], bool] | None = None,
) -> Iterator[None]:
    """Call a function after each run of a layer while ``net`` runs within the block.

    Both calls of a layer and of its ``run`` count. :class:`~spikelfp.nn.Recomputed` runs its network as a whole.

    Args:
        net: the network.
        look: function that is called after each run. Outputs that it returns take the place of the layer's own.
        which: test of the layers of :func:`leaves` to watch; by default all.
        before: function that is called before each run with the name and the inputs of the layer.
        trace: whether to pass traces of neurons, with their membranes, in place of their outputs.
        whole: test of modules that count as one layer, as in :func:`leaves`.
    """
    chosen = {name: layer for name, layer in leaves(net, whole).items() if which is None or which(layer)}
    with watching_these(net, look, chosen, before=before, trace=trace):
        yield


@contextmanager
def watching_these(
    net: torch.nn.Module,
    look: Callable[[Call], Any],
    layers: Mapping[str, torch.nn.Module],
    *,
    before: Callable[[str, Any], None] | None = None,
    trace: bool = False,
) -> Iterator[None]:
    """Call a function after each run of some layers, as :func:`watching` does, without looking for them.

    Args:
        net: the network.
        look: function that is called after each run.
        layers: the layers by name.
        before: function that is called before each run.
        trace: whether to pass traces of neurons.
    """
    with ExitStack() as stack:
        stack.enter_context(_in_one_part(net))
        for name, layer in layers.items():
            watch = _Watch(name, layer, look, before, trace)
            if has_run(layer) or before is not None:
                stack.callback(
                    layer.register_forward_pre_hook(
                        lambda _, args, kwargs, watch=watch: watch.enter((args, kwargs)), with_kwargs=True
                    ).remove
                )
                stack.callback(layer.register_forward_hook(lambda _, args, out, watch=watch: watch.leave(out)).remove)
            else:  # no call inside another
                stack.callback(layer.register_forward_hook(watch.after).remove)
            if has_run(layer):
                own = layer.__dict__.get("run")
                layer.__dict__["run"] = watch.run(getattr(layer, "run"))  # noqa: B009  (torch types attributes as tensors)
                stack.callback(_put_back, layer, own)
        yield


@contextmanager
def _in_one_part(net: torch.nn.Module) -> Iterator[None]:
    """Let recomputed networks run sequences as a whole within the block, as hooks need it."""
    found: list[Any] = [layer for layer in net.modules() if isinstance(layer, Layer) and layer.in_parts]
    before = [layer.steps for layer in found]
    try:
        for layer in found:
            layer.steps = sys.maxsize
        yield
    finally:
        for layer, steps in zip(found, before, strict=True):
            layer.steps = steps


def _put_back(layer: torch.nn.Module, run: Any) -> None:
    if run is None:
        layer.__dict__.pop("run", None)
    else:
        layer.__dict__["run"] = run


@contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, without graphs, within the block; afterwards each layer is as it was."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        with torch.no_grad():
            net.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def record(
    net: torch.nn.Module,
    x: Tensor,
    which: Callable[[torch.nn.Module], bool] | None = None,
    *,
    trace: bool = False,
) -> dict[str, Any]:
    """Run a network in evaluation mode and return the outputs of its layers. The network is left as it was.

    Args:
        net: the network.
        x: its input ``[T, B, …]``.
        which: test of the layers of :func:`leaves` to record; by default all.
        trace: whether to record the ``Trace`` of neurons, with their membranes, in place of their outputs.

    Returns:
        Outputs ``[T, B, …]`` without a graph, by name, in the order the layers ran. Calls that continue from the state
        of an earlier call, as in a ``forward`` that steps through time, make one sequence. Outputs of another run of a
        layer have the name ``"name:2"``.
    """
    calls: list[Call] = []

    def look(call: Call) -> None:
        earlier = call.start is not None and next(
            (each for each in calls if each.layer is call.layer and each.end is call.start), None
        )
        if earlier:
            earlier.outputs, earlier.end = [*earlier.outputs, call.outputs], call.end
        else:
            call.outputs = [call.outputs]
            calls.append(call)

    with evaluating(net), watching(net, look, which, trace=trace):
        net(x)
    return {name: _joined(call.outputs) for name, call in zip(_numbered(c.name for c in calls), calls, strict=True)}


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], tuple) and hasattr(parts[0], "_asdict"):
        fields = [part._asdict() for part in parts]
        return type(parts[0])(**{name: _joined([each[name] for each in fields]) for name in fields[0]})
    if not all(isinstance(part, Tensor) for part in parts):
        return parts[0] if len(parts) == 1 else parts
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).detach()


def run_order(net: torch.nn.Module, x: Tensor) -> list[str]:
    """Run a network in evaluation mode, and return the names of its layers in the order they ran.

    Args:
        net: the network.
        x: an input ``[T, B, …]``.
    """
    order: list[str] = []
    with evaluating(net), watching(net, lambda call: order.append(call.name)):
        net(x)
    return order


def _numbered(names: Iterable[str]) -> Iterator[str]:
    times: dict[str, int] = {}
    for name in names:
        times[name] = times.get(name, 0) + 1
        yield name if times[name] == 1 else f"{name}:{times[name]}"


def last_layer(net: torch.nn.Module) -> torch.nn.Module | None:
    """Find the layer that makes the outputs of a network, before layers that pass spikes on; ``None`` if not one."""
    known = neighbours(net)
    last = known.nearest(OUTPUT, lambda layer: layer is not None and has_trait(layer, "passes_spikes"))
    return known.layers.get(next(iter(last))) if len(last) == 1 else None


# Parameters


def decays(net: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Find the decays that learn, by their names in ``net.named_parameters()``, each once."""
    owners = {
        id(p) for layer in leaves(net).values() if isinstance(p := getattr(layer, "decay", None), torch.nn.Parameter)
    }
    return {name: parameter for name, parameter in net.named_parameters() if id(parameter) in owners}


def biases_in_front(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Find the biases of layers with weights whose outputs go to batch normalisations and nowhere else.

    The mean of the batch is subtracted after them, so they change no output. Eq. 9 still gives them a share of the
    reward, and the statistics give them rounding errors, which Adam scales to the size of any update. So they would
    drift, and the running mean, which evaluation subtracts, would lag. Trainers do not update them.
    """
    uses = Counter(id(p) for _, p in net.named_parameters(remove_duplicate=False))
    known = neighbours(net)
    found: list[torch.nn.Parameter] = []
    for name, layer in known.layers.items():
        takers = [known.layers.get(each) for each in known.after[name]]
        bias: Any = getattr(layer, "bias", None)
        single = has_trait(layer, "has_weights") and isinstance(bias, torch.nn.Parameter) and uses[id(bias)] == 1
        if single and takers and all(isinstance(each, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for each in takers):
            found.append(bias)
    return found
