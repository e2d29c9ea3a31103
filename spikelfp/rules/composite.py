"""Rules by name, and different rules for different layers (v1, sections 2.5 and A.6.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import nn

from spikelfp.errors import UserError
from spikelfp.options import NOT_AN_OPTION, option
from spikelfp.registry import Registry, parameters_of
from spikelfp.rules.alphabeta import AlphaBeta
from spikelfp.rules.base import Assigning, Rule, layers_with_rules
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gamma import Gamma
from spikelfp.rules.zero import Zero
from spikelfp.rules.zplusminus import ZPlusMinus

if TYPE_CHECKING:
    from typing_extensions import Self

Selector = type[nn.Module] | tuple[type[nn.Module], ...] | str | int
"""Class of layers, or several; pattern of names (``features.*``); position among layers with weights (−1 the last)."""

NORMS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)
CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


class Composite(Assigning):
    """A rule for each layer: the first selector that fits the layer decides (v1, sections 2.5 and A.6.2).

    >>> Composite([(torch.nn.Conv2d, ZPlusMinus()), ("classifier.*", Epsilon(1e-3)), (-1, Epsilon())])

    A layer without a product of its own (neurons, activations, normalisation) that no selector fits takes the rule of
    the nearest layer with a product before it, in the order of ``net.modules()``. So neurons have the ε of the layer
    that drives them, and the last layer's ε is that of the outputs. All other layers follow ``default``.

    A composite goes wherever a rule goes: to :func:`spikelfp.rules.using`, :func:`spikelfp.rules.attach` and
    :class:`spikelfp.methods.LFP`.

    Args:
        parts: pairs of a selector and a rule. A selector is a class of layers (or several), a pattern of their names,
            or the position of a layer among those with weights (:data:`Selector`).
        default: rule of the layers that no selector fits; by default :class:`~spikelfp.rules.Epsilon`.

    Raises:
        UserError: for what is no pair of a selector and a rule; and when the composite meets a network, for a pattern
            or a position that fits no layer. A class may be absent.
    """

    def __init__(self, parts: Iterable[tuple[Selector, Rule]], default: Rule | None = None) -> None:
        if isinstance(parts, Rule | str | Mapping) or not isinstance(parts, Iterable):
            got = "one rule" if isinstance(parts, Rule) else type(parts).__name__
            raise UserError(
                f"a Composite takes a list of pairs, Composite([(torch.nn.Conv2d, rules.Gamma()), …]), got {got}: one "
                "rule for all layers needs none, and that of layers without a pair is default="
            )
        self.parts = tuple(_part(part) for part in parts)
        self.default = Epsilon() if default is None else _rule(default)

    def assign(self, net: nn.Module) -> dict[nn.Module, Rule]:
        """Choose the rule of each layer of ``net`` that follows one.

        Raises:
            UserError: for a pattern or a position that fits no layer.
        """
        names = {module: name for name, module in net.named_modules()}
        layers = layers_with_rules(net)
        weighted = [layer for layer in layers if isinstance(getattr(layer, "weight", None), torch.Tensor)]
        chosen: dict[nn.Module, Rule] = {}
        for selector, rule in reversed(self.parts):  # the first one has the last word
            fits = _fitting(selector, layers, weighted, names)
            if not fits and isinstance(selector, (str, int)):
                known = ", ".join(names[layer] or "(the network itself)" for layer in weighted)
                raise UserError(f"no layer fits {selector!r}; layers with weights, from 0: {known or 'none'}")
            chosen |= dict.fromkeys(fits, rule)
        driving = self.default
        for layer in layers:
            drives = layer in weighted and (layer in chosen or not isinstance(layer, NORMS))
            chosen.setdefault(layer, self.default if drives else driving)
            if drives:
                driving = chosen[layer]
        return {layer: chosen[layer] for layer in layers}

    def for_method(self) -> Self:
        lent = copy.copy(self)
        lent.parts = tuple((selector, rule.for_method()) for selector, rule in self.parts)
        lent.default = self.default.for_method()
        return lent

    def __repr__(self) -> str:
        return f"Composite({list(self.parts)!r}, default={self.default!r})"


def _part(part: Any) -> tuple[Selector, Rule]:
    """Return a pair of a selector and a rule, or raise :class:`~spikelfp.errors.UserError`."""
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise UserError(
            'a Composite takes pairs of a selector and a rule, Composite([("features.*", rules.Gamma()), …]), got '
            f"{type(part).__name__}{f' {part!r}' if isinstance(part, str | int) else ''}"
        )
    selector, rule = part
    types = selector if isinstance(selector, tuple) else (selector,)
    if isinstance(selector, bool) or not (isinstance(selector, str | int) or all(isinstance(t, type) for t in types)):
        raise UserError(
            "a selector is a class of layers, a pattern of their names or a position among those with weights, got "
            f"{type(selector).__name__}"
        )
    return selector, _rule(rule)


def _rule(rule: Any) -> Rule:
    if not isinstance(rule, Rule):
        raise UserError(f"a Composite takes rules of spikelfp.rules, such as rules.Gamma(), got {rule!r}")
    return rule


def _fitting(
    selector: Selector, layers: list[nn.Module], weighted: list[nn.Module], names: dict[nn.Module, str]
) -> list[nn.Module]:
    if isinstance(selector, int):
        return [weighted[selector]] if -len(weighted) <= selector < len(weighted) else []
    if isinstance(selector, str):
        return [layer for layer in layers if fnmatchcase(names[layer], selector)]
    return [layer for layer in layers if isinstance(layer, selector)]


def epsilon_zplusminus(eps: float = 1e-6, **shared: Any) -> Composite:
    """LFP-ε-z⁺z⁻ (v1, A.6.2): z⁺z⁻ in convolutions, ε in dense layers.

    Args:
        eps: ε of both rules.
        **shared: other options of both rules, ``normalize``, ``constant_statistics`` and ``credit``.
    """
    return Composite([(CONVOLUTIONS, ZPlusMinus(eps, **shared))], default=Epsilon(eps, **shared))


def epsilon_alphabeta(eps: float = 1e-6, alpha: float = 2.0, beta: float = 1.0, **shared: Any) -> Composite:
    """LFP-ε-αβ, by default ε-α2β1 (v1, A.6.2): αβ in convolutions, ε in dense layers.

    Args:
        eps: ε of both rules.
        alpha: α of the convolutions.
        beta: their β, ``α − 1``.
        **shared: other options of both rules, ``normalize``, ``constant_statistics`` and ``credit``.
    """
    alphabeta = AlphaBeta(eps=eps, alpha=alpha, beta=beta, **shared)
    return Composite([(CONVOLUTIONS, alphabeta)], default=Epsilon(eps, **shared))


rules: Registry[Callable[..., Rule | Composite]] = Registry("rule")
"""Classes of rules, or functions that make them; their arguments are their options (:mod:`spikelfp.options`).

