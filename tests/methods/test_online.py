"""Learning one step at a time, against the equations written out, and against chunks of one step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import spikelfp
from hw_export.updates import IntegerImage, UpdateRecorder, replay
from spikelfp import TemporalTrainer, data, methods, models, nn, rewards, rules
from spikelfp.errors import UserError
from spikelfp.methods import Batch, online
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.tasks import Classification
from spikelfp.training.config import RunConfig

SIZES = [6, 9, 8, 3]


def network(sizes=SIZES, seed=3, **neuron):
    torch.manual_seed(seed)
    net = models.lif_mlp(sizes, **{"threshold": 0.5, **neuron}).double()
    for p in net.parameters():
        p.data *= 2
    return net


def batch_of(steps=7, samples=2, features=6, classes=3, kind="varying", masked=False, seed=5):
    generator = torch.Generator().manual_seed(seed)
    if kind == "constant":
        x = nn.constant(torch.rand(samples, features, generator=generator, dtype=torch.float64), steps)
    else:
        x = torch.rand(steps, samples, features, generator=generator, dtype=torch.float64)
    x = (x * (x > 0.6)).to_sparse() if kind == "sparse" else x
    lengths = torch.arange(samples) % steps + 2
    mask = torch.arange(steps).unsqueeze(1) < lengths if masked else None
    return Batch(x, torch.arange(samples) % classes, mask, indices=torch.arange(samples))


def learn(net, method, batch, task=None):
    """Make the updates of one batch; return them, the outputs and what was watched."""
    method.suit(net, task or Classification())
    torch.manual_seed(0)
    method.prepare(net)
    for p in net.parameters():
        p.grad = None
    with rules.lending(net, method.rule):
        outputs, watched = method.learn(net, batch)
    return [p.grad for p in net.parameters()], outputs, watched


def plain(monkeypatch):
    """Take the short way of dense chains away."""
    monkeypatch.setattr(online, "chain_of", lambda lesson, batch: None)


def by_hand(net, feedback, errors, batch, as_reward=True, kind="f3", **neuron):
    """Compute the updates of a dense LIF network with subtractive reset, step by step, with loops over neurons."""
    neurons = next(layer for layer in net if isinstance(layer, nn.LIF))
    floor, margin = neuron.get("floor", neurons.floor), neuron.get("margin", neurons.margin)
    weights = [p.detach().clone() for p in net.parameters()]
    layers = [(weights[i], weights[i + 1]) for i in range(0, len(weights), 2)]
    beta, theta, eps = 0.9, 0.5, 1e-6
    x = batch.sequence.to_dense()
    steps, samples = x.shape[:2]
    found = [torch.zeros_like(w) for w in weights]
    mean = torch.zeros(samples, len(layers[-1][0]), dtype=torch.float64)
    for b in range(samples):
        membranes = [torch.zeros(len(w), dtype=torch.float64) for w, _ in layers]
        counts, counted = torch.zeros(len(layers[-1][0]), dtype=torch.float64), 0
        whole = steps if batch.mask is None else int(batch.mask[:, b].sum())
        for t in range(steps):
            now = x[t, b]
            told, heard, fallen = [], [], []
            for i, (w, c) in enumerate(layers):
                current, before = w @ now + c, membranes[i]
                membranes[i] = beta * before + current - theta * (before > theta)
                inflow = (beta * before).abs() + (membranes[i] - beta * before + theta * (before > theta)).abs() + eps
                told.append(now)
                fallen.append(inflow.clamp(min=floor * theta))
                now = (membranes[i] > theta).double()
                heard.append((membranes[i] > margin * theta).double())
            counts_now = batch.mask is None or bool(batch.mask[t, b])
            if not counts_now:
                continue
            counts, counted = counts + now, counted + 1
            reward = torch.empty_like(counts)
            for c in range(len(counts)):
                n = counts[c] / counted * whole
                if c == int(batch.targets[b]):
                    reward[c] = 1 - torch.sigmoid(n - whole / 2)
                else:
                    reward[c] = torch.sigmoid(whole - n - whole / 2) - 1
            mean[b] += reward
            for i in range(len(layers)):
                if i == len(layers) - 1:
                    r = reward
                else:
                    r = feedback[i].T @ (reward if kind == "dfa" else errors[b])
                    r = r if as_reward else r * heard[i]
                n = r / fallen[i] / samples
                found[2 * i] -= layers[i][0].abs() * torch.outer(n, told[i])
                found[2 * i + 1] -= layers[i][1].abs() * n
        mean[b] /= counted
    return found, mean


@pytest.mark.parametrize("short", [True, False], ids=["chain", "steps"])
@pytest.mark.parametrize("kind", ["varying", "constant", "sparse"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("feedback_as", ["reward", "message"])
def test_updates_are_those_of_the_equations(monkeypatch, short, kind, masked, feedback_as):
    net, batch = network(), batch_of(kind=kind, masked=masked, steps=5, samples=3)
    if not short:
        plain(monkeypatch)
    method = methods.F3(credit="online", feedback_as=feedback_as)
    errors = torch.eye(3, dtype=torch.float64)[batch.targets]  # of an epoch that has not been
    updates, outputs, watched = learn(net, method, batch)
    feedback = [each.double() for each in method.weights.values()]
    expected, mean = by_hand(net, feedback, errors, batch, feedback_as == "reward")
    assert 0 < outputs.mean() < 1
    for one, other in zip(updates, expected, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(watched["reward"], mean.mean(), atol=1e-12, rtol=0)
    method.end_update(spikelfp.training.parallel.SINGLE_WORKER)
    torch.testing.assert_close(method.table.errors, mean.float())
    assert torch.equal(outputs, net(batch.sequence))


@pytest.mark.parametrize("short", [True, False], ids=["chain", "steps"])
@pytest.mark.parametrize("feedback_as", ["reward", "message"])
def test_floor_and_margin(monkeypatch, short, feedback_as):
    net, batch = network(floor=1.5, margin=0.4), batch_of()
    if not short:
        plain(monkeypatch)
    method = methods.F3(credit="online", feedback_as=feedback_as)
    errors = torch.eye(3, dtype=torch.float64)[batch.targets]
    updates, *_ = learn(net, method, batch)
    feedback = [each.double() for each in method.weights.values()]
    expected, _ = by_hand(net, feedback, errors, batch, feedback_as == "reward")
    without, _ = by_hand(net, feedback, errors, batch, feedback_as == "reward", margin=1.0)
    for one, other in zip(updates, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)
    assert torch.equal(expected[0], without[0]) == (feedback_as == "reward")


@pytest.mark.parametrize("short", [True, False], ids=["chain", "steps"])
def test_direct_feedback_has_the_reward_of_the_step(monkeypatch, short):
    net, batch = network(), batch_of()
    if not short:
        plain(monkeypatch)
    method = methods.DFA(credit="online")
    updates, *_ = learn(net, method, batch)
    expected, _ = by_hand(net, [each.double() for each in method.weights.values()], None, batch, kind="dfa")
    for one, other in zip(updates, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize(
    ("reset", "name", "reward", "steps"),
    [
        ("subtract", "f3", "spike-sequence-v1", 35),
        ("immediate", "drtp", "count-softmax", 35),
        ("zero", "llo", "sign", 4),
        ("zero", "dfa", "spike-sequence", 17),
    ],
)
def test_chains_compute_what_single_steps_do(monkeypatch, reset, name, reward, steps):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
        found = []
        for short in (True, False):
            net = network(reset=reset, beta=torch.linspace(0.5, 0.9, 9)[:1] if reset == "zero" else 0.8).to(dtype)
            batch = batch_of(steps, samples=4, masked=True, kind="constant" if steps > 16 else "varying")
            batch = Batch(batch.sequence.to(dtype), batch.targets, batch.mask, indices=batch.indices)
            method = methods.methods[name](credit="online", reward=rewards.rewards[reward]())
            with monkeypatch.context() as patch:
                if not short:
                    plain(patch)
                found.append(learn(net, method, batch))
        (updates, outputs, watched), (slow, same, seen) = found
        assert torch.equal(outputs, same)
        assert [g is None for g in updates] == [g is None for g in slow]
        for one, other in zip(updates, slow, strict=True):
            if one is not None:
                torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
        assert watched.keys() == seen.keys()
        torch.testing.assert_close(list(watched.values()), list(seen.values()))


class OfOneStep(rewards.Reward):
    """A reward that looks at its own step alone."""

    suits = "spikes"

    def reward(self, outputs, target):
        return target.to(outputs.dtype) - 0.7 * outputs


NETS = {
    "dense": lambda: network(),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.LIF(threshold=0.2), nn.Flatten(), nn.Linear(3, 3), nn.LIF(threshold=0.1)
    ),
    "recurrent": lambda: nn.Sequential(
        nn.Linear(9, 8), nn.RecurrentLIF(8, threshold=0.2), nn.Linear(8, 3), nn.LIF(threshold=0.1)
    ),
    "synapses": lambda: nn.Sequential(
        nn.Linear(9, 8), nn.RecurrentSynaptic(8, threshold=0.2), nn.Linear(8, 3), nn.Synaptic(threshold=0.1)
    ),
    "adaptive": lambda: nn.Sequential(nn.Linear(9, 8), nn.ALIF(threshold=0.2), nn.Linear(8, 3), nn.ALIF(threshold=0.1)),
}


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize(("rule", "readout"), [(rules.Epsilon, None), (rules.Gamma, 2), (rules.ZPlusMinus, None)])
def test_training_is_that_of_chunks_of_one_step(name, rule, readout):
    """With a reward of single steps, ``chunk=1`` computes the same, by the way of whole sequences."""
    nets = []
    shape = {"convolution": (1, 3, 3), "dense": (6,)}.get(name, (9,))
    x = torch.rand(4, 5, *shape, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 2, 1, 1])
    for credit, chunk in (("online", None), ("step", 1)):
        torch.manual_seed(2)
        net = NETS[name]().double()
        method = methods.DRTP(credit=credit, reward=OfOneStep(), rule=rule(credit="step"))
        trainer = TemporalTrainer(
            net, method=method, steps=None, chunk=chunk, optimizer=torch.optim.SGD, lr=0.05, schedule=None,
            batch_size=2, readout_steps=readout, wake=False,
        )  # fmt: skip
        trainer.fit(data.arrays(x, labels, sequences=True), 2)
        nets.append(net)
    torch.manual_seed(2)
    for one, other, before in zip(*(net.parameters() for net in (*nets, NETS[name]().double())), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)
        assert not torch.equal(one, before)


def test_real_outputs_learn_too():
    """Readouts of real values earn the reward of their loss, and F³ keeps their error at the end."""
    torch.manual_seed(0)
    net = models.lif_mlp([6, 12, 3], readout="li").double()
    batch = batch_of(6, 3)
    method = methods.F3(credit="online")
    updates, outputs, _ = learn(net, method, batch)
    assert all(g.abs().max() > 0 for g in updates)
    method.end_update(spikelfp.training.parallel.SINGLE_WORKER)
    expected = method._task.expected(batch.targets, outputs) - method._task.predicted(outputs)
    torch.testing.assert_close(method.table.errors, expected.float())


class Live(TorchDispatchMode):
    """Peak of the bytes of the storages that were made within the block and are still held."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self.seen = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                if storage._cdata not in self.seen:
                    self.seen[storage._cdata] = (
                        torch.multiprocessing.reductions.StorageWeakRef(storage),
                        storage.nbytes(),
                    )
        self.seen = {key: each for key, each in self.seen.items() if not each[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.seen.values()))
        return out


