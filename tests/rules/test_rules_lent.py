"""Whose rule trains a layer: its own, else the one that a method lends it."""

import pickle

import pytest
import torch

from spikelfp import TemporalTrainer, methods, nn, rewards, rules
from spikelfp.errors import UserError

OWN, LENT = rules.Gamma(gamma=3.0), rules.AlphaBeta()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.LIF(0.9, 0.3), nn.Linear(12, 4), nn.LIF(0.9, 0.3))


def test_a_layer_without_a_rule_follows_the_one_that_is_lent():
    net = network()
    net[0].rule = OWN
    with rules.lending(net, LENT):
        assert [layer.rule for layer in net] == [OWN, LENT, LENT, LENT]
        with rules.lending(net, rules.Zero()):
            assert [layer.rule for layer in net] == [OWN, rules.Zero(), rules.Zero(), rules.Zero()]
        assert net[1].rule == LENT
    assert [layer.rule for layer in net] == [OWN, rules.Epsilon(), rules.Epsilon(), rules.Epsilon()]
    net[0].rule = None
    assert net[0].rule == rules.Epsilon()


def test_using_overrules_and_gives_back():
    net = network()
    net[0].rule = OWN
    with rules.using(net, LENT):
        assert {layer.rule for layer in net} == {LENT}
    assert net[0].rule == OWN
    with rules.lending(net, rules.Zero()):
        assert net[1].rule == rules.Zero()


def trained(prepare, rule=None):
    net = network()
    prepare(net)
    trainer = TemporalTrainer(
        net, method=methods.LFP(rewards.SpikeSequence(), rule), steps=5, batch_size=8, wake=False, optimizer="sgd"
    )
    trainer.train_step(torch.rand(8, 6, generator=torch.Generator().manual_seed(1)) * 2, torch.arange(8) % 4)
    return [p.detach().clone() for p in net.parameters()]


def test_an_attached_rule_is_the_one_that_a_trainer_trains_by():
    by_method = trained(lambda net: None, OWN)
    attached = trained(lambda net: rules.attach(net, OWN))
    given = trained(lambda net: [setattr(layer, "rule", OWN) for layer in net], rules.Epsilon())
    plain = trained(lambda net: None)
    for a, b, c in zip(by_method, attached, given, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not torch.equal(by_method[0], plain[0])


@pytest.mark.parametrize(("own", "lent"), [(rules.Epsilon(), rules.Surrogate()), (rules.Surrogate(), rules.Epsilon())])
def test_rules_of_rewards_and_of_losses_do_not_mix(own, lent):
    net = network()
    net[2].rule = own
    with pytest.raises(UserError, match=r"layer 2 \(Linear\) has a rule of its own"), rules.lending(net, lent):
        pass
    assert net[0].rule == rules.Epsilon()


def test_layers_without_weights_or_neurons_have_no_rule():
    with pytest.raises(AttributeError, match="rule"):
        nn.Flatten().rule  # noqa: B018
    assert not isinstance(getattr(nn.Sequential(), "rule", None), rules.Rule)


@pytest.mark.parametrize("value", ["gamma", rules.Gamma, rules.Composite([])])
def test_what_is_no_rule_is_refused(value):
    with pytest.raises(UserError, match="rules"):
        nn.Linear(2, 2, rule=value)


def test_a_pickled_layer_keeps_its_rule():
    assert pickle.loads(pickle.dumps(nn.LIF(rule=OWN))).rule == OWN