A rule that takes ``normalize`` follows ``--normalize-reward``, one that takes ``constant_statistics`` ``--statistics``.
"""

Eps = Annotated[float, option("stabiliser ε of the rule", within="(0, ∞)")]
Alpha = Annotated[float, option("α of LFP-αβ; its β is α − 1", within="[1, ∞)")]
Statistics = Annotated[bool | None, NOT_AN_OPTION]
Credit = Annotated[str, NOT_AN_OPTION]

rules.register("zero")(Zero)
rules.register("epsilon")(Epsilon)
rules.register("zplusminus")(ZPlusMinus)
rules.register("gamma")(Gamma)


@rules.register("alphabeta")
def _alphabeta(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = None, credit: Credit = "scan",
    alpha: Alpha = 2.0,
) -> AlphaBeta:  # fmt: skip
    shared: Any = {"normalize": normalize, "constant_statistics": constant_statistics, "credit": credit}
    return AlphaBeta(eps=eps, alpha=alpha, beta=alpha - 1, **shared)


@rules.register("epsilon-zplusminus")
def _epsilon_zplusminus(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = None, credit: Credit = "scan"
) -> Composite:
    return epsilon_zplusminus(eps, normalize=normalize, constant_statistics=constant_statistics, credit=credit)


@rules.register("epsilon-alphabeta")
def _epsilon_alphabeta(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = None, credit: Credit = "scan",
    alpha: Alpha = 2.0,
) -> Composite:  # fmt: skip
    shared: Any = {"normalize": normalize, "constant_statistics": constant_statistics, "credit": credit}
    return epsilon_alphabeta(eps, alpha, alpha - 1, **shared)


def make_rule(name: str, **arguments: Any) -> Rule | Composite:
    """Make a rule by its name.

    Args:
        name: in :data:`rules`.
        **arguments: of its constructor. ``normalize``, ``constant_statistics`` and ``credit="scan"`` are left out where
            it has none.

    Raises:
        UserError: for an unknown name, values that the rule refuses, and another ``credit`` where it has none.
    """
    taken = parameters_of(rules[name])
    shared = ("normalize", "constant_statistics", "credit")
    credit = arguments.get("credit", "scan")
    if credit != "scan" and "credit" not in taken:
        raise UserError(
            f"the rule {name!r} takes no credit, got credit={credit!r}; those that do: "
            f"{', '.join(rules_taking('credit'))}"
        )
    return rules[name](**{each: value for each, value in arguments.items() if each in taken or each not in shared})


def rules_taking(argument: str) -> list[str]:
    """List the names of the rules whose constructor takes an argument.

    Args:
        argument: its name.
    """
    return [name for name in rules if argument in parameters_of(rules[name])]
