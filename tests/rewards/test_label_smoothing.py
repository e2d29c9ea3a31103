"""Label smoothing of rewards and losses against the formula ``y′ = (1 − α) y + α / C``, one output at a time."""

from functools import partial

import pytest
import torch

from spikelfp import methods, nn, rewards
from spikelfp.errors import UserError
from spikelfp.methods import Batch, losses
from spikelfp.rules import lending
from spikelfp.tasks import Classification
from spikelfp.training import TemporalTrainer
from spikelfp.training.arguments import own_loss

T, B, C, ALPHA = 6, 4, 3, 0.25
LABELS = torch.tensor([0, 2, 1, 1])
MASK = torch.arange(T).unsqueeze(1) < torch.tensor([6, 2, 5, 1])


def soft(b, c):
    return (1 - ALPHA) * float(LABELS[b] == c) + ALPHA / C


@pytest.fixture
def spikes():
    torch.manual_seed(1)
    return (torch.rand(T, B, C, dtype=torch.float64) < 0.4).double()


SEQUENCE = {
    "SpikeSequence": lambda o, n, steps, y: y * (1 - n.sub(steps / 2).sigmoid()) - (1 - y) * n.sub(steps / 2).sigmoid(),
    "SpikeSequenceV1": lambda o, n, steps, y: (
        y * (1 - n.sub(steps / 2).sigmoid()) - (1 - y) * o * n.sub(steps / 2).sigmoid()
    ),
}


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("name", [*SEQUENCE, "CountSoftmax"])
def test_rewards_of_sequences(name, mask, spikes):
    found = getattr(rewards, name)(label_smoothing=ALPHA)(spikes, LABELS, mask)
    counts = torch.ones(T, B, dtype=torch.bool) if mask is None else mask
    for b in range(B):
        number = spikes[counts[:, b], b].sum(0)
        for t in range(T):
            for c in range(C):
                if name == "CountSoftmax":
                    wanted = soft(b, c) - float(number[c].exp() / number.exp().sum())
                else:
                    wanted = SEQUENCE[name](spikes[t, b, c], number[c], float(counts[:, b].sum()), soft(b, c))
                assert float(found[t, b, c]) == pytest.approx(float(wanted) if counts[t, b] else 0.0, abs=1e-12)


def test_rewards_of_linear_outputs():
    outputs = torch.randn(B, C, dtype=torch.float64)
    softmax = rewards.Softmax(label_smoothing=ALPHA)(outputs, LABELS)
    sigmoid = rewards.Sigmoid(label_smoothing=ALPHA)(outputs, LABELS)
    for b in range(B):
        share = outputs[b].exp() / outputs[b].exp().sum()
        for c in range(C):
            assert float(softmax[b, c]) == pytest.approx(float(outputs[b, c] * (soft(b, c) - share[c])))
            assert float(sigmoid[b, c]) == pytest.approx(
                float(outputs[b, c] * (soft(b, c) - 1 / (1 + (-outputs[b, c]).exp())))
            )


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("name", ["rate", "count", "bce"])
def test_losses(name, mask, spikes):
    weights = None if mask is None else methods.step_weights(mask, dtype=torch.float64)
    found = losses[name](spikes, LABELS, weights, label_smoothing=ALPHA)
    counts = torch.ones(T, B, dtype=torch.bool) if mask is None else mask
    total = 0.0
    for b in range(B):
        own = spikes[counts[:, b], b]
        own = own.sum(0, keepdim=True) if name == "count" else own
        for step in own:
            for c in range(C):
                y = soft(b, c)
                if name == "bce":
                    each = -(y * step[c].sigmoid().log() + (1 - y) * (1 - step[c].sigmoid()).log()) / C
                else:
                    each = -y * step.log_softmax(-1)[c]
                total += float(each) / len(own) / B
    assert float(found) == pytest.approx(total)


def test_the_reward_of_counts_is_still_the_step_of_the_loss(spikes):
    outputs = spikes.clone().requires_grad_()
    losses["count"](outputs, LABELS, label_smoothing=ALPHA).backward()
    torch.testing.assert_close(rewards.CountSoftmax(ALPHA)(spikes, LABELS) / B, -outputs.grad)


def test_without_smoothing_nothing_changes(spikes):
    for kind in (
        rewards.SpikeSequence,
        rewards.SpikeSequenceV1,
        rewards.CountSoftmax,
        rewards.Softmax,
        rewards.Sigmoid,
    ):
        assert torch.equal(kind()(spikes, LABELS), kind(label_smoothing=0)(spikes, LABELS))
        assert repr(kind()) == f"{kind.__name__}()"
        assert "label_smoothing=0.1" in repr(kind(label_smoothing=0.1))
        assert not torch.equal(kind()(spikes, LABELS), kind(label_smoothing=0.1)(spikes, LABELS))


def test_a_reward_of_a_users_own_needs_no_constructor(spikes):
    class Mine(rewards.CountSoftmax):
        def __init__(self):
            self.mine = 1

    assert torch.equal(Mine()(spikes, LABELS), rewards.CountSoftmax()(spikes, LABELS))


@pytest.mark.parametrize("wrong", [-0.1, 1, 1.5, "much", True, float("nan")])
def test_alpha_out_of_range_is_refused(wrong, spikes):
    for kind in (rewards.SpikeSequence, rewards.CountSoftmax, rewards.Softmax, rewards.Sigmoid):
        with pytest.raises(UserError, match="label_smoothing"):
            kind(label_smoothing=wrong)
    for name in losses:
        with pytest.raises(UserError, match="label_smoothing"):
            losses[name](spikes, LABELS, label_smoothing=wrong)


def test_evaluations_measure_the_loss_without_smoothing():
    smooth = partial(methods.rate_cross_entropy, label_smoothing=ALPHA)
    method = methods.SurrogateGradient(loss=smooth)
    assert own_loss(method) is None
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.LIF(), nn.Linear(8, C), nn.LIF())
    x = torch.rand(B, 5)
    trainer = TemporalTrainer(net, method=method, steps=T)
    plain = TemporalTrainer(net, method=methods.SurrogateGradient(), steps=T)
    assert trainer.evaluate((x, LABELS)).loss == plain.evaluate((x, LABELS)).loss
    trained = trainer.fit((x, LABELS), 1)
    assert trained[-1]["loss"] > 0


@pytest.mark.parametrize("name", ["EProp", "OTTT", "DECOLLE"])
def test_methods_forward_in_time_descend_the_smoothed_loss(name):
    """The options of a loss reach methods that take it through the task, too."""
    torch.manual_seed(0)
    x, found = torch.rand(T, B, 5), []
    for alpha in (0.0, ALPHA):
        torch.manual_seed(1)
        last = nn.LI(0.9) if name != "OTTT" else nn.LIF()
        net = nn.Sequential(nn.Linear(5, 8), nn.LIF(0.9, 0.3), nn.Linear(8, C), last)
        loss = partial(methods.rate_cross_entropy, label_smoothing=alpha)
        method = getattr(methods, name)(loss=loss)
        method.suit(net, Classification())
        method.prepare(net)
        with lending(net, method.rule):
            outputs, watched = method.learn(net, Batch(x, LABELS))
        found.append(net[2].weight.grad.clone())
        if name != "DECOLLE":
            assert float(watched["loss"]) == pytest.approx(float(loss(outputs, LABELS)), rel=1e-5)
    assert not torch.allclose(*found)
