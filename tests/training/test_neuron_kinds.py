"""The trainer with every kind of neuron: rewards by default, silent layers woken, and learning."""

import pytest
import torch

from spikelfp import TemporalTrainer, data, nn, rewards
from spikelfp.tasks import Classification
from spikelfp.training.arguments import ends_in_spikes
from spikelfp.training.update import wake_silent_layers

NEURONS = {
    "lif": nn.LIF,
    "learned decay": lambda: nn.LIF(learn_beta=True),
    "synaptic": nn.Synaptic,
    "recurrent": lambda: nn.RecurrentLIF(32),
}


@pytest.mark.parametrize("kind", NEURONS)
def test_networks_of_every_kind_of_neuron_learn(kind):
    digits = data.load("digits")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), NEURONS[kind](), nn.Linear(32, 10), nn.LIF())
    trainer = TemporalTrainer(net, steps=8, lr=1e-2)
    trainer.fit(digits.train, 10)
    assert trainer.evaluate(digits.test).accuracy > 0.8


def test_a_leaky_readout_learns_from_a_reward_of_linear_outputs():
    digits = data.load("digits")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.LIF(), nn.Linear(32, 10), nn.LI())
    trainer = TemporalTrainer(net, steps=8, lr=1e-2)
    assert isinstance(trainer.method.reward, rewards.Softmax)
    trainer.fit(digits.train, 10)
    assert trainer.evaluate(digits.test).accuracy > 0.85


def test_recurrent_neurons_at_the_output_get_the_reward_of_spikes():
    net = nn.Sequential(nn.Linear(4, 3), nn.RecurrentLIF(nn.Linear(3, 3)))
    assert isinstance(Classification().reward(ends_in_spikes(net)), rewards.SpikeSequence)
    assert isinstance(Classification().reward(ends_in_spikes(nn.Linear(4, 3))), rewards.Softmax)


def test_waking_a_recurrent_layer_scales_its_input_weights_not_its_recurrent_ones():
    net = nn.Sequential(nn.Linear(6, 8), nn.RecurrentLIF(nn.Linear(8, 8)), nn.Linear(8, 3), nn.LIF())
    before = net[1].recurrent.weight.clone()
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
        net[0].bias.zero_()
        net[1].recurrent.bias.zero_()
    factors = wake_silent_layers(net, torch.rand(5, 16, 6))
    assert set(factors) == {"0"}
    assert factors["0"] > 10
    torch.testing.assert_close(net[1].recurrent.weight, before)


def test_a_network_of_sigmoids_is_warned_about_before_training(tmp_path):
    from spikelfp.training.config import RunConfig
    from spikelfp.training.run import train

    lines: list[str] = []
    train(
        RunConfig(model="mlp", hidden=(16,), activation="sigmoid", epochs=1),
        tmp_path / "run",
        progress=False,
        echo=lines.append,
    )
    assert lines[0].startswith("warning: Sigmoid is positive where its input is negative")
    assert sum("Sigmoid" in line for line in lines) == 1
