"""Experiments of the papers, one command each: ``spikelfp reproduce NAME --out DIR``.

An experiment of your own is a class of :class:`Experiment` in a plug-in, registered with ``experiments.register``.
"""

from spikelfp.registry import public_names
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Verdict, experiments
from spikelfp.reproduce.depth import Depth
from spikelfp.reproduce.false_positive import FalsePositiveReward
from spikelfp.reproduce.runner import reproduce
from spikelfp.reproduce.shattering import Shattering
from spikelfp.reproduce.simple_reward import SimpleReward
from spikelfp.reproduce.toy import Toy
from spikelfp.reproduce.toy_activations import ToyActivations
from spikelfp.reproduce.two_weights import TwoWeights

__all__ = [
    "Depth",
    "Desk",
    "Experiment",
    "FalsePositiveReward",
    "Part",
    "Results",
    "Shattering",
    "SimpleReward",
    "Toy",
    "ToyActivations",
    "TwoWeights",
    "Verdict",
    "experiments",
    "reproduce",
]

public_names(globals())
