"""How a layer splits a reward: one rule a file, found by name in :data:`rules`."""

from spikelfp.registry import Registry
from spikelfp.rules.base import Rule
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gradient import Gradient
from spikelfp.rules.surrogate import Surrogate, surrogates
from spikelfp.rules.switch import using

rules: Registry[type[Rule]] = Registry("rule")
rules.register("epsilon")(Epsilon)

__all__ = ["Epsilon", "Gradient", "Rule", "Surrogate", "rules", "surrogates", "using"]
