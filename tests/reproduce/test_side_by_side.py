"""Networks side by side learn what each learns alone, with torch's own optimiser."""

import pytest
import torch

from spikelfp import nn, propagate, rewards, rules
from spikelfp.errors import UserError
from spikelfp.reproduce.side_by_side import (
    ScaledGradient,
    Training,
    accuracy,
    first_weights,
    networks,
    sigmoid_loss,
    softmax_loss,
    train,
)

RULES = (rules.Epsilon(), rules.Epsilon(normalize="step"), rules.AlphaBeta(), rules.ZPlusMinus(), rules.Gradient())


def points(count=50):
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()


def alone(start, rule, x, y, rate, sums, settings, seed, activation=nn.ReLU):
    """One network of the package's own layers, trained by ``torch.optim.SGD``."""
    layers = []
    for weight, bias in start:
        layer = nn.Linear(weight.shape[1], weight.shape[0], rule=rule).to(weight.dtype)
        with torch.no_grad():
            layer.weight.copy_(weight), layer.bias.copy_(bias)
        layers += [layer, activation(rule=rule)]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), rate, settings.momentum)
    order, step, curve = torch.Generator().manual_seed(seed), 0, []
    for _ in range(settings.epochs):
        for chosen in torch.randperm(len(x), generator=order).split(settings.batch):
            if settings.decay and step and step % settings.decay == 0:
                optimizer.param_groups[0]["lr"] *= 0.1
            optimizer.zero_grad()
            outputs, labels = net(x[chosen][None]), y[chosen]
            curve.append((outputs[0].argmax(-1) == labels).float().mean())
            size = 1 if sums else len(chosen)
            if rule.of_gradients:
                (settings.loss(outputs[0], labels) / size).backward()
            else:
                propagate(outputs, settings.reward(outputs, labels), weight=1 / size)
            optimizer.step()
            step += 1
    return net, torch.stack(curve)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_each_network_learns_as_it_would_alone(rule):
    """In double precision: in single precision the order of sums, another on each processor, grows with the updates."""
    x, y = points()
    x = x.double()
    starts = [[(w.double(), b.double()) for w, b in first_weights((2, 5, 4, 2), seed)] for seed in (0, 1, 2)]
    rates, sums = torch.tensor([0.1, 0.01, 0.05]), torch.tensor([False, True, False])
    settings = Training(rates, sums, 2, 16, 0.9, rewards.Softmax(), decay=3)
    net = networks(starts, rule)
    trained = train(net, x, y, settings, seed=7)
    assert not trained.diverged.any()
    for place, start in enumerate(starts):
        single, curve = alone(start, rule, x, y, float(rates[place]), bool(sums[place]), settings, 7)
        torch.testing.assert_close(torch.from_numpy(trained.curve[:, place]), curve)
        ours, theirs = [p[place] for p in net.parameters()], list(single.parameters())
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        right = (single(x[None])[0].argmax(-1) == y).double().mean()
        assert accuracy(net, x, y)[place] == pytest.approx(float(right))
        assert not torch.equal(theirs[0], start[0][0])


def test_each_network_may_have_samples_of_its_own():
    x, y = points()
    starts = [first_weights((2, 5, 2), 0)] * 2
    settings = Training(torch.full((2,), 0.1), torch.zeros(2, dtype=torch.bool), 1, 16, 0.9, rewards.Softmax())
    net, both = networks(starts, rules.Epsilon()), torch.stack([x, x.flip(0)])
    train(net, both, torch.stack([y, y.flip(0)]), settings, 3)
    for place in (0, 1):
        single = networks(starts[:1], rules.Epsilon())
        one = settings._replace(rates=settings.rates[:1], sums=settings.sums[:1])
        train(single, both[place], torch.stack([y, y.flip(0)])[place], one, 3)
        ours, theirs = [p[place] for p in net.parameters()], [p[0] for p in single.parameters()]
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_neurons_that_fill_up_a_layer_change_nothing(rule):
    x, y = points()
    settings = Training(torch.tensor([0.1]), torch.tensor([False]), 1, 16, 0.9, rewards.Sigmoid(), sigmoid_loss)
    narrow = networks([first_weights((2, 3, 3, 2), 4)], rule, scaled=rule.of_gradients)
    wide = networks([first_weights((2, 3, 3, 2), 4, width=6)], rule, scaled=rule.of_gradients)
    for net in (narrow, wide):
        train(net, x, y, settings, 0)
    torch.testing.assert_close(wide(x[None]), narrow(x[None]), rtol=1e-4, atol=1e-6)
    assert wide[0].weight.shape == (1, 6, 2)
    assert (wide[0].weight[0, 3:] == 0).all()


def test_a_network_that_diverges_harms_no_other():
    x, y = points()
    start = first_weights((2, 5, 2), 0)
    rates, sums = torch.tensor([1e3, 0.01]), torch.tensor([True, True])
    settings = Training(rates, sums, 4, 16, 0.95, rewards.Softmax())
    for rule in (rules.Epsilon(), rules.Gradient()):
        net = networks([start, start], rule)
        trained = train(net, x, y, settings, 0)
        assert trained.diverged.tolist() == [True, False]
        assert (net[0].weight[0] == 0).all()
        assert accuracy(net, x, y)[0] == pytest.approx(float((y == 0).double().mean()))
        single = networks([start], rule)
        train(single, x, y, settings._replace(rates=rates[1:], sums=sums[1:]), 0)
        torch.testing.assert_close(net[0].weight[1], single[0].weight[0], rtol=2e-4, atol=1e-6)


def test_rates_are_one_for_each_network():
    net = networks([first_weights((2, 3, 2), 0)], rules.Epsilon())
    settings = Training(torch.ones(2), torch.ones(2, dtype=torch.bool), 1, 16, 0.9, rewards.Softmax())
    with pytest.raises(UserError, match="1 networks take as many rates and sums, got 2 rates"):
        train(net, *points(), settings, 0)


def test_gradients_of_each_sample_are_scaled():
    a = torch.randn(2, 3, 4, requires_grad=True)
    grad = torch.randn(2, 3, 4)
    grad[1, 2] = 0
    ScaledGradient.apply(a).backward(grad)
    assert a.grad.abs().amax(-1)[:, :2].tolist() == [[1, 1], [1, 1]]
    assert (a.grad[1, 2] == 0).all()
    torch.testing.assert_close(a.grad[0, 0], grad[0, 0] / grad[0, 0].abs().max())


def test_first_weights_are_drawn_as_torch_does():
    (first, bias), (second, _) = first_weights((400, 300, 100), 0)
    layer = torch.nn.Linear(400, 300)
    for ours, theirs in ((first, layer.weight), (bias, layer.bias)):
        assert ours.abs().max() <= 1 / 20
        assert ours.std() == pytest.approx(theirs.std().item(), rel=0.1)
    assert second.abs().max() == pytest.approx(300**-0.5, rel=0.01)


@pytest.mark.parametrize(("loss", "reward"), [(softmax_loss, rewards.Softmax()), (sigmoid_loss, rewards.Sigmoid())])
def test_losses_are_those_of_the_rewards(loss, reward):
    outputs = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1, 0])
    loss(outputs, labels).backward()
    torch.testing.assert_close(reward(outputs, labels), -(outputs * outputs.grad).detach())
