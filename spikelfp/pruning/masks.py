"""Importance of connections and neurons, masks that hold the pruned ones at 0, and curves of accuracy."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer

from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.explain import outputs_of, weight_relevance
from spikelfp.nn import graph
from spikelfp.registry import check_name
from spikelfp.rules.base import Assigning

CRITERIA = ("magnitude", "relevance")
"""Criteria by name; any function of the network that returns scores by name of the parameter is one, too."""
SCOPES = ("local", "global")
"""Where weights are ranked: within their layer, or among all."""

Criterion = str | Callable[[Module], Mapping[str, Tensor]]
Layers = type[Module] | tuple[type[Module], ...] | str | Sequence[str] | None
"""Layers that are pruned: a class or several, or patterns of their names; ``None``: dense layers and convolutions.
Layers that share one parameter are pruned together."""

RATES = tuple(k / 20 for k in range(20))
"""Rates of a sweep."""
WEIGHTED = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


# --- criteria


def magnitude(net: Module, layers: Layers = None) -> dict[str, Tensor]:
    """Score each weight by its magnitude ``|w|``.

    Args:
        net: the network.
        layers: classes or patterns of names (:data:`Layers`).

    Returns:
        Scores in float64 by name of the parameter, of its shape.

    Raises:
        UserError: for layers that are none, and weights that are computed at every run.
    """
    return {
        _key(name): layer.weight.detach().double().abs()
        for name, layer in chosen_layers(net, layers, once=True).items()
    }


def relevance(
    net: Module,
    x: Tensor,
    labels: Tensor | None = None,
    layers: Layers = None,
    *,
    rule: Assigning | None = None,
    mask: Tensor | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    """Score each weight by the magnitude of its relevance, summed over a reference set, ``|Σ R_ij|``.

    Args:
        net: layers of :mod:`spikelfp.nn`.
        x: inputs of the reference set ``[T, B, …]``.
        labels: their classes ``[B]``, which are explained; ``None`` for the predicted ones.
        layers: classes or patterns of names (:data:`Layers`).
        rule: rule of the layers that have none of their own; ``None`` for LRP-ε, as in v3. Yeom et al. use LRP-z⁺.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.
        batch_size: samples that run at once.

    Returns:
        Signed sums ``Σ R_ij`` in float64 by name of the parameter, of its shape; :func:`prune` takes magnitudes.

    Raises:
        UserError: for what :func:`spikelfp.explain.relevance` refuses, and where no weight has any relevance.
    """
    chosen = chosen_layers(net, layers, once=True)
    found = weight_relevance(net, x, labels, rule=rule, mask=mask, batch_size=batch_size)
    first = {id(p): name for name, p in net.named_parameters()}
    scores = {_key(name): found[first[id(layer.weight)]] for name, layer in chosen.items()}
    if not any(bool(each.any()) for each in scores.values()):
        raise UserError(
            "no weight has any relevance: the outputs of all explained classes are 0 (silent neurons), so that there "
            "is nothing to rank by"
        )
    return scores


# --- masks


class Masks:
    """Weights that are pruned, of one network: they are set to 0, and stay there.

    Args:
        net: the network.
        kept: boolean masks by name of the parameter, true for those that stay.

    Raises:
        UserError: for no masks, and a name that is no parameter.
        ShapeError: for a mask of another shape.
    """

    def __init__(self, net: Module, kept: Mapping[str, Tensor]) -> None:
        if not isinstance(kept, Mapping) or not kept:
            raise UserError(f"masks are boolean tensors by name of the parameter, one at least, got {kept!r:.80}")
        self.net, self.kept = checks.network(net), dict(kept)
        for name, mask in self.kept.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise ShapeError(f"the mask of {name} is a boolean tensor, got {kind}: mask.bool() makes one")
        self._parameters()

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        """Parameters under the masks by name; layers may have been put in their places since."""
        known, found = dict(self.net.named_parameters(remove_duplicate=False)), {}
        for name, mask in self.kept.items():
            if name not in known:
                raise UserError(f"a mask is of {name!r}, which is no parameter of the network")
            if mask.shape != known[name].shape:
                raise ShapeError(
                    f"the mask of {name} has shape {list(mask.shape)}, and the parameter {list(known[name].shape)}"
                )
            found[name] = known[name]
        return found

    @classmethod
    def of(cls, net: Module, layers: Layers = None) -> Masks:
        """Take the weights that are exactly 0 as pruned, as a pruned network from a checkpoint has them.

        Args:
            net: the network.
            layers: classes or patterns of names (:data:`Layers`).
        """
        chosen = chosen_layers(net, layers, once=True)
        return cls(net, {_key(name): layer.weight.detach() != 0 for name, layer in chosen.items()})

    @property
    def sparsity(self) -> float:
        """Share of the weights under the masks that are pruned; biases count where nothing else is masked."""
        own = [mask for mask in self.kept.values() if mask.ndim > 1] or list(self.kept.values())
        return 1 - sum(int(mask.sum()) for mask in own) / sum(mask.numel() for mask in own)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the pruned weights to 0, in place."""
        for name, parameter in self._parameters().items():
            parameter.masked_fill_(~self.kept[name].to(parameter.device), 0)

    @contextmanager
    def held(self, optimizer: Any) -> Iterator[None]:
        """Keep the pruned weights at 0 within the block, after each step of an optimiser.

        Momentum and weight decay would bring them back without it.

        Args:
            optimizer: optimiser of the weights, or a trainer that has one.

        Raises:
            UserError: for what is none, and an optimiser that has not all of the pruned weights.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(optimizer, Optimizer):
            raise UserError(f"masks are held by an optimiser of torch or a trainer, got {type(optimizer).__name__}")
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if wrong := [name for name, p in self._parameters().items() if p.requires_grad and id(p) not in known]:
            raise UserError(
                f"the optimiser does not train {wrong[0]}, whose mask it should hold: hand in that of its net"
            )
        self.apply()
        handle = optimizer.register_step_post_hook(lambda *_: self.apply())
        try:
            yield
        finally:
            handle.remove()
            self.apply()

    def __repr__(self) -> str:
        return f"Masks({len(self.kept)} parameters, {100 * self.sparsity:.1f} % pruned)"


def from_torch(net: Module) -> Masks:
    """Take over the masks of ``torch.nn.utils.prune``, and make the pruned weights parameters again, in place.

    torch computes ``weight_orig · weight_mask`` at every run, so its pruned networks do not train by LFP, fold or
    export; after this they do.

    Args:
        net: network that was pruned by torch.

    Returns:
        The masks, of weights and biases.

    Raises:
        UserError: for a network that was not.
    """
    kept: dict[str, Tensor] = {}
    for name, module in checks.network(net).named_modules():
        for buffer in [own for own, _ in module.named_buffers(recurse=False) if own.endswith("_mask")]:
            own = buffer.removesuffix("_mask")
            if f"{own}_orig" in module._parameters:
                kept[f"{name}.{own}" if name else own] = getattr(module, buffer).bool().clone()
                torch_prune.remove(module, own)
    if not kept:
        raise UserError("no layer of the network is pruned by torch.nn.utils.prune")
    return Masks(net, kept)


# --- pruning


def prune(
    net: Module,
    rate: float,
    criterion: Criterion = "magnitude",
    *,
    scope: str = "global",
    structured: bool = False,
    layers: Layers = None,
    x: Tensor | None = None,
    labels: Tensor | None = None,
    rule: Assigning | None = None,
    mask: Tensor | None = None,
) -> Masks:
    """Set the least important weights to 0, in place.

    ``round(rate · N)`` of N weights are masked; those that are 0 already count first, then equal scores go in the order
    of the weights. Where more are 0 already, those beyond the rate stay 0 and are not masked: training may change them.
    Biases stay, except those of pruned neurons.

    Args:
        net: the network.
        rate: share of the weights, or of the neurons, in [0, 1].
        criterion: ``"magnitude"``, ``"relevance"``, or a function of the network that returns scores by name of the
            parameter, of its shape; their magnitudes count.
        scope: ``"local"``, that share of each layer; ``"global"``, of all together. The latter usually costs less
            accuracy, but may empty a layer.
        structured: prune whole neurons, or filters of convolutions, with all weights that lead to them and their bias.
            Their score is the mean of ``|w|``, or the magnitude of the sum of other scores. The last layer keeps its
            outputs, and each other layer one neuron at least. Of dense layers and convolutions, whose weights are their
            own.
        layers: classes or patterns of names (:data:`Layers`). v3 prunes convolutions alone.
        x: inputs ``[T, B, …]`` of the reference set, for the relevance.
        labels: their classes ``[B]``.
        rule: rule of the relevance; ``None`` for LRP-ε.
        mask: boolean ``[T, B]``, the steps whose outputs count for the relevance.

    Returns:
        The masks, which :meth:`Masks.held` keeps in training.

    Raises:
        UserError: for a rate outside [0, 1], layers that are none or cannot be pruned, a missing reference set, and
            scores that are not finite.
        UnknownNameError: for another criterion or scope.
    """
    rate = checks.share("a pruning rate", rate)
    scores = _scores(net, criterion, layers, x, labels, rule, mask)
    masks = _masks(net, rate, scores, scope, structured, _by_mean(criterion))
    masks.apply()
    return masks


def iterative(
    net: Module, rate: float, rounds: int, retrain: Callable[[Masks], object], criterion: Criterion = "magnitude",
    **options: Any,
) -> Masks:  # fmt: skip
    """Prune in rounds, and train in between (Han et al. 2015), in place.

    Each round prunes the same share of the weights that are left: ``1 − (1 − rate)^(k / rounds)`` of all after round k.

    Args:
        net: the network.
        rate: share of the weights in the end, in [0, 1).
        rounds: their number.
        retrain: function that is called with the masks after each round, and trains under :meth:`Masks.held`.
        criterion: as for :func:`prune`; scores are computed anew in each round.
        **options: those of :func:`prune`.

    Returns:
        The masks of the last round.

    Raises:
        UserError: for a rate outside [0, 1), no rounds, and what :func:`prune` refuses.
    """
    rate, rounds = checks.share("a pruning rate", rate), checks.whole("rounds", rounds, 1)
    if rate == 1:
        raise UserError("pruning in rounds takes a rate in [0, 1), got 1, which leaves no weight to train")
    if not callable(retrain):
        raise UserError(f"retrain is a function of the masks, which trains the network, got {type(retrain).__name__}")
    for number in range(1, rounds + 1):
        masks = prune(net, 1 - (1 - rate) ** (number / rounds), criterion, **options)
        retrain(masks)
        masks.apply()
    return masks


def sparsity(net: Module, layers: Layers = None) -> dict[str, float]:
    """Measure the share of weights that are exactly 0.

    Args:
        net: the network.
        layers: classes or patterns of names (:data:`Layers`).

    Returns:
        Share in [0, 1] by name of the layer.

    Raises:
        UserError: for layers that are none, and weights that are computed at every run.
    """
    return {name: float((layer.weight == 0).double().mean()) for name, layer in chosen_layers(net, layers).items()}


@dataclass(frozen=True)
class Curve:
    """Accuracy over the share of pruned weights.

    Attributes:
        rates: shares, ``[F]``.
        accuracy: in [0, 1], ``[F]``.
        criterion: name of the criterion.
        scope: ``local`` or ``global``.

    Raises:
        ShapeError: for no rates, and another number of accuracies.
    """

    rates: tuple[float, ...]
    accuracy: tuple[float, ...]
    criterion: str
    scope: str

    def __post_init__(self) -> None:
        if not self.rates or len(self.rates) != len(self.accuracy):
            raise ShapeError(f"a curve has one accuracy for each rate, got {len(self.accuracy)} for {len(self.rates)}")

    def prunable(self, drop: float = 0.02) -> float:
        """Find the rate at which the accuracy has first dropped by so much, on straight lines between the rates.

        Args:
            drop: below the accuracy at the first rate, in [0, 1]; 0.02 are two points.

        Returns:
            The rate; the last one where the accuracy never drops so far.

        Raises:
            UserError: for a drop that is no share.
        """
        least = self.accuracy[0] - checks.share("drop", drop)
        points = list(zip(self.rates, self.accuracy, strict=True))
        for (left, high), (right, low) in pairwise(points):
            if low < least:
                return left + (right - left) * (high - least) / (high - low)
        return self.rates[-1]


def sweep(
    net: Module,
    x: Tensor,
    labels: Tensor,
    rates: Sequence[float] = RATES,
    criterion: Criterion = "magnitude",
    *,
    scope: str = "global",
    structured: bool = False,
    layers: Layers = None,
    reference: tuple[Tensor, Tensor | None] | None = None,
    rule: Assigning | None = None,
    mask: Tensor | None = None,
    batch_size: int = 256,
) -> Curve:
    """Measure the accuracy at each pruning rate, without retraining (v3, Fig. 6).

    The scores are those of the whole network, computed once. The network stays as it is.

    Args:
        net: the network.
        x: inputs ``[T, B, …]``.
        labels: classes ``[B]``.
        rates: shares in [0, 1], rising; a list, an array or a tensor.
        criterion: as for :func:`prune`.
        scope: ``"local"`` or ``"global"``.
        structured: prune whole neurons.
        layers: classes or patterns of names (:data:`Layers`).
        reference: inputs and classes of the reference set of the relevance; ``None`` for ``x`` and ``labels``, as in
            v3, where ``mask`` counts for both.
        rule: rule of the relevance; ``None`` for LRP-ε.
        mask: boolean ``[T, B]``, the steps whose outputs count; ``None`` for all.
        batch_size: samples that run at once.

    Raises:
        UserError: for rates that do not rise, labels of classes that the network does not have, and what :func:`prune`
            refuses.
        ShapeError: for labels or a mask that do not fit the inputs.
    """
    rates, batch_size = checks.shares("a pruning rate", rates), checks.whole("batch_size", batch_size, 1)
    if list(rates) != sorted(set(rates)):
        raise UserError(f"rates rise from one to the next, got {rates}")
    x = checks.tensor("x", x)
    labels, mask = checks.class_labels(labels, x), checks.step_mask(mask, x)
    if reference is not None and (not isinstance(reference, tuple) or len(reference) != 2):
        raise UserError("a reference set is a pair of inputs and their classes, (x, labels), or (x, None)")
    given = (x, labels, mask) if reference is None else (*reference, None)
    scores = _scores(net, criterion, layers, given[0], given[1], rule, given[2])
    accuracy = []
    for rate in rates:
        twin = copy.deepcopy(net)
        _masks(twin, rate, scores, scope, structured, _by_mean(criterion)).apply()
        right = 0
        for first in range(0, len(labels), batch_size):
            part = slice(first, first + batch_size)
            outputs = outputs_of(twin, x[:, part], mask=None if mask is None else mask[:, part])
            checks.labels_within(labels, outputs.shape[1])
            right += int((outputs.argmax(1) == labels[part].to(outputs.device)).sum())
        accuracy.append(right / len(labels))
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", type(criterion).__name__)
    return Curve(rates, tuple(accuracy), name, scope)


def _by_mean(criterion: Criterion) -> bool:
    """Whether the score of a neuron is the mean score of its weights."""
    return criterion in ("magnitude", magnitude)


def _tests(layers: Layers) -> list[type[Module] | str]:
    """Classes and patterns of names that choose layers."""
    one = isinstance(layers, (str, type))
    if not one and (isinstance(layers, (Module, Mapping)) or not isinstance(layers, Iterable)):
        raise UserError(
            f"layers are chosen by their class or by patterns of their names, got {type(layers).__name__}: "
            'torch.nn.Conv2d, or "features.*"'
        )
    found: list[Any] = [layers] if one else list(layers)  # type: ignore[arg-type]
    for each in found:
        if not isinstance(each, (str, type)):
            raise UserError(f"layers are chosen by their class or by patterns of their names, got {each!r:.80}")
    if not found:
        raise UserError("layers names no class and no pattern: None chooses all dense layers and convolutions")
    return found


def chosen_layers(net: Module, layers: Layers, once: bool = False) -> dict[str, Any]:
    """Find the layers to prune.

    Args:
        net: the network.
        layers: classes or patterns of names (:data:`Layers`).
        once: whether one of several layers that share a weight stands for all of them.

    Returns:
        Layers by name.

    Raises:
        UserError: for layers that are none, and weights that are computed at every run.
    """
    checks.network(net)
    found: dict[str, Any] = {}
    tests, idle = _tests(WEIGHTED if layers is None else layers), set[Any]()
    if layers is not None:
        idle.update(tests)
    for name, module in net.named_modules():
        fits = [
            each for each in tests if (fnmatchcase(name, each) if isinstance(each, str) else isinstance(module, each))
        ]
        weighs = hasattr(module, "weight") and getattr(module.weight, "ndim", 0) > 1
        if not fits or not weighs:
            continue
        idle.difference_update(fits)
        if "weight" not in module._parameters or is_parametrized(module):
            raise UserError(
                f"the weight of layer {name!r} is computed at every run, so that pruning would not last: for "
                "torch.nn.utils.prune call spikelfp.pruning.from_torch(net) first, for others "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        found[name] = module
    if not found and layers is None:
        raise UserError("the network has no layers to prune")
    if idle:
        raise UserError(f"no layer with weights fits {next(each for each in tests if each in idle)!r}")
    if not once:
        return found
    first = {id(layer.weight): name for name, layer in reversed(found.items())}
    return {name: layer for name, layer in found.items() if first[id(layer.weight)] == name}


def _key(name: str) -> str:
    return f"{name}.weight" if name else "weight"


def _scores(
    net: Module, criterion: Criterion, layers: Layers, x: Tensor | None, labels: Tensor | None,
    rule: Assigning | None, mask: Tensor | None,
) -> dict[str, Tensor]:  # fmt: skip
    """Signed scores by name of the parameter."""
    if not isinstance(criterion, str):
        scores = _own_scores(net, criterion, layers)
    elif check_name("criterion", criterion, CRITERIA) == "magnitude":
        scores = magnitude(net, layers)
    elif x is None:
        raise UserError("the relevance is that for a reference set: hand in its inputs x, and their labels")
    else:
        scores = relevance(net, x, labels, layers, rule=rule, mask=mask)
    for name, each in scores.items():
        if not torch.isfinite(each).all():
            raise UserError(f"the scores of {name} hold NaN or infinity: look for them in the weights and inputs")
    if not scores:
        raise UserError("the criterion scores no weight")
    return scores


def _own_scores(net: Module, criterion: Callable[[Module], Mapping[str, Tensor]], layers: Layers) -> dict[str, Tensor]:
    """Scores of a user's criterion for the layers that are chosen, checked."""
    if not callable(criterion):
        raise UserError(
            f"a criterion is {' or '.join(CRITERIA)} or a function of the network that returns scores by name of the "
            f"parameter, got {type(criterion).__name__}"
        )
    wanted = {_key(name) for name in chosen_layers(net, layers)}
    scores = criterion(net)
    if not isinstance(scores, Mapping):
        raise UserError(f"a criterion returns scores by name of the parameter, got {type(scores).__name__}")
    parameters = dict(net.named_parameters(remove_duplicate=False))
    seen: dict[int, str] = {}
    found = {}
    for name, each in scores.items():
        own = parameters.get(name)
        if own is None or own.ndim < 2 or not isinstance(each, Tensor) or each.shape != own.shape:
            shape = f"of shape {list(each.shape)}" if isinstance(each, Tensor) else f"in a {type(each).__name__}"
            raise UserError(f"the criterion gives {name!r} scores {shape}, which fit no weight")
        if layers is not None and name not in wanted:
            continue
        if id(own) in seen:
            raise UserError(f"the criterion scores one parameter twice, as {seen[id(own)]} and as {name}")
        seen[id(own)] = name
        found[name] = checks.tensor(f"a score, that of {name},", each)
    return found


