"""Experiments of the papers, one command each: ``spikelfp reproduce NAME --out DIR``.

An experiment of your own is a class of :class:`Experiment` in a plug-in, registered with ``experiments.register``.
"""

from spikelfp.registry import public_names
from spikelfp.reproduce.activations import Activations
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Verdict, experiments
from spikelfp.reproduce.depth import Depth
from spikelfp.reproduce.f3_fig2 import MethodsOfF3
from spikelfp.reproduce.f3_fig3 import FeedbackOfF3
from spikelfp.reproduce.f3_fig4 import DepthOfF3
from spikelfp.reproduce.false_positive import FalsePositiveReward
from spikelfp.reproduce.objectives import Objectives
from spikelfp.reproduce.pruning import Pruning
from spikelfp.reproduce.runner import reproduce
from spikelfp.reproduce.shattering import ShatteredSignals
from spikelfp.reproduce.sign_changes import SignChanges
from spikelfp.reproduce.simple_reward import SimpleReward
from spikelfp.reproduce.snn import SpikingNetworks
from spikelfp.reproduce.snn_sweep import SpikingSweep
from spikelfp.reproduce.sparsity import Sparsity
from spikelfp.reproduce.toy import Toy
from spikelfp.reproduce.toy_activations import ToyActivations
from spikelfp.reproduce.two_weights import TwoWeights

__all__ = [
    "Activations",
    "Depth",
    "DepthOfF3",
    "Desk",
    "Experiment",
    "FalsePositiveReward",
    "FeedbackOfF3",
    "MethodsOfF3",
    "Objectives",
    "Part",
    "Pruning",
    "Results",
    "ShatteredSignals",
    "SignChanges",
    "SimpleReward",
    "Sparsity",
    "SpikingNetworks",
    "SpikingSweep",
    "Toy",
    "ToyActivations",
    "TwoWeights",
    "Verdict",
    "experiments",
    "reproduce",
]

public_names(globals())
