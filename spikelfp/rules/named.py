"""Rules by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from spikelfp.options import NOT_AN_OPTION, option
from spikelfp.registry import Registry
from spikelfp.rules.alphabeta import AlphaBeta
from spikelfp.rules.base import Rule
from spikelfp.rules.composite import Composite, epsilon_alphabeta, epsilon_zplusminus
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gamma import Gamma
from spikelfp.rules.zero import Zero
from spikelfp.rules.zplusminus import ZPlusMinus

rules: Registry[Callable[..., Rule | Composite]] = Registry("rule")
"""Classes of rules, or functions that make them; their arguments are their options (:mod:`spikelfp.options`).

A rule that takes ``normalize`` follows ``--normalize-reward``, one that takes ``constant_statistics`` ``--statistics``.
"""

Eps = Annotated[float, option("stabiliser ε of the rule", within="(0, ∞)")]
Alpha = Annotated[float, option("α of LFP-αβ; its β is α − 1", within="[1, ∞)")]
Statistics = Annotated[bool, NOT_AN_OPTION]

rules.register("zero")(Zero)
rules.register("epsilon")(Epsilon)
rules.register("zplusminus")(ZPlusMinus)
rules.register("gamma")(Gamma)


@rules.register("alphabeta")
def _alphabeta(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = True, alpha: Alpha = 2.0
) -> AlphaBeta:
    return AlphaBeta(eps=eps, normalize=normalize, constant_statistics=constant_statistics, alpha=alpha, beta=alpha - 1)


@rules.register("epsilon-zplusminus")
def _epsilon_zplusminus(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = True
) -> Composite:
    return epsilon_zplusminus(eps, normalize=normalize, constant_statistics=constant_statistics)


@rules.register("epsilon-alphabeta")
def _epsilon_alphabeta(
    *, eps: Eps = 1e-6, normalize: bool | str = False, constant_statistics: Statistics = True, alpha: Alpha = 2.0
) -> Composite:
    return epsilon_alphabeta(eps, alpha, alpha - 1, normalize=normalize, constant_statistics=constant_statistics)


def make_rule(name: str, **arguments: Any) -> Rule | Composite:
    """Make the rule of a name.

    Args:
        name: in :data:`rules`.
        **arguments: for its constructor; ``normalize`` and ``constant_statistics`` are left out if it has none.
    """
    taken = inspect.signature(rules[name]).parameters
    shared = ("normalize", "constant_statistics")
    return rules[name](**{each: value for each, value in arguments.items() if each in taken or each not in shared})


def rules_taking(argument: str) -> list[str]:
    """Names of the rules that have an argument."""
    return [name for name in rules if argument in inspect.signature(rules[name]).parameters]
