"""Rules for splitting the reward of a layer over its inputs: one rule a file, found by name in :data:`rules`."""

from spikelfp.registry import check_constructors, public_names
from spikelfp.rules.alphabeta import AlphaBeta
from spikelfp.rules.base import Feedback, HasRule, Rule, attach, lending, restore, rules_in, rules_of, using
from spikelfp.rules.composite import Composite, epsilon_alphabeta, epsilon_zplusminus, make_rule, rules, rules_taking
from spikelfp.rules.epsilon import Epsilon
from spikelfp.rules.gamma import Gamma
from spikelfp.rules.gradient import Gradient, Surrogate, surrogates
from spikelfp.rules.zero import Zero
from spikelfp.rules.zplusminus import ZPlusMinus

__all__ = [
    "AlphaBeta", "Composite", "Epsilon", "Feedback", "Gamma", "Gradient", "HasRule", "Rule", "Surrogate",
    "ZPlusMinus", "Zero", "attach", "epsilon_alphabeta", "epsilon_zplusminus", "lending", "make_rule", "restore",
    "rules", "rules_in", "rules_of", "rules_taking", "surrogates", "using",
]  # fmt: skip

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
