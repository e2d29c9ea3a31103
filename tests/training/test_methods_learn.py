"""Methods that own both ways, and that keep a state of their own."""

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.data.loader import EpochSampler
from spikelfp.errors import CheckpointError, UserError
from spikelfp.rules import lending
from spikelfp.training import TemporalTrainer, checkpoint
from spikelfp.training.config import RunConfig

TRAIN = data.load("digits").train.subset(torch.arange(150))


def net():
    torch.manual_seed(0)
    return models.lif_mlp([64, 24, 10])


def make(method, network=None, **options):
    options = {"steps": 5, "batch_size": 32, "lr": 1e-2, "device": "cpu", **options}
    return TemporalTrainer(network or net(), method=method, **options)


class Restless(methods.Method):
    """Rewards through random weights that it draws once, and random signs that it draws at every step."""

    def __init__(self, reward=None):
        self.reward = reward or rewards.CountSoftmax()
        self.draw = torch.Generator()

    def prepare(self, net):
        self.draw.manual_seed(int(torch.randint(1 << 30, ())))
        self.feedback = {"hidden": torch.randn(10, 24)}
        self.seen = torch.zeros((), dtype=torch.int64)

    def learn(self, net, batch):
        hidden = net[:3](batch.sequence)
        outputs = net[3:](hidden.detach())
        reward = self.reward(outputs.detach(), batch.targets)
        weight = batch.share / len(batch.targets)
        methods.lfp.send_rewards(outputs, reward, weight=weight)
        signs = torch.randint(2, (24,), generator=self.draw) * 2 - 1
        own = (reward.mean(0) @ (self.feedback["hidden"] * signs)).expand_as(hidden)
        methods.lfp.send_rewards(hidden, own, weight=weight)
        self.seen += 1
        return outputs, {"reward": reward.mean()}


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))


@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: methods.WarmUp(methods.SurrogateGradient(), own, 3)])
def test_a_state_of_its_own_goes_on_bit_for_bit(tmp_path, wrap):
    whole = make(wrap(Restless()))
    rows = whole.fit(TRAIN, 2)
    stopped = make(wrap(Restless()))
    stopped.should_stop = lambda: stopped.position.step == 7
    stopped.fit(TRAIN, 2)
    stopped.save(tmp_path / "c.pt")
    resumed = make(wrap(Restless()))
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(TRAIN, 2) == rows
    assert same(whole, resumed)
    assert repr(resumed.method.state_dict()) == repr(whole.method.state_dict())
    forgetful = make(wrap(Restless()))
    content = checkpoint.read(tmp_path / "c.pt")
    forgetful.load(tmp_path / "c.pt")
    forgetful.method.load_state_dict(make(wrap(Restless())).method.state_dict())
    forgetful.fit(TRAIN, 2)
    assert not same(whole, forgetful)  # so that the state matters
    assert content["method_state"]


def test_random_numbers_of_a_preparation_are_those_of_the_seed_and_no_others():
    torch.manual_seed(7)
    expected = torch.rand(3)
    network = net()
    torch.manual_seed(7)
    one = make(Restless(), network)
    assert torch.equal(torch.rand(3), expected)
    again, other = make(Restless()), make(Restless(), seed=1)
    assert torch.equal(one.method.feedback["hidden"], again.method.feedback["hidden"])
    assert not torch.equal(one.method.feedback["hidden"], other.method.feedback["hidden"])


def damaged(state, what):
    """The state of a method with something wrong in it."""
    match what:
        case "a shape":
            state["feedback"] = {"hidden": torch.zeros(3, 24)}
        case "a dtype":
            state["feedback"] = {"hidden": torch.zeros(10, 24, dtype=torch.float64)}
        case "NaN":
            state["feedback"] = {"hidden": torch.full((10, 24), torch.nan)}
        case "another key":
            state["feedback"] = {"other": torch.zeros(10, 24)}
        case "a number":
            state["feedback"] = 3
        case "something missing":
            del state["seen"]
        case "something more":
            state["more"] = torch.zeros(2)
        case "a generator of nothing":
            state["draw"] = {"torch.Generator": torch.full_like(state["draw"]["torch.Generator"], 255)}
        case "bytes for a generator":
            state["draw"] = state["draw"]["torch.Generator"]
        case "no state":
            state.clear()
        case "a list":
            return [state]
    return state


