"""Batches of padded sequences train as every sample alone, cut to its length; all of training takes them."""

import pytest
import torch
from sequence_data import METHODS, NETS, Recordings, assert_close_weights, make, mlp, recordings, same_weights

from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.data import batches
from spikelfp.data.loader import Sequences
from spikelfp.errors import CheckpointError, NonFiniteError, UserError
from spikelfp.functional.propagation import propagate
from spikelfp.methods.base import Batch, counting_steps
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.parallel import SINGLE_WORKER
from spikelfp.training.update import fill_gradients, predict, wake_silent_layers


def alone(net, method, x, labels, readout=None):
    """The slow way: one sample after the other, without padding. Gradients, right predictions and what is watched."""
    net.zero_grad()
    right, watched = 0, {}
    for b in range(len(labels)):
        own = x.values[: int(x.lengths[b]), b : b + 1] if x.lengths is not None else x.values[:, b : b + 1]
        with rules.using(net, method.rule):
            outputs = net(own)
        counting = outputs if readout is None else outputs[-readout:]
        share = 1 / len(labels)
        if isinstance(method, methods.LFP):
            reward = method.reward(counting, labels[b : b + 1])
            propagate(outputs, torch.cat([torch.zeros_like(outputs[len(counting) :]), reward]) * share, eps=method.eps)
            seen = {"reward": reward.mean(), "reward_magnitude": reward.abs().mean()}
        else:
            seen = method.backward(counting, labels[b : b + 1], share)
        for name, value in seen.items():
            watched[name] = watched.get(name, 0.0) + float(value) * share
        right += int(predict(counting.detach()) == labels[b])
    return [p.grad.clone() for p in net.parameters()], right, watched


