"""From outputs and labels to rewards, by name in :data:`rewards`."""

from collections.abc import Callable

from spikelfp.registry import Registry
from spikelfp.rewards.base import Reward
from spikelfp.rewards.classification import Sigmoid, Softmax
from spikelfp.rewards.sequence import SpikeSequence, SpikeSequenceV1

rewards: Registry[Callable[[], Reward]] = Registry("reward")
rewards.register("spike-sequence")(SpikeSequence)
rewards.register("spike-sequence-v1")(SpikeSequenceV1)
rewards.register("softmax")(Softmax)
rewards.register("sigmoid")(Sigmoid)

__all__ = ["Reward", "Sigmoid", "Softmax", "SpikeSequence", "SpikeSequenceV1", "rewards"]