@pytest.mark.parametrize(
    "what",
    [
        "a shape", "a dtype", "NaN", "another key", "a number", "something missing", "something more",
        "a generator of nothing", "bytes for a generator", "no state", "a list",
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, what):
    trainer = make(Restless())
    trainer.fit(TRAIN, 1)
    trainer.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    content["method_state"] = damaged(content["method_state"], what)
    torch.save(content, tmp_path / "d.pt")
    other = make(Restless())
    before, weights = repr(other.method.state_dict()), [p.clone() for p in other.net.parameters()]
    with pytest.raises(CheckpointError, match="method") as caught:
        other.load(tmp_path / "d.pt")
    assert "\n" not in str(caught.value)
    assert repr(other.method.state_dict()) == before
    assert all(torch.equal(p, b) for p, b in zip(other.net.parameters(), weights, strict=True))


def test_a_checkpoint_without_a_state_is_for_methods_without_one(tmp_path):
    trainer = make(None)
    trainer.fit(TRAIN, 1)
    trainer.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    assert content.pop("method_state") == {}
    torch.save(content, tmp_path / "old.pt")
    make(None).load(tmp_path / "old.pt")


def test_a_method_with_a_state_belongs_to_one_network():
    method, network = Restless(), net()
    make(method, network)
    make(method, network)  # the weights go on, and so does the state
    with pytest.raises(UserError, match="make one for each network"):
        make(method)
    stateless = methods.LFP(rewards.SpikeSequence())
    make(stateless)
    make(stateless)


@pytest.mark.parametrize("method", [methods.LFP(rewards.SpikeSequence()), methods.SurrogateGradient()])
def test_learning_is_the_way_forward_and_backward_under_the_rule(method):
    ours, slow = net(), net()
    x, targets = torch.rand(5, 8, 64), torch.arange(8)
    batch = methods.Batch(x, targets, share=0.5)
    with lending(ours, method.rule):
        outputs, watched = method.learn(ours, batch)
    with rules.using(slow, method.rule):
        expected = slow(x)
    seen = method.backward(expected, targets, 0.5)
    assert torch.equal(outputs, expected)
    assert {n: float(v) for n, v in watched.items()} == {n: float(v) for n, v in seen.items()}
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours.parameters(), slow.parameters(), strict=True))


class Twice(methods.LFP):
    """Runs the network twice, as a method of two forward passes does, and learns from the second."""

    def learn(self, net, batch):
        with torch.no_grad():
            first = net(batch.sequence)
        outputs = net(batch.sequence)
        assert torch.equal(first, outputs)
        return outputs, self.backward(outputs, batch.targets, batch.share, batch.mask, batch.steps)


def recurrent():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.RecurrentLIF(24), nn.Linear(24, 10), nn.LIF())


def test_a_chunk_that_runs_twice_starts_twice_from_the_same_states():
    options = {"chunk": 4, "steps": 10, "accumulate": 2}
    once = make(methods.LFP(rewards.SpikeSequence()), recurrent(), **options)
    twice = make(Twice(rewards.SpikeSequence()), recurrent(), **options)
    assert once.fit(TRAIN, 1) == twice.fit(TRAIN, 1)
    assert same(once, twice)


class Noting(methods.LFP):
    """Notes the numbers of the samples it sees."""

    def learn(self, net, batch):
        self.noted = [*getattr(self, "noted", []), batch.indices]
        return super().learn(net, batch)


def noted(train, **options):
    method = Noting(rewards.SpikeSequence())
    make(method, **options).fit(train, options.pop("epochs", 2))
    return method.noted


def test_numbers_of_samples_are_those_of_the_sampler():
    order = [list(EpochSampler(150, 32, seed=3, epoch=epoch)) for epoch in range(2)]
    assert [own.tolist() for own in noted(TRAIN, seed=3)] == order[0] + order[1]
    parts = noted(TRAIN, seed=3, accumulate=2)
    assert torch.cat(parts).tolist() == [i for batch in order[0] + order[1] for i in batch]
    assert len(parts) == 20


def test_numbers_of_a_part_are_those_of_the_whole():
    splits = data.load("digits").with_validation(0.2, 0)
    whole = data.load("digits").train
    for part in (splits.train, Subset(splits.train, range(0, 60, 2))):
        numbers = torch.cat(noted(part, batch_size=50))
        images = torch.cat([part[i][0].unsqueeze(0) for i in range(len(part))])
        assert len(numbers) == 2 * len(part)
        first = numbers[: len(part)]
        assert len(set(first.tolist())) == len(part)
        back = whole.__getitems__(first.tolist())[0]
        order = torch.cat([torch.tensor(b) for b in EpochSampler(len(part), 50, 0, 0)])
        assert torch.equal(back, images[order])


