"""A target for spike rates against slow versions: rewards one by one, and a loss that autograd differentiates."""

import pytest
import torch

from spikelfp import methods, nn, rewards, rules
from spikelfp.errors import UserError
from spikelfp.functional.propagation import propagate
from spikelfp.methods import Batch, RateTarget
from spikelfp.nn import graph
from spikelfp.rules import lending
from spikelfp.training import TemporalTrainer
from spikelfp.training.update import ChunkedNetwork

T, B, IN, HIDDEN, OUT = 7, 5, 6, 8, 3


def net(kind="dense"):
    torch.manual_seed(3)
    if kind == "conv":
        layers = [nn.Conv2d(1, 4, 2), nn.LIF(0.9, 0.2), nn.Flatten(), nn.Linear(8, OUT), nn.LIF(0.9, 0.2)]
    elif kind == "recurrent":
        layers = [nn.Linear(IN, HIDDEN), nn.RecurrentLIF(HIDDEN, 0.9, 0.2), nn.Linear(HIDDEN, OUT), nn.LI(0.9)]
    elif kind == "deep":
        layers = [
            nn.Linear(IN, HIDDEN), nn.LIF(0.9, 0.2), nn.Dropout(0.0), nn.Linear(HIDDEN, HIDDEN),
            nn.Synaptic(0.8, 0.9, 0.2), nn.Linear(HIDDEN, OUT), nn.LIF(0.9, 0.2), nn.Flatten(),
        ]  # fmt: skip
    else:
        layers = [nn.Linear(IN, HIDDEN), nn.LIF(0.9, 0.2), nn.Linear(HIDDEN, OUT), nn.LIF(0.9, 0.2)]
    return nn.Sequential(*layers)


def batch(kind="dense", lengths=None):
    torch.manual_seed(4)
    x = torch.rand(T, B, 1, 3, 2) if kind == "conv" else torch.rand(T, B, IN)
    mask = None if lengths is None else torch.arange(T).unsqueeze(1) < torch.tensor(lengths)
    return Batch(x, torch.tensor([0, 1, 2, 0, 1]), mask)


def hidden(made, x):
    """Outputs of the hidden layers that fire, with their graph, and those of the network."""
    found = []
    with graph.watching(made, lambda call: found.append(call.outputs), lambda layer: graph.has_trait(layer, "fires")):
        out = made(x)
    return (found if isinstance(list(made)[-1], nn.LI) else found[:-1]), out


def slow_errors(spikes, target, weight, over, mask):
    """λ (ρ* − ρ) by loops over samples and neurons."""
    found = torch.zeros_like(spikes)
    flat, own = spikes.detach().flatten(2), found.view(*spikes.shape[:2], -1)
    counts = torch.ones(spikes.shape[:2], dtype=torch.bool) if mask is None else mask
    rates = torch.stack([flat[counts[:, b], b].mean(0) for b in range(flat.shape[1])])
    for b in range(flat.shape[1]):
        for i in range(flat.shape[2]):
            rate = rates[:, i].mean() if over == "neuron" else rates[b].mean()
            own[counts[:, b], b, i] = weight * (target - rate)
    return found


def slow_loss(spikes, target, weight, over, mask):
    """The loss as the module's docstring has it, for autograd."""
    flat = spikes.flatten(2)
    counts = torch.ones(spikes.shape[:2], dtype=torch.bool) if mask is None else mask
    rates = torch.stack([flat[counts[:, b], b].mean(0) for b in range(flat.shape[1])])
    if over == "neuron":
        return weight / 2 * ((rates.mean(0) - target) ** 2).sum()
    return weight / 2 * flat.shape[2] * ((rates.mean(1) - target) ** 2).mean()


def updates(made):
    return [p.grad.clone() for p in made.parameters()]


KINDS = ["dense", "conv", "recurrent", "deep"]
LENGTHS = pytest.mark.parametrize("lengths", [None, [7, 3, 5, 1, 6]], ids=["whole", "masked"])
OVER = pytest.mark.parametrize("over", ["neuron", "layer"])


