"""Normalisation with messages that pass through its statistics (``constant_statistics=False``)."""

import pytest
import torch
import torch.nn.functional as F

from spikelfp import Trainer, data, methods, models, nn, propagate, rewards, rules
from spikelfp.errors import UserError
from spikelfp.training.checkpoint import layer_rules
from spikelfp.training.config import RunConfig


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(),
        nn.LayerNorm(6), nn.Linear(6, 3),
    ).double()  # fmt: skip


def updates(net, rule, x, y):
    """``p.grad`` of LFP with the reward of Theorem 1 for softmax cross-entropy."""
    with rules.using(net, rule):
        outputs = net(x)
    propagate(outputs, rewards.Softmax()(outputs, y), eps=0)
    grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    return grads


@pytest.mark.parametrize("training", [True, False])
def test_theorem_1_holds_for_networks_with_normalisation(training):
    torch.manual_seed(0)
    net, x, y = network(), torch.randn(1, 7, 2, 6, 6).double(), torch.randint(3, (7,))
    for p in net.parameters():  # γ and β away from 1 and 0
        p.data.normal_()
    net.train(training)
    with rules.using(net, rules.Gradient()):
        F.cross_entropy(net(x)[0], y, reduction="sum").backward()
    expected = [p.grad * p.detach().abs() for p in net.parameters()]
    net.zero_grad()
    for own, theirs in zip(updates(net, rules.Zero(constant_statistics=False), x, y), expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-8, atol=1e-9)
    constant = updates(net, rules.Zero(), x, y)
    assert not torch.allclose(constant[0], expected[0])  # LayerNorm's deviation is constant in both modes


def test_running_statistics_are_the_same_either_way():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    layers = [nn.BatchNorm1d(4, rule=rules.Epsilon(constant_statistics=constant)) for constant in (True, False)]
    for layer in layers:
        layer(x)
    torch.testing.assert_close(layers[0].running_mean, layers[1].running_mean)
    torch.testing.assert_close(layers[0].running_var, layers[1].running_var)


def test_the_command_line_and_the_method_choose():
    assert not RunConfig().resolved(10).make_method().rule.constant_statistics
    assert RunConfig(model="resnet18", statistics="constant").resolved(10).make_method().rule.constant_statistics
    assert not methods.LFP(rewards.Softmax()).rule.constant_statistics


@pytest.mark.parametrize("kind", [rules.Epsilon, rules.Zero, rules.Gamma, rules.ZPlusMinus, rules.AlphaBeta])
def test_a_rule_says_the_same_by_name_class_and_object(kind):
    """A rule that leaves statistics open: constant by itself, passed through under whoever trains by it."""

    def trained(rule):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        given = data.arrays(torch.randn(32, 4), torch.arange(32) % 3)
        trainer = Trainer(net, rule=rule, batch_size=8)
        trainer.fit(given, 1)
        return trainer.method, torch.cat([p.detach().flatten() for p in net.parameters()])

    through, constant = (trained(kind(constant_statistics=each))[1] for each in (False, True))
    assert not torch.equal(through, constant)
    for rule in (kind.__name__.lower(), kind, kind(), rules.Composite([], kind())):
        method, found = trained(rule)
        assert torch.equal(found, through)
        assert "constant_statistics=False" in repr(method)
    assert kind().constant_statistics is None
    assert "constant_statistics=True" in repr(methods.LFP(rewards.Softmax(), kind(constant_statistics=True)))


def test_without_a_method_open_statistics_are_constant():
    torch.manual_seed(0)
    net, x, y = network(), torch.randn(1, 7, 2, 6, 6).double(), torch.randint(3, (7,))
    open_, constant, through = (
        updates(net, rules.Epsilon(constant_statistics=each), x, y) for each in (None, True, False)
    )
    assert all(map(torch.equal, open_, constant))
    assert not all(map(torch.equal, open_, through))


def test_the_parts_of_a_composite_are_lent_too():
    given = rules.Composite([(-1, rules.Zero()), (0, rules.Gamma(constant_statistics=True))])
    lent = methods.LFP(rewards.Softmax(), given).rule
    assert [rule.constant_statistics for _, rule in lent.parts] == [False, True]
    assert given.parts[0][1].constant_statistics is None
    assert not lent.default.constant_statistics


def test_statistics_are_true_false_or_open():
    with pytest.raises(UserError, match="constant_statistics of Epsilon is true or false, or None, got 'constant'"):
        rules.Epsilon(constant_statistics="constant")


def test_checkpoints_of_a_rule_that_said_constant_by_default_are_read():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, rule=rules.Epsilon(0.1)))
    texts = {True: "Epsilon()", None: "Epsilon()", False: "Epsilon(constant_statistics=False)"}
    for given, text in texts.items():
        assert layer_rules(net, rules.Epsilon(constant_statistics=given)) == {"0": text, "1": "Epsilon(eps=0.1)"}


def test_a_residual_network_learns_from_scratch():
    digits = data.load("digits")
    torch.manual_seed(0)
    trainer = Trainer(models.build(models.ModelSpec("resnet18", digits.shape, 10, width=8)))
    trainer.fit(digits.train, 6)
    assert trainer.evaluate(digits.test).accuracy > 0.8
