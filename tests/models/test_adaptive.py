"""Hidden neurons with rising thresholds: made, trained, resumed, and refused where nothing holds them."""

from __future__ import annotations

import json
import re

import pytest
import torch

from hw_export import quantize, to_nir
from hw_export.integer import IntegerSimulator
from hw_export.model_file import save_network
from hw_export.targets import TARGETS
from spikelfp import models, nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.interop import to_norse, to_snntorch
from spikelfp.models import ModelSpec, build
from spikelfp.training.config import RunConfig
from tests.reference import dense

QUICK = ("--data", "digits", "--hidden", "12", "--steps", "4", "--batch-size", "64", "--no-report", "--quiet")


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("lif-mlp", (6,), {"hidden": (5, 4)}),
        ("lif-conv", (1, 16, 16), {"width": 2}),
        ("lif-resnet18", (1, 8, 8), {"width": 4}),
        ("lif-vit", (1, 8, 8), {"width": 8, "depth": 1, "heads": 2, "patch": 4}),
        ("lif-rnn", (6,), {"hidden": (5, 4)}),
    ],
)
def test_hidden_neurons_get_their_constants_and_the_output_stays(name, shape, options, learn):
    neuron = {"beta": 0.8, "threshold": 0.7, "reset": "zero", "floor": 1.0, "margin": 0.6, "learn_beta": learn}
    torch.manual_seed(0)
    plain = build(ModelSpec(name, shape, 3, options, neuron))
    torch.manual_seed(0)
    net = build(ModelSpec(name, shape, 3, options, neuron, {"name": "gamma"}, {"phi": 0.3, "rho": 0.9}))
    found = [layer for layer in net.modules() if isinstance(layer, nn.Neurons)]
    hidden = [layer for layer in found if type(layer) is (nn.RecurrentALIF if name == "lif-rnn" else nn.ALIF)]
    assert len(hidden) == len([layer for layer in plain.modules() if isinstance(layer, nn.Neurons)]) - 1
    for layer in hidden:
        assert (layer.phi, layer.rho, layer.threshold, layer.reset) == (0.3, 0.9, 0.7, "zero")
        assert (layer.floor, layer.margin, layer.learn_beta) == (1.0, 0.6, learn)
        assert layer.beta.numel() > 1
    assert type(found[-1]) is nn.LIF or name == "lif-vit"
    assert list(net.state_dict()) == list(
        build(ModelSpec(name, shape, 3, options, neuron, {"name": "gamma"})).state_dict()
    )
    assert net(torch.rand(3, 2, *shape)).isfinite().all()


@pytest.mark.parametrize("make", [models.lif_mlp, models.lif_rnn])
def test_without_a_rise_they_are_lif_neurons(make):
    torch.manual_seed(0)
    net = make([6, 8, 3], threshold=0.3)
    x = (torch.rand(9, 4, 6) < 0.5).float()
    spikes = net(x)
    assert spikes.any()
    models.make_adaptive(net, phi=0.0)
    assert torch.equal(net(x), spikes)
    models.make_adaptive(other := make([6, 8, 3], threshold=0.3), phi=0.5)
    other.load_state_dict(net.state_dict())
    assert other[:3](x).sum() < net[:3](x).sum()  # thresholds that rise let fewer spikes through


@pytest.mark.parametrize("make", [models.lif_mlp, models.lif_rnn])
def test_rules_of_layers_stay(make):
    net, own = make([6, 8, 3]), rules.Epsilon(0.25)
    before = next(layer for layer in net if isinstance(layer, nn.Neurons))
    before.rule = own
    models.make_adaptive(net)
    adaptive = next(layer for layer in net if isinstance(layer, nn.Neurons))
    assert adaptive is not before
    assert adaptive.rule is own


def test_neurons_in_two_places_stay_one():
    neurons = nn.LIF(0.9)
    net = nn.Sequential(nn.Linear(5, 6), neurons, nn.Linear(6, 6), neurons, nn.Linear(6, 3), nn.LIF())
    models.make_adaptive(net, phi=0.3)
    assert [type(layer) for layer in net[1::2]] == [nn.ALIF, nn.ALIF, nn.LIF]
    assert net[1] is net[3]


def test_a_network_that_is_refused_is_as_before():
    net = nn.Sequential(nn.Linear(5, 6), nn.LIF(), nn.Linear(6, 6), nn.Synaptic(), nn.Linear(6, 3), nn.LIF())
    before = list(net)
    with pytest.raises(UserError, match="layer 3 is a Synaptic"):
        models.make_adaptive(net)
    assert all(own is layer for own, layer in zip(net, before, strict=True))


def test_kinds_without_such_a_form_are_named():
    net = nn.Sequential(nn.Linear(4, 3), nn.Synaptic(), nn.Linear(3, 2), nn.LIF())
    with pytest.raises(UserError, match="layer 1 is a Synaptic, which has no form with a threshold that rises"):
        models.make_adaptive(net)


