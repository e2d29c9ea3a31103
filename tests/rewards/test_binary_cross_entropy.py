"""The loss of each output by itself: against its formula, per sample and step, and in training and evaluation."""

import math

import pytest
import torch

from spikelfp import TemporalTrainer, Trainer, methods, models, nn, rewards, tasks
from spikelfp import data as datasets
from spikelfp.errors import ShapeError, UserError
from spikelfp.methods import GradientDescent, binary_cross_entropy, losses
from spikelfp.tasks.base import step_weights
from spikelfp.training.arguments import own_loss, task_judged_by
from spikelfp.training.config import RunConfig

T, B, C = 5, 4, 3
LABELS = torch.tensor([2, 0, 1, 2])
LENGTHS = torch.tensor([5, 1, 3, 2])
MASK = torch.arange(T).unsqueeze(1) < LENGTHS


@pytest.fixture
def outputs():
    return 3 * torch.randn(T, B, C, dtype=torch.float64)


def slow(outputs, labels, weights=None):
    """``L = −(1/C) Σ_c [y_c log σ(o_c) + (1 − y_c) log(1 − σ(o_c))]``, number by number."""
    steps, samples, classes = outputs.shape
    total = 0.0
    for t in range(steps):
        for b in range(samples):
            one = 0.0
            for c in range(classes):
                on = 1 / (1 + math.exp(-float(outputs[t, b, c])))
                one -= math.log(on if int(labels[b]) == c else 1 - on)
            weight = 1 / (steps * samples) if weights is None else float(weights[t, b])
            total += weight * one / classes
    return total


@pytest.mark.parametrize("weights", [None, torch.rand(T, B, dtype=torch.float64), step_weights(MASK, torch.float64)])
def test_the_formula(outputs, weights):
    assert float(binary_cross_entropy(outputs, LABELS, weights)) == pytest.approx(slow(outputs, LABELS, weights))
    assert losses["bce"] is binary_cross_entropy


def test_one_sample_one_class_and_none(outputs):
    one = outputs[:1, :1, :1]
    assert float(binary_cross_entropy(one, torch.tensor([0]))) == pytest.approx(slow(one, [0]))
    none = binary_cross_entropy(outputs[:, :0], LABELS[:0], torch.ones(T, 0))
    assert float(none) == 0


def test_padding_does_not_count_whatever_stands_there(outputs):
    spoilt = outputs.masked_fill(~MASK.unsqueeze(-1), math.nan).requires_grad_()
    loss = binary_cross_entropy(spoilt, LABELS, step_weights(MASK, torch.float64))
    loss.backward()
    alone = [binary_cross_entropy(outputs[:n, b : b + 1], LABELS[b : b + 1]) for b, n in enumerate(LENGTHS.tolist())]
    torch.testing.assert_close(loss.detach(), torch.stack(alone).mean())
    assert not spoilt.grad[~MASK].any()


def test_the_reward_of_theorem_1_is_its_step(outputs):
    outputs.requires_grad_()
    GradientDescent(loss=binary_cross_entropy).backward(outputs, LABELS)
    reward = rewards.Sigmoid()(outputs.detach(), LABELS) / (T * B * C)
    torch.testing.assert_close(-outputs.grad * outputs.detach(), reward)


def test_one_label_is_not_spread_over_a_batch(outputs):
    with pytest.raises(ShapeError, match=r"bce takes outputs .* and labels"):
        binary_cross_entropy(outputs, LABELS[:1])


def sequences():
    lengths = torch.tensor([6, 2, 4, 6, 1, 3] * 4)
    x = 5 * torch.rand(24, 6, 4).masked_fill(torch.arange(6).view(1, 6, 1) >= lengths.view(-1, 1, 1), 0)
    return datasets.arrays(x, torch.arange(24) % 3, sequences=True, lengths=lengths)


@pytest.mark.parametrize("readout", ["lif", "li"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_evaluation_of_sequences_a_chunk_at_a_time(readout, chunk):
    net, data = models.lif_mlp([4, 8, 3], readout=readout), sequences()
    extra = {} if chunk is None else {"chunk": chunk}
    trainer = TemporalTrainer(net, method="surrogate", loss="bce", batch_size=7, device="cpu", **extra)
    assert trainer.method.loss is binary_cross_entropy
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(6)
        outputs = net(data.values.transpose(0, 1))
    assert outputs.any(0).any(-1).sum() > 12
    mask = torch.arange(6).unsqueeze(1) < data.lengths
    expected = slow(outputs.double(), data.labels, step_weights(mask, torch.float64))
    assert trainer.evaluate(data).loss == pytest.approx(expected, rel=1e-5)
    row = trainer.fit(data, 2, validation=data)[-1]
    assert row["validation_loss"] == pytest.approx(trainer.evaluate(data).loss, rel=1e-5)
    assert row["validation_loss"] != pytest.approx(expected, rel=1e-3)


def test_it_is_judged_by_its_sums_and_not_by_whole_outputs():
    trainer = Trainer(nn.Sequential(nn.Linear(4, 3)), method="gradient", loss="bce", device="cpu")
    assert own_loss(trainer.method) is None
    assert task_judged_by(trainer.task, trainer.method).loss_name == "bce"
    assert "binary cross-entropy" in trainer.task.loss_meaning
    assert repr(trainer.task) == "Classification(loss='bce')"


def test_a_loss_that_is_said_is_not_that_of_the_method_by_default():
    class Count(methods.SurrogateGradient):
        def __init__(self, rule=None, loss=methods.count_cross_entropy):
            super().__init__(rule, loss)

    net = models.lif_mlp([4, 8, 3])
    said = {name: Trainer(net, method=Count, loss=name, device="cpu").method.loss for name in ("rate", "count", "bce")}
    assert said == {name: losses[name] for name in said}
    assert Trainer(net, method=Count, device="cpu").method.loss is methods.count_cross_entropy


def test_it_is_an_option_of_a_run():
    config = RunConfig(method="surrogate", loss="bce")
    assert config.resolved(10).make_method().loss is binary_cross_entropy
    assert config.make_task().loss_name == "bce"
    with pytest.raises(UserError, match="loss"):
        RunConfig(method="lfp", loss="bce")


@pytest.mark.parametrize("reads", ["steps", "sum"])
def test_a_loss_of_ones_own_may_be_added_up(reads, request):
    def steps(outputs, labels, weights):
        return 2 * methods.rate_cross_entropy(outputs, labels, weights)

    def summed(outputs, labels, weights):
        return 2 * methods.count_cross_entropy(outputs, labels, weights)

    own, data = {"steps": steps, "sum": summed}[reads], sequences()
    losses.register("mine", reads=reads, meaning="twice as much")(own)
    request.addfinalizer(lambda: losses.remove("mine"))
    net = models.lif_mlp([4, 8, 3])
    found = {}
    for name in ("mine", {"steps": "rate", "sum": "count"}[reads]):
        trainer = TemporalTrainer(net, method="surrogate", loss=name, chunk=2, device="cpu")
        found[name] = trainer.evaluate(data).loss
        assert own_loss(trainer.method) is None
    assert found["mine"] == pytest.approx(2 * found.popitem()[1])
    assert tasks.Classification("mine").loss_meaning == "twice as much"
