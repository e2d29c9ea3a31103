"""Steps as CUDA graphs: the same weights as without; and what is refused."""

import copy

import pytest
import torch

from spikelfp import methods, models, nn, rewards
from spikelfp.errors import ShapeError, UserError
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.training import TemporalTrainer, captured
from spikelfp.training.captured import WARM_UP, BatchLayout, CapturedStep

METHOD = methods.LFP(rewards.SpikeSequence())


def batch(constant, batch=5, steps=6):
    images = torch.rand(batch, 20)
    return (nn.constant(images, steps) if constant else torch.rand(steps, batch, 20)), torch.randint(4, (batch,))


def test_a_network_on_the_cpu_is_refused():
    net = models.lif_mlp([20, 4])
    with pytest.raises(UserError, match=r"the network is on cpu: move it with"):
        CapturedStep(net, METHOD, torch.optim.SGD(net.parameters(), 0.1))


def test_recomputed_and_quantised_networks_are_refused():
    net = models.lif_mlp([20, 4])
    with pytest.raises(UserError, match="a recomputed network"):
        CapturedStep(nn.Recomputed(net), METHOD, torch.optim.SGD(net.parameters(), 0.1))
    WeightGrids(net, Quantization(4))
    with pytest.raises(UserError, match="grids of quantised weights"):
        CapturedStep(net, METHOD, torch.optim.SGD(net.parameters(), 0.1))


def test_inputs_on_the_cpu_are_refused():
    with pytest.raises(UserError, match="the input is on cpu"):
        captured.check_device("the input", torch.zeros(1))


@pytest.mark.parametrize("constant", [False, True])
def test_every_step_must_look_like_the_first(constant):
    x, labels = batch(constant)
    layout = BatchLayout.of(x, labels)
    layout.check(BatchLayout.of(*batch(constant)))
    for other, what in [
        (batch(constant, batch=3), r"shape \(6, 5, 20\), now it is \(6, 3, 20\)"),
        (batch(constant, steps=7), r"shape \(6, 5, 20\), now it is \(7, 5, 20\)"),
        (batch(not constant), f"constant {constant}, now it is {not constant}"),
        ((x.double(), labels), "dtype torch.float32, now it is torch.float64"),
        ((x, labels.int()), "labels of dtype torch.int64, now it is torch.int32"),
        ((x, labels[:3]), r"labels \(5,\), now it is \(3,\)"),
    ]:
        with pytest.raises(ShapeError, match=what):
            layout.check(BatchLayout.of(*other))


def test_only_rates_that_are_numbers_are_fixed():
    net = models.lif_mlp([20, 4])
    assert captured.fixed_rates(torch.optim.SGD(net.parameters(), 0.1)) == [0.1]
    assert captured.fixed_rates(torch.optim.Adam(net.parameters(), torch.tensor(0.1), capturable=True)) == []


def test_one_step_is_that_of_its_parts():
    """What is recorded: forward pass, reward, backward pass, optimiser; here without recording, against the lines."""
    x, labels = batch(True)
    net = models.lif_mlp([20, 30, 4])
    other = copy.deepcopy(net)
    optimizer, slow = (torch.optim.SGD(n.parameters(), 0.1) for n in (net, other))
    seen = captured.train_once(net, METHOD, optimizer, x, labels)
    outputs = other(x)
    METHOD.backward(outputs, labels)
    slow.step()
    assert int(seen.correct) == int((outputs.sum(0).argmax(-1) == labels).sum())
    assert set(seen.watched) == {"reward", "reward_magnitude"}
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_step_is_that_of_a_trainer(reduction):
    x, labels = torch.rand(5, 20), torch.randint(4, (5,))
    method = methods.LFP(rewards.SpikeSequence(), reduction=reduction)
    net = models.lif_mlp([20, 30, 4])
    other = copy.deepcopy(net)
    trainer = TemporalTrainer(net, method=method, steps=6, optimizer="sgd", schedule=None, lr=0.1, device="cpu")
    seen = trainer.train_step(x, labels)
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    found = captured.train_once(other, method, optimizer, nn.constant(x, 6), labels)
    assert int(seen.correct) == int(found.correct)
    assert {n: float(v) for n, v in seen.watched.items()} == {n: float(v) for n, v in found.watched.items()}
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_step_goes_through_a_method_that_owns_both_ways():
    class Layerwise(methods.LFP):
        def learn(self, net, batch):
            hidden = net[:3](batch.sequence)
            outputs = net[3:](hidden.detach())
            return outputs, self.backward(outputs, batch.targets, batch.share)

    net = models.lif_mlp([20, 30, 4])
    before = [p.clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    captured.train_once(net, Layerwise(rewards.SpikeSequence()), optimizer, torch.rand(6, 5, 20), torch.arange(5) % 4)
    changed = [not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
    assert changed == [False, False, True, True]


def on_cuda(constant):
    x, labels = batch(constant)
    return (nn.constant(x[0].cuda(), len(x)) if constant else x.cuda()), labels.cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("rate", [lambda: 1e-2, lambda: torch.tensor(1e-2, device="cuda")], ids=["number", "tensor"])
def test_captured_steps_learn_the_same(rate, constant):
    net = models.lif_mlp([20, 30, 4]).cuda()
    other = copy.deepcopy(net)
    optimizer, slow = (torch.optim.Adam(n.parameters(), rate(), fused=True, capturable=True) for n in (net, other))
    step = CapturedStep(net, METHOD, optimizer)
    for number in range(WARM_UP + 5):
        x, labels = on_cuda(constant)
        if isinstance(slow.param_groups[0]["lr"], torch.Tensor):
            for o in (optimizer, slow):
                o.param_groups[0]["lr"].fill_(1e-2 / (1 + number))
        slow.zero_grad()
        seen, expected = step(x, labels), captured.train_once(other, METHOD, slow, x, labels)
        assert int(seen.correct) == int(expected.correct)
        torch.testing.assert_close(seen.watched, expected.watched)
        for a, b in zip(net.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_what_a_recording_cannot_follow_is_refused():
    net = models.lif_mlp([20, 4]).cuda()
    with pytest.raises(UserError, match="capturable=True"):
        CapturedStep(net, METHOD, torch.optim.Adam(net.parameters(), 0.1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    step = CapturedStep(net, METHOD, optimizer)
    for _ in range(WARM_UP + 2):
        step(*on_cuda(True))
    with pytest.raises(ShapeError, match="constant True"):
        step(*on_cuda(False))
    with pytest.raises(UserError, match="the input is on cpu"):
        step(*batch(True))
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(UserError, match="learning rate has changed"):
        step(*on_cuda(True))
    learns = nn.Sequential(nn.Linear(20, 4), nn.LIF(learn_beta=True)).cuda()
    with pytest.raises(UserError, match="β that learns"):
        CapturedStep(learns, METHOD, optimizer)