@pytest.mark.parametrize(("floor", "margin"), [(0.0, 1.0), (1.0, 0.6)])
def test_credit_is_that_of_lif_neurons_with_spikes_of_the_raised_threshold(floor, margin):
    """Neuron by neuron in plain floats: ``D`` has the threshold at rest, messages are earned above the raised one."""
    torch.manual_seed(3)
    beta, theta, rho, phi = 0.8, 0.4, 0.9, 0.8
    net = nn.Sequential(
        nn.Linear(3, 4), nn.ALIF(beta, theta, rho=rho, phi=phi, floor=floor, margin=margin),
        nn.Linear(4, 2, bias=False), nn.LI(1.0),
    ).double()  # fmt: skip
    with torch.no_grad():
        net[0].weight.mul_(3)
    x, message = (torch.rand(12, 1, 3) < 0.8).double(), torch.zeros(12, 1, 2).double()
    message[-1] = torch.randn(1, 2).double()  # β = 1: the last membrane is the sum of all currents
    outputs = net(x)
    propagate(outputs, message * (outputs.detach() + outputs.detach().sign() * 1e-6))  # reward = message × output
    weight, bias = net[0].weight.tolist(), net[0].bias.tolist()
    back = (message[-1] @ net[2].weight.detach())[0].tolist()  # the message to a spike, the same at every step
    updates, adapted = torch.zeros(4, 3).double(), 0
    for j in range(4):
        currents = [dense(x[t, 0].tolist(), weight, bias)[j] for t in range(12)]
        u = fired = a = 0.0
        rewards = []
        for current in currents:
            u = beta * u + current - theta * fired
            raised = theta + phi * a
            rewards.append(back[j] if u > margin * raised else 0.0)
            fired = float(u > raised)
            adapted += u > theta and not fired
            a = rho * a + fired
        n = _membrane_rewards(rewards, currents, beta, theta, phi, rho, floor)
        for t in range(12):
            updates[j] += n[t] * x[t, 0]
    updates *= net[0].weight.detach().abs()
    assert adapted > 0  # the rise mattered
    assert torch.allclose(-net[0].weight.grad, updates, rtol=1e-6, atol=1e-9)


def _membrane_rewards(rewards, currents, beta, theta, phi, rho, floor):
    """``R[t] / D[t]`` of one ALIF neuron, reset by delayed subtraction of θ."""
    u = fired = a = 0.0
    before = []
    for current in currents:
        before.append(u)
        u = beta * u + current - theta * fired
        fired = float(u > theta + phi * a)
        a = rho * a + fired
    found, internal = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        d = max(abs(beta * before[t]) + abs(currents[t]) + 1e-6, floor * theta)
        found[t] = (rewards[t] + internal) / d
        internal = beta * before[t] * found[t]
    return found


def test_from_the_command_line_through_a_resumed_run(tmp_path, command):
    own = (*QUICK, "--adapt", 0.4, "--adapt-decay", 0.9, "--schedule", "constant", "--lr", 0.01)
    out = command("spikelfp", "train", *own, "--epochs", 2, "--out", tmp_path / "whole", "--json")
    assert json.loads(out.splitlines()[-1])["test_accuracy"] > 0.2
    command("spikelfp", "train", *own, "--epochs", 1, "--out", tmp_path / "parts")
    command("spikelfp", "train", "--resume", "--epochs", 2, "--out", tmp_path / "parts", "--quiet")
    last, again = (
        torch.load(tmp_path / run / "checkpoints" / "last.pt", weights_only=True)["weights"]
        for run in ("whole", "parts")
    )
    assert all(torch.equal(value, again[key]) for key, value in last.items())
    for target in TARGETS:
        out = tmp_path / target
        err = command("hw-export", "build", tmp_path / "whole", "--target", target, "--out", out, code=2)
        assert err.count("\n") == 1
        assert "layer '2' is a ALIF" in err
        assert "without --adapt" in err
        assert not out.exists()


@pytest.mark.parametrize("method", ["lfp", "e-prop", "surrogate"])
def test_recurrent_networks_learn(tmp_path, command, method):
    own = (
        "--data",
        "digits",
        "--model",
        "lif-rnn",
        "--hidden",
        64,
        "--steps",
        8,
        "--epochs",
        5,
        "--lr",
        5e-3,
        "--adapt",
    )
    out = command("spikelfp", "train", *own, 0.2, "--method", method, "--no-report", "--json", "--out", tmp_path)
    assert json.loads(out.splitlines()[-1])["test_accuracy"] > 0.5


@pytest.mark.parametrize(
    "export",
    [lambda net: quantize(net, 8), lambda net: to_nir(net, None), IntegerSimulator,
     lambda net: save_network("x.pt", net), to_snntorch, to_norse],
)  # fmt: skip
def test_what_has_no_thresholds_that_move_refuses_them_by_name(export):
    net = models.lif_mlp([6, 5, 3])
    models.make_adaptive(net)
    with pytest.raises(UserError, match=r"layer '2' (is a|\(spikelfp.nn\.)\s?ALIF") as refused:
        export(net)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda: RunConfig(adapt_decay=0.5), "--adapt-decay 0.5 belongs to --adapt"),
        (lambda: RunConfig(adapt=-1.0), "adapt must be 0 or more, got -1"),
        (lambda: RunConfig(adapt=0.1, adapt_decay=0.0), "adapt-decay must lie in (0, 1]"),
        (lambda: RunConfig(adapt=0.1, model="mlp"), "--adapt 0.1 belongs to models of spiking neurons"),
        (lambda: RunConfig(adapt=0.1, hidden=()).build((4,), 2), "the network has no hidden neurons"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, says):
    with pytest.raises(UserError, match=re.escape(says)):
        run()