def test_numbers_of_other_sources():
    x, y = torch.rand(40, 64), torch.arange(40) % 10
    arrays = torch.cat(noted((x.numpy(), y.numpy())))
    assert sorted(arrays[:40].tolist()) == list(range(40))
    own = torch.cat(noted(TensorDataset(x, y)))
    assert torch.equal(own, arrays)
    assert noted(DataLoader(TensorDataset(x, y), batch_size=20)) == [None] * 4
    sequences = data.arrays(
        torch.rand(30, 5, 64), torch.arange(30) % 10, sequences=True, lengths=torch.arange(30) % 5 + 1
    )
    part = sequences.subset(torch.arange(10, 30))
    assert sorted(torch.cat(noted(part))[:20].tolist()) == list(range(10, 30))


def test_a_method_that_says_nothing_is_told_what_to_write():
    class Idle(methods.Method):
        pass

    assert Idle.name == "Idle"
    with pytest.raises(UserError, match=r"Idle does not say how it learns: give it learn\(net, batch\), or backward"):
        make(Idle()).fit(TRAIN, 1)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda outputs: outputs, "got Tensor"),
        (lambda outputs: (outputs.sum(0), {}), r"of \[5, 32\] steps and samples, got outputs \[32, 10\]"),
        (lambda outputs: (None, {}), "got outputs NoneType"),
        (lambda outputs: (outputs, None), "a dict of scalar tensors, got NoneType"),
        (lambda outputs: (outputs, {"reward": 1.0}), "'reward': 1.0"),
        (lambda outputs: (outputs, {"reward": outputs}), "'reward': tensor"),
    ],
)
def test_what_a_method_returns_is_checked(result, match):
    class Odd(methods.LFP):
        def learn(self, net, batch):
            return result(super().learn(net, batch)[0])

    with pytest.raises(UserError, match=match):
        make(Odd(rewards.SpikeSequence())).fit(TRAIN, 1)


def test_a_method_is_a_name_a_class_or_an_object():
    for given in ("lfp", methods.LFP, methods.LFP(rewards.SpikeSequence())):
        assert repr(make(given).method) == "LFP(reward=SpikeSequence(), rule=Epsilon(constant_statistics=False))"
    assert isinstance(make("surrogate").method, methods.SurrogateGradient)
    assert isinstance(make(methods.SurrogateGradient, loss="count").method, methods.GradientDescent)
    assert list(methods.methods) == [
        "decolle", "dfa", "drtp", "e-prop", "f3", "gradient", "lfp", "llo", "ottt", "pepita", "surrogate",
    ]  # fmt: skip

    class Needy(methods.LFP):
        def __init__(self, strength):
            super().__init__(rewards.SpikeSequence())

    with pytest.raises(UserError, match=r"does not say its strength: make it, Needy\(strength=…\)"):
        make(Needy)
    with pytest.raises(UserError, match="method=Restless has a reward"):
        make(Restless, loss="rate")
    with pytest.raises(UserError, match="method=Restless has a rule of its own"):
        make(Restless, rule="gamma")
    with pytest.raises(UserError, match="a method is a name"):
        make(dict)


def test_facts_of_methods():
    facts = methods.methods
    assert list(facts.where(objective="reward")) == ["dfa", "drtp", "f3", "lfp", "llo"]
    assert list(facts.where(gradient=True)) == ["gradient", "surrogate"]
    assert list(facts.where(surrogate=True)) == ["decolle", "ottt", "surrogate"]
    assert "lfp" in facts.where(gradient=False)
    assert list(facts.where(objective="loss")) == [
        "decolle", "e-prop", "gradient", "ottt", "pepita", "surrogate",
    ]  # fmt: skip
    assert {name: facts.fact(name, "default_lr") for name in facts} == {
        **dict.fromkeys(("dfa", "drtp", "f3", "gradient", "llo", "pepita"), 1e-3),
        **dict.fromkeys(("decolle", "e-prop", "lfp", "ottt"), 3e-3),
        "surrogate": 2e-3,
    }


def test_a_surrogate_method_without_a_rule_is_made_from_options(registrations_end):
    @methods.methods.register("own-surrogate")
    class Own(methods.Method):
        surrogate, gradient, objective = True, True, "loss"

        def __init__(self, *, strength: float = 1.0):
            self.strength = strength

    assert type(RunConfig(method="own-surrogate").make_method()) is Own
