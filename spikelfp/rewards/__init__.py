"""Rewards of outputs for labels, by name in :data:`rewards`.

==================  ===================================================================================================
classes             :class:`Softmax`, :class:`Sigmoid`, :class:`CorrectClass`, :class:`FalsePositive` (v3, Table 2),
                    :class:`Sign` (v1, A.1), :class:`Binary` (one output)
spike sequences     :class:`SpikeSequence` (v3, A.4), :class:`SpikeSequenceV1` (v1, A.16), :class:`CountSoftmax`
real targets        :class:`SquaredError`, :class:`Huber`, :class:`AbsoluteError`, :class:`SpikeRate`
any metric          :class:`FromMetric` of discrete outcomes, :class:`F1`, :class:`Levenshtein`;
                    :class:`Perturbation` of the outputs themselves
from outside        :class:`FromCallback`
a user's own        :class:`Reward`, or :class:`GlobalReward` with eq. 12-13 (:func:`initial_reward`)
==================  ===================================================================================================
"""

from collections.abc import Callable

from spikelfp.registry import Registry, check_constructors, public_names
from spikelfp.rewards.base import Reward
from spikelfp.rewards.classification import Binary, CorrectClass, FalsePositive, Sigmoid, Sign, Softmax
from spikelfp.rewards.edit_distance import Levenshtein
from spikelfp.rewards.global_reward import CONVERGENCES, FromCallback, GlobalReward, initial_reward
from spikelfp.rewards.metric import F1, FromMetric, Perturbation
from spikelfp.rewards.regression import AbsoluteError, Huber, SpikeRate, SquaredError
from spikelfp.rewards.sequence import CountSoftmax, SpikeSequence, SpikeSequenceV1

rewards: Registry[Callable[[], Reward]] = Registry("reward")
rewards.register("spike-sequence")(SpikeSequence)
rewards.register("spike-sequence-v1")(SpikeSequenceV1)
rewards.register("count-softmax")(CountSoftmax)
rewards.register("softmax")(Softmax)
rewards.register("sigmoid")(Sigmoid)
rewards.register("correct-class")(CorrectClass)
rewards.register("false-positive")(FalsePositive)
rewards.register("sign")(Sign)
rewards.register("f1")(F1)

__all__ = [
    "CONVERGENCES",
    "F1",
    "AbsoluteError",
    "Binary",
    "CorrectClass",
    "CountSoftmax",
    "FalsePositive",
    "FromCallback",
    "FromMetric",
    "GlobalReward",
    "Huber",
    "Levenshtein",
    "Perturbation",
    "Reward",
    "Sigmoid",
    "Sign",
    "Softmax",
    "SpikeRate",
    "SpikeSequence",
    "SpikeSequenceV1",
    "SquaredError",
    "initial_reward",
    "rewards",
]

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
