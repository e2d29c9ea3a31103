"""Neurons of a user's own, known by their traits alone, wherever layers are asked what they are."""

import pytest
import torch

from spikelfp import TemporalTrainer, analysis, data, methods, nn, rewards, rules
from spikelfp.errors import UserError
from spikelfp.nn import graph
from spikelfp.quantized import Quantization
from spikelfp.training.arguments import ends_in_spikes, learning_complaints, output_kind
from spikelfp.training.memory import _outputs
from spikelfp.training.update import AWAKE, wake_silent_layers


class Leaky(nn.Layer):
    """LIF neurons with a decay that learns, written from :class:`nn.Layer`: no class of the package's is their base."""

    fires = has_membrane = has_threshold = True
    arguments = ("threshold",)

    def __init__(self, threshold=1.0, *, rule=None):
        super().__init__()
        self.threshold, self.rule = threshold, rule
        self.decay = torch.nn.Parameter(torch.tensor(0.9))

    def forward(self, x):
        return self.run(x)[0]

    def run(self, x, state=None):
        start = torch.zeros_like(x[0]) if state is None else state
        return self.rule.lif(x, start, nn.LIF(float(self.decay), self.threshold).constants, self.decay)


def net_of(*, threshold=0.5):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Leaky(threshold), nn.Linear(32, 10), Leaky(0.5))


def test_they_are_recorded_woken_and_counted():
    net, x = net_of(threshold=8.0), torch.rand(10, 5, 64)
    assert list(analysis.record(net, x)) == ["2", "4"]
    assert analysis.spike_rates(net, x)["2"] < 0.005
    assert list(wake_silent_layers(net, x)) == ["1"]
    assert analysis.spike_rates(net, x)["2"] >= AWAKE
    assert _outputs(net_of().to("meta"), (64,)) == [64, 32, 32, 10, 10]


def test_what_does_not_go_together_is_said_of_them():
    net = net_of()
    assert output_kind(net) == "spikes"
    assert ends_in_spikes(net)
    assert not ends_in_spikes(nn.Sequential(net, nn.Linear(10, 10)))
    assert "Leaky" in learning_complaints(net, methods.LFP(rewards.SpikeSequence()), steps=1)[0]
    with pytest.raises(UserError, match="plain gradient descent changes no weight"):
        TemporalTrainer(net, method=methods.GradientDescent(rules.Gradient()), steps=5)


def test_they_train_quantised_with_a_limit_on_weights_that_leaves_their_decay_alone():
    net = net_of()
    digits = data.load("digits")
    trainer = TemporalTrainer(net, steps=8, max_weight=0.3, quantization=Quantization(4), progress=False)
    assert [group.threshold for group in trainer.grids.groups] == [0.5, 0.5]
    trainer.fit(digits.train, epochs=4)
    assert list(graph.decays(net)) == ["2.decay", "4.decay"]
    assert net[1].weight.abs().max() <= 0.3
    assert net[2].decay > 0.3
    assert trainer.evaluate(digits.test).accuracy > 0.3
