"""Sparsity of weights, and how training changes them: Gini index, θ-sparsity, changes of sign, updates, medians.

Each function takes a network or a state dict (of a checkpoint, say) and returns a value for each *weight*:
floating-point parameters of two axes or more, by their names. Scales, shifts and biases have one axis and are left
out, as are buffers of a network, position embeddings and normalisations. BatchNorm
scales the weights in front of it: fold it first (:func:`spikelfp.fold.fold_batchnorm`; v3, appendix A.6.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError

Weights = Module | Mapping[str, Any]
"""Network, or state dict."""
Found = TypeVar("Found")

_NOT_WEIGHTS = (nn.PositionEmbedding, nn.Scale, torch.nn.LayerNorm)
"""Layers whose parameters of several axes are added to values, or scale them one by one."""


def weights_of(source: Weights) -> dict[str, Tensor]:
    """List the weights of a network or a state dict by name: parameters of two axes or more.

    Args:
        source: network, whose shared weights are listed once; or state dict, of which every floating-point tensor of
            two axes or more counts.

    Raises:
        UserError: where there are none, and where weights are computed at every run (torch's pruning and
            parametrizations), so that no parameter holds them.
    """
    if isinstance(source, Module):
        other = {id(p) for layer in source.modules() if isinstance(layer, _NOT_WEIGHTS) for p in layer.parameters()}
        named: list[tuple[str, Any]] = [(name, p) for name, p in source.named_parameters() if id(p) not in other]
    elif isinstance(source, Mapping):
        named = list(source.items())
    else:
        raise UserError(f"weights are those of a network or a state dict, got {type(source).__name__}")
    _check_held(dict(named))
    found = {
        name: value.detach()
        for name, value in named
        if isinstance(value, Tensor) and value.ndim > 1 and value.is_floating_point()
    }
    if not found:
        raise UserError("there are no weights: no floating-point parameter has two axes or more")
    return found


def _check_held(named: Mapping[str, Any]) -> None:
    """Refuse states whose tensors are parts from which weights are computed."""
    for name in map(str, named):
        whole, _, last = name.rpartition(".")
        if ".parametrizations." in f".{name}" or (last.endswith("_g") and f"{name[:-2]}_v" in named):
            raise UserError(
                f"{name} is a part from which a weight is computed at every run: make it a parameter first, by "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.remove_weight_norm"
            )
        if last.endswith("_orig"):
            raise UserError(
                f"{name} is a weight before torch.nn.utils.prune, which masks it at every run: "
                f"spikelfp.pruning.from_torch(net) makes layer {whole!r} and the others hold what is left"
            )


def gini(weights: Weights) -> dict[str, float]:
    """Compute the Gini index of the magnitudes of weights, the measure of sparsity of v3, Fig. 5.

    ::

        G = 1 − 2 Σ_k |w|_(k) / ‖w‖₁ · (N − k + ½) / N,          |w|_(1) ≤ … ≤ |w|_(N)

    It is 0 where all are equal and ``1 − 1/N`` where all but one are 0 (Hurley & Rickard 2009, Table I).

    Args:
        weights: network or state dict.

    Returns:
        Index in [0, 1) of each weight by name; NaN where every number is 0.
    """
    return _each(weights, _gini)


def _gini(w: Tensor) -> float:
    size = w.double().abs().flatten().sort().values
    ranks = torch.arange(1, len(size) + 1, dtype=torch.float64, device=size.device)
    found = float(1 - 2 * (size / size.sum() * (len(size) - ranks + 0.5) / len(size)).sum())
    return 0.0 if found < 0 else found  # rounding, where all are equal


def theta_sparsity(weights: Weights, theta: float = 0.25) -> dict[str, float]:
    """Compute the share of neutral weights, ``|w| ≤ θ max|w|`` with the largest of the layer (v3, Fig. 3).

    Args:
        weights: network or state dict.
        theta: threshold θ in [0, 1], 0.25 in the picture of the paper.

    Returns:
        Share in [0, 1] of each weight by name; 1 where every number is 0.

    Raises:
        UserError: for a θ outside [0, 1].
    """
    theta = checks.share("theta", theta)
    return _each(weights, lambda w: _neutral(w.double().abs(), theta))


def _neutral(size: Tensor, theta: float) -> float:
    return float((size <= theta * size.max()).double().mean())


def median_magnitude(weights: Weights, *, relative: bool = False) -> dict[str, float]:
    """Compute the median of ``|w|``, which v1, Fig. 5 (IV) follows over the epochs.

    Args:
        weights: network or state dict.
        relative: divide it by the 75th percentile of ``|w|``, as in that figure.

    Returns:
        Median of each weight by name; NaN where it is relative to 0.
    """
    return _each(weights, lambda w: _median(w, relative))


def _median(w: Tensor, relative: bool) -> float:
    size = w.double().abs().flatten().sort().values
    middle, upper = (_percentile(size, share) for share in (0.5, 0.75))
    return float(middle / upper) if relative else float(middle)


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """Interpolated percentile; ``torch.quantile`` takes no more than 16 million numbers."""
    place = share * (len(ordered) - 1)
    low = int(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


@dataclass(frozen=True)
class Changes:
    """Number of weights that changed, of so many.

    Attributes:
        changed: weights that did.
        weights: all of them.
    """

    changed: int
    weights: int

    @property
    def share(self) -> float:
        """Share of the weights that changed."""
        return self.changed / self.weights


def sign_changes(before: Weights, after: Weights) -> dict[str, Changes]:
    """Count the weights whose sign has changed between two states of a network, ``w_before w_after < 0``.

    v1, Fig. 3 and 5 count them from epoch to epoch: LFP lets harmful connections fade instead of turning them round. A
    weight of exactly 0 has no sign, and is not counted.

    Args:
        before: network or state dict.
        after: the same after training.

    Returns:
        Counts of each weight by name.

    Raises:
        UserError: for states of two different networks.
    """
    return _pairs(before, after, lambda old, new: Changes(int((old.sign() * new.sign() < 0).sum()), old.numel()))


def update_density(before: Weights, after: Weights) -> dict[str, Changes]:
    """Count the weights that an update, or training, has changed at all.

    LFP leaves connections alone that contributed nothing, so that its updates are sparse (v3, section 1).

    Args:
        before: network or state dict.
        after: the same after the update.

    Returns:
        Counts of each weight by name.

    Raises:
        UserError: for states of two different networks.
    """
    return _pairs(before, after, lambda old, new: Changes(int((old != new).sum()), old.numel()))


def _each(weights: Weights, measure: Callable[[Tensor], Found]) -> dict[str, Found]:
    return {name: measure(_checked(name, each)) for name, each in weights_of(weights).items()}


def _pairs(before: Weights, after: Weights, measure: Callable[[Tensor, Tensor], Found]) -> dict[str, Found]:
    old, new = weights_of(before), weights_of(after)
    if old.keys() != new.keys():
        odd = sorted(old.keys() ^ new.keys())[0]
        raise UserError(f"{odd} is a weight of one of the two states alone: they are of different networks")
    return {name: measure(*_fitting(name, old[name], new[name])) for name in old}


def _fitting(name: str, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    if old.shape != new.shape:
        raise ShapeError(f"{name} has shape {list(old.shape)} before and {list(new.shape)} after")
    return _checked(name, old), _checked(name, new).to(old.device)


def _checked(name: str, w: Tensor) -> Tensor:
    """Refuse what has no order: an empty tensor, and one with NaN."""
    checks.tensor(name, w)
    if not w.numel() or not w.is_floating_point():
        raise UserError(f"{name} holds no floating-point numbers: shape {list(w.shape)}, {w.dtype}")
    if not torch.isfinite(w).all():
        raise UserError(f"{name} holds NaN or infinity: look for them with torch.isfinite")
    return w
