"""Experiments of the papers, one command each: ``spikelfp reproduce NAME --out DIR``.

An experiment of your own is a class of :class:`Experiment` in a plug-in, registered with ``experiments.register``.
"""

from spikelfp.registry import public_names
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Verdict, experiments
from spikelfp.reproduce.runner import reproduce
from spikelfp.reproduce.two_weights import TwoWeights

__all__ = ["Desk", "Experiment", "Part", "Results", "TwoWeights", "Verdict", "experiments", "reproduce"]

public_names(globals())