def assert_grads(found, expected, tolerance=1e-9):
    assert any(grad.any() for grad in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


@pytest.mark.parametrize("readout", [None, 4])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", NETS)
def test_a_padded_batch_gives_the_updates_and_predictions_of_its_samples(net, method, readout):
    build, shape = NETS[net]
    x, labels = recordings(14, shape=shape, dtype=torch.float64).__getitems__(range(14))
    slow = make(build, torch.float64)
    expected, right, watched = alone(slow.net, METHODS[method], x, labels, readout)
    fast = make(build, torch.float64, method=METHODS[method], readout_steps=readout)
    seen = fast.train_step(x, labels)
    assert_grads([p.grad for p in fast.net.parameters()], expected)
    assert int(seen.correct) == right
    assert {name: float(value) for name, value in seen.watched.items()} == pytest.approx(watched, rel=1e-5)
    # and the step of Adam that follows
    adam = torch.optim.Adam(slow.net.parameters(), fast.optimizer.param_groups[0]["lr"])
    for p, grad in zip(slow.net.parameters(), expected, strict=True):
        p.grad = grad
    adam.step()
    # Adam divides by the size of the gradient, so that of tiny ones only the sign is left
    assert_close_weights(slow, fast, 1e-6)


def test_padding_would_change_the_update():
    x, labels = recordings(14).__getitems__(range(14))
    masked, plain = make(), make()
    masked.train_step(x, labels)
    plain.train_step(Sequences(x.values), labels)
    assert not torch.allclose(masked.net[1].weight.grad, plain.net[1].weight.grad, rtol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_sequences_of_equal_lengths_are_bit_for_bit_a_plain_sequence(method):
    class Shown(TemporalTrainer):
        def present(self, x):
            return x

    x, labels = recordings(16, unequal=False).__getitems__(range(16))
    ours = make(method=METHODS[method])
    torch.manual_seed(0)
    plain = Shown(mlp(), steps=3, method=METHODS[method], batch_size=16, lr=1e-2, device="cpu")
    one, other = ours.train_step(x, labels), plain.train_step(x.values, labels)
    assert same_weights(ours, plain)
    assert {n: float(v) for n, v in one.watched.items()} == {n: float(v) for n, v in other.watched.items()}


def test_a_user_s_method_is_told_of_steps_only_where_they_count():
    class Own(methods.LFP):
        def backward(self, outputs, labels, share=1.0):
            return super().backward(outputs, labels, share)

    x, labels = recordings(8, unequal=False).__getitems__(range(8))
    make(method=Own(rewards.SpikeSequence())).train_step(x, labels)


@pytest.mark.parametrize("parts", [2, 5, 20])
@pytest.mark.parametrize("method", ["lfp", "surrogate"])
def test_parts_of_a_padded_batch_add_up(method, parts):
    x, labels = recordings(14, dtype=torch.float64).__getitems__(range(14))
    whole, split = (make(dtype=torch.float64, method=METHODS[method], accumulate=n) for n in (1, parts))
    seen, seen_in_parts = whole.train_step(x, labels), split.train_step(x, labels)
    assert_grads([p.grad for p in split.net.parameters()], [p.grad for p in whole.net.parameters()])
    assert int(seen.correct) == int(seen_in_parts.correct)
    for name, value in seen.watched.items():
        assert float(seen_in_parts.watched[name]) == pytest.approx(float(value), rel=1e-5)


def test_a_part_ends_with_its_longest_sequence():
    lengths = torch.tensor([3, 5, 9, 2])
    batch = Batch(torch.rand(9, 4, 2), torch.arange(4), torch.arange(9).unsqueeze(1) < lengths)
    assert [tuple(part.sequence.shape) for part in batch.parts(2)] == [(5, 2, 2), (9, 2, 2)]
    assert [len(part.targets) for part in batch.parts(6)] == [1, 1, 1, 1, 0, 0]


def test_a_made_up_sample_stands_in_for_none():
    net, method = mlp(), METHODS["lfp"]
    nothing = Sequences(torch.zeros(0, 0, 12), torch.zeros(0, dtype=torch.int64))
    batch = Batch(nothing.values, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool))
    seen = fill_gradients(net, net, method, batch, of=5, parts=1, world=SINGLE_WORKER)
    assert seen.correct == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("last", [None, 1, 3, 50])
@pytest.mark.parametrize("unequal", [True, False])
def test_counting_steps_are_the_last_of_each_sequence(last, unequal):
    lengths = torch.tensor([4, 7, 1]) if unequal else None
    mask = counting_steps(torch.zeros(7, 3), lengths, last)
    expected = [
        [t < n and (last is None or t >= n - last) for n in ([4, 7, 1] if unequal else [7] * 3)] for t in range(7)
    ]
    if mask is None:
        assert all(all(row) for row in expected)
    else:
        assert mask.tolist() == expected
    assert (mask is None) is (not unequal and last in (None, 50))


def test_static_samples_are_read_out_at_their_last_steps():
    train = data.load("digits").train.subset(range(40))
    images, labels = train.__getitems__(range(40))
    trainer = TemporalTrainer(models.lif_mlp([64, 10]), steps=9, readout_steps=2, device="cpu", batch_size=40)
    outputs = trainer.net(nn.constant(images, 9))
    reward = rewards.SpikeSequence()(outputs[-2:], labels)
    seen = trainer.train_step(images, labels)
    assert float(seen.watched["reward"]) == pytest.approx(float(reward.mean()), rel=1e-5)
    outputs = trainer.net(nn.constant(images, 9))
    accuracy = float((outputs[-2:].sum(0).argmax(-1) == labels).double().mean())
    assert trainer.evaluate(train).accuracy == pytest.approx(accuracy)


def test_accuracy_and_rates_are_those_of_every_sample_alone():
    dataset, trainer = recordings(), make()
    trainer.fit(dataset, 1)
    x, labels = dataset.__getitems__(range(len(dataset)))
    right, rates = 0, []
    for b in range(len(dataset)):
        outputs = trainer.net(x.values[: int(x.lengths[b]), b : b + 1]).detach()
        right += int(predict(outputs) == labels[b])
        rates.append(outputs.mean())
    found = trainer.evaluate(dataset)
    assert found.accuracy == right / len(dataset)
    assert found.mean_output == pytest.approx(float(torch.stack(rates).mean()), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_networks_learn_sequences_of_unequal_lengths(method):
    trainer = make(method=METHODS[method], lr=1e-2)
    trainer.fit(recordings(96), 25)
    assert trainer.evaluate(recordings(96)).accuracy > 0.8


def test_a_static_network_sees_each_step():
    x, labels = recordings(14).__getitems__(range(14))
    trainer = Trainer(models.mlp([12, 8, 4]), device="cpu")
    slow = [p.clone().requires_grad_() for p in trainer.net.parameters()]
    expected, right, _ = alone(trainer.net, trainer.method, x, labels)
    seen = trainer.train_step(x, labels)
    assert_grads([p.grad for p in trainer.net.parameters()], expected, 1e-4)
    assert int(seen.correct) == right
    assert len(slow) == len(expected)


@pytest.mark.parametrize("stop_after", [2, 5])
def test_resuming_is_bit_for_bit_the_same(tmp_path, stop_after):
    whole = make(readout_steps=5)
    rows = whole.fit(recordings(), 2)
    stopping = make(readout_steps=5)
    stopping.should_stop = lambda: stopping.position.step >= stop_after
    stopping.fit(recordings(), 2)
    stopping.save(tmp_path / "c.pt")
    resumed = make(readout_steps=5)
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(recordings(), 2) == rows
    assert same_weights(whole, resumed)
    with pytest.raises(CheckpointError, match="readout_steps 5, this trainer has None"):
        make().load(tmp_path / "c.pt")


def test_worker_processes_change_nothing():
    one, two = make(), make(workers=2)
    assert one.fit(recordings(), 1) == two.fit(recordings(), 1)
    assert same_weights(one, two)


def test_silent_layers_are_told_by_the_steps_of_the_sequences():
    x, _ = recordings(30, steps=40).__getitems__(range(30))
    short = Sequences(x.values, torch.full((30,), 4))
    inside = Sequences(torch.where(short.mask.unsqueeze(-1), x.values, 0.0), short.lengths)
    results = []
    for values, mask in ((inside.values[:4], None), (inside.values, inside.mask), (inside.values, None)):
        torch.manual_seed(0)
        net = models.lif_mlp([12, 16, 4], threshold=6.0)
        torch.nn.init.zeros_(net[1].bias)
        results.append(wake_silent_layers(net, values, mask))
    assert results[0] == results[1]
    assert results[2]["1"] > results[0]["1"]


def test_the_trainer_wakes_by_the_first_batch(monkeypatch):
    trainer = make(lambda: models.lif_mlp([12, 16, 4], threshold=3.0), wake=True)
    trainer.fit(recordings(), 1)
    assert set(trainer.woken) == {"1"}


def test_a_value_that_is_not_finite_is_named():
    x, labels = recordings(8).__getitems__(range(8))
    x.values[1, 2, 3] = float("inf")
    with pytest.raises(NonFiniteError, match="the input is not finite"):
        make(method=methods.GradientDescent(rules.Surrogate())).train_step(x, labels)


def test_levenshtein_trains_on_sequences_of_unequal_lengths():
    dataset = recordings(16)
    targets = torch.stack([dataset.labels.clamp(min=1), torch.full((16,), -1)], 1)
    x, _ = dataset.__getitems__(range(16))
    net, reward = mlp(), rewards.Levenshtein(collapse=True, blank=0)
    before = reward.distance(net(x.values).detach(), targets, x.mask)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        methods.LFP(reward).backward(net(x.values), targets, mask=x.mask)
        optimizer.step()
    after = reward.distance(net(x.values).detach(), targets, x.mask)
    assert int(after.sum()) < int(before.sum())
    chunked = make(reward=reward, chunk=4)
    with pytest.raises(UserError, match="Levenshtein rewards whole sequences, and a chunk is a part of one"):
        chunked.train_step(x, targets)


def test_batches_of_the_loader_are_sequences():
    x, labels = next(iter(batches(recordings(), 16, seed=0, epoch=0)))
    assert isinstance(x, Sequences)
    assert len(x) == len(labels) == 16
    assert isinstance(recordings(), Recordings)