@LENGTHS
@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_lfp_adds_a_reward_of_every_hidden_neuron(kind, over, lengths):
    made, shown = net(kind), batch(kind, lengths)
    reward = rewards.Softmax() if kind == "recurrent" else rewards.SpikeSequence()
    method = methods.LFP(reward, rate=RateTarget(0.3, weight=0.7, over=over))
    with lending(made, method.rule):
        _, watched = method.learn(made, shown)
    fast = updates(made)

    slow = net(kind)
    with lending(slow, method.rule):
        spikes, out = hidden(slow, shown.sequence)
        given = reward(out, shown.targets) if lengths is None else reward(out, shown.targets, shown.mask)
        ends = [out, *spikes]
        propagate(ends, [given, *(slow_errors(own, 0.3, 0.7, over, shown.mask) for own in spikes)], weight=1 / B)
    for one, other in zip(fast, updates(slow), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    if lengths is None:
        total = sum(own.detach().sum() for own in spikes) / sum(own.numel() for own in spikes)
        assert torch.allclose(watched["spike_rate"], total)


def test_the_reward_of_a_hidden_neuron_is_split_as_that_of_an_output():
    """Without a reward at the outputs, the update is that of the first layer alone, rewarded as an output layer."""
    made, shown = net(), batch()
    method = methods.LFP(rewards.FromCallback(lambda o, y: torch.zeros(B)), rate=RateTarget(0.3, weight=0.7))
    with lending(made, method.rule):
        method.learn(made, shown)
    first = nn.Sequential(*list(net())[:2])
    with lending(first, method.rule):
        spikes = first(shown.sequence)
        propagate(spikes, slow_errors(spikes, 0.3, 0.7, "neuron", None), weight=1 / B)
    assert torch.allclose(made[0].weight.grad, first[0].weight.grad, atol=1e-7)
    assert made[0].weight.grad.abs().sum() > 0
    assert made[2].weight.grad.abs().sum() == 0


@LENGTHS
@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_surrogates_descend_the_loss(kind, over, lengths):
    made, shown = net(kind), batch(kind, lengths)
    method = methods.SurrogateGradient(rate=RateTarget(0.3, weight=0.7, over=over))
    with lending(made, method.rule):
        method.learn(made, shown)
    fast = updates(made)

    slow = net(kind)
    with lending(slow, method.rule):
        spikes, out = hidden(slow, shown.sequence)
        loss = method.loss_of(out, shown.targets, shown.mask)
        (loss + sum(slow_loss(own, 0.3, 0.7, over, shown.mask) for own in spikes)).backward()
    for one, other in zip(fast, updates(slow), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("lengths", [None, [7, 3, 5, 1, 6]], ids=["whole", "masked"])
@pytest.mark.parametrize("name", ["lfp", "surrogate"])
def test_a_chunk_has_its_own_rates(name, lengths):
    shown, target = batch(lengths=lengths), RateTarget(0.3, weight=0.7)
    reward = rewards.SpikeSequence()
    method = methods.LFP(reward, rate=target) if name == "lfp" else methods.SurrogateGradient(rate=target)
    made = net()
    chunked = ChunkedNetwork(made)
    slow, state, kept = net(), None, 0.0
    for piece in shown.chunks(3):
        own = piece.batch
        counts = torch.ones(own.sequence.shape[:2], dtype=torch.bool) if own.mask is None else own.mask
        with lending(made, method.rule):
            _, watched = method.learn(chunked, own)
        kept += float(watched["spike_rate"])
        chunked.advance()
        with lending(slow, method.rule):
            spikes, before = slow[:2].run(own.sequence, state and state[:2])
            out, after = slow[2:].run(spikes, state and state[2:])
            state = tuple(None if each is None else each.detach() for each in (*before, *after))
            flat = spikes.detach()
            alive = counts.any(0)
            rate = torch.stack([flat[counts[:, b], b].mean(0) for b in range(B) if alive[b]]).mean(0)
            error = 0.7 * (0.3 - rate) * counts.unsqueeze(-1)
            if name == "lfp":
                given = reward(out, own.targets) if own.mask is None else reward(out, own.targets, own.mask)
                propagate([out, spikes], [given, error], weight=1 / B)
            else:
                steps = torch.full((B,), T) if lengths is None else torch.tensor(lengths)
                loss = method.loss_of(out, own.targets, own.mask, own.steps)
                torch.autograd.backward([loss, spikes], [None, -error / (steps.view(1, B, 1) * B)])
    for one, other in zip(updates(made), updates(slow), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    with torch.no_grad():
        fired = net()[:2](shown.sequence)
    if lengths is None:
        assert kept == pytest.approx(float(fired.mean()), abs=1e-6)


@pytest.mark.parametrize("name", ["lfp", "surrogate"])
@pytest.mark.parametrize("over", ["neuron", "layer"])
def test_rates_come_to_the_target(name, over):
    """The rate of the hidden layer ends near the target, from above and from below, and without one it does not."""
    torch.manual_seed(0)
    x, y = torch.rand(32, 12), torch.randint(0, 3, (32,))

    def end(target):
        torch.manual_seed(1)
        made = nn.Sequential(nn.Linear(12, 20), nn.LIF(), nn.Linear(20, 3), nn.LIF())
        rate = None if target is None else RateTarget(target, weight=2.0, over=over)
        if name == "lfp":
            method = methods.LFP(rewards.CountSoftmax(), rules.Epsilon(), rate=rate)
        else:
            method = methods.SurrogateGradient(rate=rate)
        trainer = TemporalTrainer(made, method=method, lr=1e-2, steps=8, batch_size=32, schedule=None, wake=False)
        history = trainer.fit((x, y), epochs=80)
        with torch.no_grad():
            found = float(made[:2](trainer.present(x)).mean())
        if target is not None:  # the history has that of the last batch, before its update
            assert history[-1]["spike_rate"] == pytest.approx(found, abs=0.02)
        return found

    low, high, free = end(0.05), end(0.4), end(None)
    assert abs(low - 0.05) < 0.03
    assert abs(high - 0.4) < 0.03
    assert 0.1 < free < 0.35


def test_training_resumes_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    x, y = torch.rand(24, IN), torch.randint(0, 3, (24,))

    def trainer():
        return TemporalTrainer(
            net(), method=methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.2)), steps=4, batch_size=8
        )

    whole = trainer()
    whole.fit((x, y), 2)
    first = trainer()
    first.plan((x, y), 2)
    first.fit((x, y), 2, after_step=lambda position: first.save(tmp_path / "c.pt") if position.step == 3 else None)
    second = trainer()
    second.load(tmp_path / "c.pt")
    second.fit((x, y), 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "rate (of the method)" in torch.load(tmp_path / "c.pt", weights_only=True)


def test_parts_of_a_batch_add_up_for_layers():
    """The rate of a layer in a sample does not depend on the other samples, so batches may be split."""
    torch.manual_seed(0)
    x, y = torch.rand(8, IN), torch.randint(0, 3, (8,))

    def weights(accumulate, over):
        made = net()
        method = methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.2, over=over))
        trainer = TemporalTrainer(
            made, method=method, steps=4, batch_size=8, accumulate=accumulate, optimizer="sgd", lr=0.1, schedule=None
        )
        trainer.fit((x, y), 1)
        return torch.cat([p.detach().flatten() for p in made.parameters()])

    assert torch.allclose(weights(1, "layer"), weights(4, "layer"), atol=1e-6)
    assert not torch.allclose(weights(1, "neuron"), weights(4, "neuron"), atol=1e-6)