@pytest.mark.parametrize("short", [True, False], ids=["chain", "steps"])
def test_memory_does_not_depend_on_the_number_of_steps(monkeypatch, short):
    if not short:
        plain(monkeypatch)
    peaks = {}
    for steps in (16, 64 if not short else 1000):
        net = network([30, 200, 100, 3]).float()
        batch = batch_of(steps, 1, features=30, kind="constant")
        batch = Batch(nn.constant(batch.sequence[0].float(), steps), batch.targets, indices=batch.indices)
        method = methods.F3(credit="online")
        learn(net, method, batch)
        with Live() as live, rules.lending(net, method.rule):
            outputs, _ = method.learn(net, batch)
        peaks[steps] = live.peak - outputs.numel() * outputs.element_size()
    assert max(peaks.values()) <= 1.05 * peaks[16]
    assert peaks[16] > 30 * 200 * 4


@pytest.mark.parametrize("update", ["masters", "stochastic"])
@pytest.mark.parametrize("short", [True, False], ids=["chain", "steps"])
def test_weights_of_a_few_bits(monkeypatch, update, short):
    """Updates are those of the rounded network in floats, times the magnitudes of the weights that are kept."""
    if not short:
        plain(monkeypatch)
    net, batch = network(), batch_of()
    WeightGrids(net, Quantization(bits=4, update=update), 0)
    net[1].weight.data[0, :3] = 0
    method = methods.DRTP(credit="online")
    updates, outputs, _ = learn(net, method, batch)
    rounded = network()
    kept = []
    for quantised, own in ((net[i], rounded[i]) for i in (1, 3, 5)):
        weight, bias = quantised.weight.detach(), quantised.bias.detach()
        grid, wide = quantised.live_grids()
        own.weight.data = grid.to_real(grid.to_integers(weight))
        own.bias.data = bias if wide is None else wide.to_real(wide.to_integers(bias))
        if update == "stochastic":
            weight = weight.where(weight != 0, grid.scale / 4)
            bias = bias if wide is None else bias.where(bias != 0, wide.scale / 4)
        kept += [weight, bias]
    feedback = [each.double() for each in method.weights.values()]
    errors = torch.eye(3, dtype=torch.float64)[batch.targets]
    for p in rounded.parameters():  # by_hand multiplies by |w|, which is 0 for some
        assert p.dtype == torch.float64
    expected, _ = by_hand(rounded, feedback, errors, batch)
    assert torch.equal(outputs, rounded(batch.sequence))
    for update_, hand, own, size in zip(updates, expected, rounded.parameters(), kept, strict=True):
        there = own.detach() != 0
        torch.testing.assert_close(
            (update_ / size.abs())[there], (hand / own.detach().abs())[there], atol=1e-9, rtol=1e-7
        )