def _masks(
    net: Module, rate: float, scores: Mapping[str, Tensor], scope: str, structured: bool, by_mean: bool
) -> Masks:
    """Rank by scores, and mask the lowest."""
    check_name("scope", scope, SCOPES)
    parameters = {name: p.detach() for name, p in net.named_parameters(remove_duplicate=False)}
    if not structured:
        # what is 0 already goes first, whatever else has a score of 0
        ranked = {
            name: torch.where(parameters[name] == 0, -1.0, each.double().abs().to(parameters[name].device)).flatten()
            for name, each in scores.items()
        }
        return Masks(net, {k: v.view(parameters[k].shape) for k, v in _kept(ranked, rate, scope).items()})
    units = {}
    for name in _with_units(net, [each.rpartition(".")[0] for each in scores]):
        own, weight = scores[_key(name)].double().flatten(1), parameters[_key(name)].flatten(1)
        value = own.abs().mean(1) if by_mean else own.sum(1).abs()
        value = torch.where((weight == 0).all(1).to(value.device), -1.0, value)
        value[value.argmax()] = math.inf  # one stays
        units[name] = value
    kept: dict[str, Tensor] = {}
    for name, stays in _kept(units, rate, scope).items():
        weight = parameters[_key(name)]
        stays = stays.to(weight.device) | torch.isinf(units[name]).to(weight.device)
        kept[_key(name)] = stays.view(-1, *[1] * (weight.ndim - 1)).expand(weight.shape).clone()
        if f"{name}.bias" in parameters:
            kept[f"{name}.bias"] = stays.clone()
    return Masks(net, kept)


