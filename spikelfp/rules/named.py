"""Rules by name, each made from the options it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spikelfp.registry import Registry
from spikelfp.rules.alphabeta import AlphaBeta
from spikelfp.rules.base import Rule
from spikelfp.rules.composite import Composite, epsilon_alphabeta, epsilon_zplusminus
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gamma import Gamma
from spikelfp.rules.zero import Zero
from spikelfp.rules.zplusminus import ZPlusMinus


@dataclass(frozen=True)
class RuleOptions:
    """Options of all rules; each takes its own. ``β`` of LFP-αβ is ``α − 1``."""

    eps: float = 1e-6
    normalize: bool | str = False
    alpha: float = 2.0
    gamma: float = 0.25
    constant_statistics: bool = True

    @property
    def shared(self) -> dict[str, Any]:
        """Those that every rule takes, but ε."""
        return {"normalize": self.normalize, "constant_statistics": self.constant_statistics}


rules: Registry[Callable[[RuleOptions], Rule | Composite]] = Registry("rule")
rules.register("zero")(lambda o: Zero(**o.shared))
rules.register("epsilon")(lambda o: Epsilon(o.eps, **o.shared))
rules.register("alphabeta")(lambda o: AlphaBeta(eps=o.eps, alpha=o.alpha, beta=o.alpha - 1, **o.shared))
rules.register("zplusminus")(lambda o: ZPlusMinus(o.eps, **o.shared))
rules.register("gamma")(lambda o: Gamma(eps=o.eps, gamma=o.gamma, **o.shared))
rules.register("epsilon-zplusminus")(lambda o: epsilon_zplusminus(o.eps, **o.shared))
rules.register("epsilon-alphabeta")(lambda o: epsilon_alphabeta(o.eps, alpha=o.alpha, beta=o.alpha - 1, **o.shared))