def test_recorded_updates_replay(tmp_path):
    torch.manual_seed(0)
    net = models.lif_mlp([64, 12, 10])
    digits = data.load("digits").train
    trainer = TemporalTrainer(net, method=methods.F3(credit="online"), steps=4, batch_size=1, lr=1e-2, wake=False,
                              optimizer="sgd", schedule=None)  # fmt: skip
    with UpdateRecorder(net, tmp_path / "updates.cbor", bits=8) as recorder:
        trainer.fit(torch.utils.data.Subset(digits, range(30)), 1, after_step=recorder.after_step)
    assert recorder.frames > 1
    ends, live = replay(tmp_path / "updates.cbor"), IntegerImage.of(net, recorder.base.grids)
    assert ends.arrays.keys() == live.arrays.keys()
    for name, integers in live.arrays.items():
        assert (ends.arrays[name] == integers).all()
        assert name.endswith("bias") or (recorder.base.arrays[name] != integers).any()


def test_resumed_training_is_the_same(tmp_path):
    digits = data.load("digits").train
    some = torch.utils.data.Subset(digits, range(40))

    def make():
        torch.manual_seed(0)
        return TemporalTrainer(models.lif_mlp([64, 12, 10]), method=methods.F3(credit="online"), steps=3, batch_size=4,
                               schedule=None)  # fmt: skip

    whole, first, second = make(), make(), make()
    whole.fit(some, 2)
    first.fit(some, 1)
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    second.fit(some, 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_short_way_is_left_where_anything_differs():
    batch = batch_of()

    class Own(nn.Linear):
        pass

    def stages(change=lambda net: None, rule=None, net=None):
        rule = rule or rules.Epsilon(credit="step")
        net = network() if net is None else net
        change(net)
        lesson = online.Lesson(net, methods.blocks.cut(net), Classification(), rewards.SpikeSequence(), 1e-6, True,
                               None, None, None, True)  # fmt: skip
        with rules.lending(net, rule):
            return online.chain_of(lesson, batch)

    assert len(stages()) == 3
    assert stages(rule=rules.Gamma(credit="step")) is None
    assert stages(rule=rules.Epsilon(credit="step", normalize="step")) is None
    assert stages(lambda net: net[2].register_forward_hook(lambda *given: None)) is None
    assert stages(lambda net: net[3].register_forward_pre_hook(lambda *given: None)) is None
    assert stages(lambda net: net[3].weight.requires_grad_(False)) is None
    assert stages(net=network(learn_beta=True)) is None
    assert stages(net=nn.Sequential(Own(6, 3), nn.LIF())) is None
    assert stages(net=nn.Sequential(nn.Linear(6, 3), nn.LI())) is None
    assert stages(net=nn.Sequential(nn.Linear(6, 3), nn.Synaptic())) is None


@pytest.mark.parametrize(
    ("net", "options", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.LIF(), nn.Flatten(), nn.Linear(2, 3), nn.LIF()), {},
         "mean and variance of a batch"),
        (nn.Sequential(nn.Linear(6, 5), nn.LIF(), nn.Dropout(0.5), nn.Linear(5, 3), nn.LIF()), {}, "draws masks"),
        (network(), {"rule": rules.Epsilon(credit="step", normalize="sample")}, "largest of all steps"),
        (network(), {"rule": rules.Epsilon()}, "exclude each other"),
        (network(), {"reward": rewards.Levenshtein()}, "when a sequence"),
    ],
)  # fmt: skip
def test_what_needs_other_steps_is_refused(net, options, words):
    with pytest.raises(UserError, match=words):
        methods.F3(credit="online", **options).suit(net, Classification())


def test_a_method_that_runs_sequences_its_own_way_is_refused():
    class Own(methods.DRTP):
        def learn(self, net, batch):
            return super().learn(net, batch)

    class Waits(methods.feedback.BlockMethod):
        def error_of(self, outputs, batch):
            return outputs.sum(0)

    with pytest.raises(UserError, match="runs whole sequences"):
        Own(credit="online").suit(network(), Classification())
    with pytest.raises(UserError, match="error_of_step"):
        Waits(credit="online").suit(network(), Classification())


def test_the_command_line_knows_it():
    config = RunConfig(model="lif-mlp", method="f3", credit="online", rule="gamma")
    method = config.make_method()
    assert method.credit == "online"
    assert method.rule.credit == "step"
    with pytest.raises(UserError, match="dfa, drtp, f3, lfp or llo"):
        RunConfig(model="lif-mlp", method="surrogate", credit="online")


def test_chunks_and_recomputation_are_refused():
    for options, words in (({"chunk": 2}, "one step at a time"), ({"recompute": 2}, "recompute=2")):
        with pytest.raises(UserError, match=words):
            TemporalTrainer(models.lif_mlp(SIZES), method=methods.F3(credit="online"), steps=5, **options)