def _kept(scores: Mapping[str, Tensor], rate: float, scope: str) -> dict[str, Tensor]:
    """Mask the lowest of each, or of all together."""
    if scope == "local":
        return {name: _lowest(each, rate).logical_not() for name, each in scores.items()}
    flat = _lowest(torch.cat([each.cpu() for each in scores.values()]), rate).logical_not()
    parts = flat.split([len(each) for each in scores.values()])
    return dict(zip(scores, parts, strict=True))


def _lowest(scores: Tensor, rate: float) -> Tensor:
    order = scores.argsort(stable=True)
    found = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    found[order[: math.floor(rate * len(scores) + 0.5)]] = True
    return found


def _with_units(net: Module, names: Sequence[str]) -> list[str]:
    """Names of the layers whose outputs are hidden neurons, which may be pruned as a whole."""
    known = graph.neighbours(net)
    found = []
    for name in names:
        _check_own_rows(net, name)
        if name not in known.layers:
            raise UserError(
                f"layer {name!r} stands inside neurons, as recurrent weights do, and has no neurons of its own to "
                "prune: leave it out by layers=, or prune single connections"
            )
        ahead = known.nearest(
            name, lambda layer: layer is None or not graph.has_trait(layer, "has_weights"), after=True
        )
        between = _between(known, name)
        if graph.UNKNOWN in ahead:
            raise UserError(
                f"what follows layer {name!r} is not known, since a module has a forward of its own: prune single "
                "connections, or put the layers into an nn.Sequential"
            )
        for own in between:
            layer = known.layers[own]
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                raise UserError(
                    f"the {type(layer).__name__} {own!r} shifts what neurons of {name!r} give after pruning: fold it "
                    "first, net = spikelfp.fold.fold_batchnorm(net)"
                )
            if any(True for _ in layer.children()) and graph.is_neuron(layer):
                raise UserError(
                    f"the neurons {own!r} after {name!r} drive each other, so that they fire without its weights: "
                    "prune single connections"
                )
        if graph.OUTPUT not in ahead:
            found.append(name)
    if not found:
        raise UserError("no layer has hidden neurons to prune: the outputs of the last one are those of the network")
    return found


