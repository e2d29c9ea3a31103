"""Training by one method for the first steps and by another afterwards (v1, section 3.2 and A.6.4)."""

import pytest
import torch

from spikelfp import data, methods, models, rewards, rules, tasks
from spikelfp.errors import CheckpointError, UserError
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.arguments import check_task, own_loss, reward_of, settings_of


def digits():
    return data.load("digits").train.subset(range(200))


def combined(steps):
    return methods.WarmUp(
        methods.GradientDescent(rules.Surrogate(slope=5.0)), methods.LFP(rewards.SpikeSequence()), steps
    )


def make(method, **options):
    torch.manual_seed(0)
    return TemporalTrainer(models.lif_mlp([64, 24, 10]), steps=5, batch_size=50, method=method, **options)


def weights(trainer):
    return [p.detach().clone() for p in trainer.net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("steps", [1, 3])
def test_each_phase_is_training_by_its_method(steps):
    """The phases, one after the other by hand, with trainers that know nothing of each other."""
    method = combined(steps)
    whole = make(method, schedule="constant", optimizer="sgd", lr=0.05)
    whole.fit(digits(), 2)
    parts = make(method.first, schedule="constant", optimizer="sgd", lr=0.05)
    parts.should_stop = lambda: parts.position.step == steps
    parts.fit(digits(), 2)
    parts.method, parts.should_stop = method.then, lambda: False
    parts.fit(digits(), 2)
    assert same(weights(whole), weights(parts))


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 6])
def test_the_switch_is_found_again_after_a_stop(tmp_path, stop_after):
    whole = make(combined(3))
    rows = whole.fit(digits(), 2)
    stopping = make(combined(3))
    stopping.should_stop = lambda: stopping.position.step >= stop_after
    stopping.fit(digits(), 2)
    stopping.save(tmp_path / "c.pt")
    resumed = make(combined(3))
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(digits(), 2) == rows
    assert same(weights(whole), weights(resumed))


def test_what_is_watched_is_the_mean_over_the_steps_that_have_it():
    trainer = make(combined(3))
    losses = []
    first = trainer.method.first.backward
    trainer.method.first.backward = lambda *arguments: losses.append(first(*arguments)) or losses[-1]
    rows = trainer.fit(digits(), 2)
    assert len(losses) == 3
    assert rows[0]["loss"] == pytest.approx(float(sum(watched["loss"] for watched in losses)) / 3)
    assert "reward" in rows[0]
    assert "loss" not in rows[1]


def test_asked_without_a_step_it_is_what_follows_the_warm_up():
    method, other = combined(3), methods.LFP(rewards.SpikeSequence())
    assert isinstance(method.rule, rules.Epsilon)
    images, labels = digits().__getitems__(range(8))
    trainer = make(other)
    grads = []
    for asked in (method, other):
        trainer.net.zero_grad()
        asked.backward(trainer.net(trainer.present(images)), labels)
        grads.append([p.grad for p in trainer.net.parameters()])
    assert same(*grads)
    assert any(grad.any() for grad in grads[0])


def test_a_warm_up_of_another_length_is_another_run(tmp_path):
    trainer = make(combined(3))
    trainer.fit(digits(), 1)
    trainer.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="surrogate for 3 steps, then lfp"):
        make(combined(4)).load(tmp_path / "c.pt")
    with pytest.raises(UserError, match="at least one step"):
        combined(0)


@pytest.mark.parametrize(
    "method",
    [
        None,
        methods.LFP(rewards.Sigmoid()),
        methods.LFP(rewards.Softmax(), rules.Epsilon(normalize=True)),
        methods.GradientDescent(),
        methods.GradientDescent(rules.Surrogate()),
        methods.WarmUp(methods.GradientDescent(), methods.LFP(rewards.Softmax()), 20),
    ],
    ids=["softmax", "sigmoid", "normalised", "gradient", "surrogate", "gradient then lfp"],
)
def test_static_networks_without_spikes_learn_by_every_method(method):
    splits = data.load("digits")
    torch.manual_seed(0)
    trainer = Trainer(models.mlp([64, 32, 10]), method=method, lr=1e-2)
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.85
    assert trainer.woken == {}


class Alternating(methods.Method):
    """A method of a user's, made of two others, that is no warm-up."""

    def __init__(self, even, odd):
        self.even, self.odd = even, odd

    def parts(self):
        return [*self.even.parts(), *self.odd.parts()]

    def last_part(self):
        return self.odd.last_part()

    def at(self, step):
        return (self.odd if step % 2 else self.even).at(step)

    def backward(self, outputs, labels, share=1.0):
        return self.odd.backward(outputs, labels, share)


def test_parts_of_a_users_method_are_checked_and_judged():
    surrogate = methods.SurrogateGradient()
    method = Alternating(surrogate, methods.WarmUp(surrogate, methods.LFP(rewards.CountSoftmax()), 1))
    assert reward_of(method) is method.odd.then.reward
    assert own_loss(method) is None
    assert own_loss(Alternating(method.odd, methods.SurrogateGradient(loss=torch.dot))) is torch.dot
    with pytest.raises(UserError, match="descends rate_cross_entropy, a loss of classification"):
        check_task(tasks.Regression(), method)
    make(Alternating(surrogate, methods.LFP(rewards.SpikeSequence()))).fit(digits(), 1)


def test_a_method_that_hides_its_loss_is_written_and_saved_without_it():
    class Own(methods.Method):
        def __init__(self, loss, strength=1.0):
            self._loss, self.strength = loss, strength

    own = Own(torch.dot, 2.0)
    assert own.loss is None
    assert repr(own) == "Own(strength=2.0)"
    assert settings_of(own) == {"method": "Own", "strength (of the method)": "2.0"}
    assert not own.returns_loss
    own.loss = own._loss
    assert own.returns_loss
    assert "loss=" in repr(own)