def test_a_frozen_layer_is_left_alone():
    made, shown = net(), batch()
    for p in made[0].parameters():
        p.requires_grad_(False)
    method = methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.3))
    with lending(made, method.rule):
        method.learn(made, shown)
    assert made[0].weight.grad is None
    assert made[2].weight.grad is not None


def test_what_cannot_have_a_target_is_refused():
    for wrong in (
        lambda: RateTarget(1.5), lambda: RateTarget(-0.1), lambda: RateTarget("high"), lambda: RateTarget(0.1, -1),
        lambda: RateTarget(0.1, over="sample"),
    ):  # fmt: skip
        with pytest.raises(UserError):
            wrong()
    with pytest.raises(UserError, match="online"):
        methods.LFP(rewards.SpikeSequence(), credit="online", rate=RateTarget(0.1))
    with pytest.raises(UserError, match="derivative of a spike is 0"):
        methods.GradientDescent(rate=RateTarget(0.1))
    plain = nn.Sequential(nn.Linear(IN, 4), nn.ReLU(), nn.Linear(4, OUT))
    with pytest.raises(UserError, match="has none"):
        TemporalTrainer(plain, method=methods.LFP(rewards.Softmax(), rate=RateTarget(0.1)))
    with pytest.raises(UserError, match="has none"):
        TemporalTrainer(net()[2:], method=methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.1)))
    method = methods.LFP(rewards.SpikeSequence(), rules.Epsilon(normalize=True), rate=RateTarget(0.1))
    made = net()
    with lending(made, method.rule), pytest.raises(UserError, match="normalize"):
        method.learn(made, batch())
    with pytest.raises(UserError, match="recompute"):
        TemporalTrainer(net(), method=methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.1)), steps=8, recompute=3)
    target = RateTarget(0.1)
    with pytest.raises(UserError, match="while the network runs"):
        methods.LFP(rewards.SpikeSequence(), rate=target).backward(torch.zeros(2, 2, 2), torch.zeros(2).long())


def test_a_method_without_a_target_is_as_before():
    found = []
    for rate in (None, RateTarget(0.5, weight=0)):
        made, method = net(), methods.LFP(rewards.SpikeSequence(), rate=rate)
        with lending(made, method.rule):
            method.learn(made, batch())
        found.append(updates(made))
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, atol=1e-7)
    assert repr(RateTarget(0.1, over="layer")) == "RateTarget(target=0.1, over='layer')"
    assert (
        repr(methods.LFP(rewards.SpikeSequence()))
        == "LFP(reward=SpikeSequence(), rule=Epsilon(constant_statistics=False))"
    )
    assert "rate=RateTarget(target=0.1)" in repr(methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.1)))
    assert not methods.SurrogateGradient().runs_network
    assert not methods.LFP(rewards.SpikeSequence(), rate=RateTarget(0.1)).runs_network


def test_rates_of_sequences_that_end_have_the_precision_of_the_spikes():
    counts = torch.tensor([7, 3, 5, 1, 6])
    mask = torch.arange(7).unsqueeze(1) < counts
    spikes = (torch.rand(7, 5, 4) < 0.5).double()
    exact = torch.stack([spikes[:n, b].mean(0) for b, n in enumerate(counts)])
    target = RateTarget(0.3)
    assert torch.allclose(target._rates(spikes, mask)[0, 0], exact.mean(0), rtol=1e-14, atol=0)
    assert target._rates(spikes.bfloat16(), mask).dtype == torch.float32