def _check_own_rows(net: Module, name: str) -> None:
    """Refuse layers where a row of the weights is not what leads to one neuron of the layer alone."""
    layer: Any = net.get_submodule(name)
    if not isinstance(layer, WEIGHTED):
        raise UserError(
            f"layer {name!r} is a {type(layer).__name__}, whose rows of weights do not each lead to one neuron: prune "
            "single connections, or neurons of dense layers and convolutions"
        )
    if other := shared_with(net, layer):
        raise UserError(
            f"layer {name!r} shares a parameter with {other!r}, whose neurons are others: prune single connections, or "
            "give each layer its own"
        )


def shared_with(net: Module, layer: Module) -> str | None:
    """Find another layer that has a weight or bias of this one.

    Args:
        net: the network.
        layer: one of its layers.

    Returns:
        Name of the other; ``None`` where there is none.
    """
    own = {id(p) for p in layer.parameters(recurse=False)}
    for name, module in net.named_modules():
        if module is not layer and any(id(p) in own for p in module.parameters(recurse=False)):
            return name
    return None


def _between(known: graph.Neighbours, name: str) -> list[str]:
    """Names of the layers after one, up to the next layers of weights."""
    found: list[str] = []
    left = list(known.after[name])
    seen = set(left)
    while left:
        own = left.pop()
        layer = known.layers.get(own)
        if layer is not None and graph.has_trait(layer, "has_weights"):
            continue
        if layer is not None:
            found.append(own)
        more = known.after.get(own, frozenset()) - seen
        seen |= more
        left += more
    return found
