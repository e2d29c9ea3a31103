"""LFP forward in time: against the scan, against the scan with the dropped terms left out, and in bounded memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hw_export.updates import IntegerImage, UpdateRecorder, replay
from spikelfp import TemporalTrainer, data, methods, models, nn, rewards, rules
from spikelfp.errors import UserError
from spikelfp.methods import Batch, eligibility
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.tasks import Classification, MultiLabel
from spikelfp.training.config import RunConfig
from spikelfp.training.trainer import READ_STEPS

EACH = torch.tensor([0.5, 0.7, 0.9])
"""A decay for each of three neurons."""


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Let sequences of a few steps have several windows."""
    monkeypatch.setattr(eligibility, "WINDOW", 4)


class OfOneStep(rewards.Reward):
    """A reward that looks at its own step alone, so that it is known at once."""

    suits = "spikes"

    def reward(self, outputs, target):
        return target.to(outputs.dtype) - 0.7 * outputs


def batch_of(steps=11, samples=4, features=6, kind="varying", masked=False):
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(steps, samples, features, generator=generator, dtype=torch.float64)
    if kind == "constant":
        x = nn.constant(x[0], steps)
    x = (x * (x > 0.4)).to_sparse() if kind == "sparse" else x
    mask = torch.arange(steps).unsqueeze(1) < torch.tensor([steps, steps - 2, 3, 7])[:samples] if masked else None
    return Batch(x, torch.arange(samples) % 3, mask, indices=torch.arange(samples))


def chain(*neurons, sizes=(6, 5, 3), bias=True, seed=3):
    torch.manual_seed(seed)
    layers = []
    for before, after, own in zip(sizes[:-1], sizes[1:], neurons, strict=True):
        layers += [nn.Linear(before, after, bias), *([] if own is None else [own()])]
    net = nn.Sequential(nn.Flatten(), *layers).double()
    for name, p in net.named_parameters():
        if not name.endswith("decay"):
            p.data *= 2
    return net


def learn(net, method, batch, task=None):
    method.suit(net, task or Classification())
    for p in net.parameters():
        p.grad = None
    with rules.lending(net, method.rule):
        outputs, watched = method.learn(net, batch)
    return [p.grad for p in net.parameters()], outputs.detach(), watched


LAST = {
    "lif": lambda: nn.LIF(threshold=0.5),
    "lif, β learns": lambda: nn.LIF(threshold=0.5, learn_beta=True),
    "lif, β of each learns": lambda: nn.LIF(EACH, 0.5, reset="zero", learn_beta=True),
    "floor": lambda: nn.LIF(threshold=0.5, floor=1.2, learn_beta=True),
    "synaptic": lambda: nn.Synaptic(threshold=0.5, learn_beta=True),
    "synaptic, α of each": lambda: nn.Synaptic(EACH, threshold=0.5, reset="immediate", learn_beta=True),
    "integrators": lambda: nn.LI(),
    "integrators, β of each": lambda: nn.LI(EACH),
    "no neurons": None,
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize(("kind", "masked"), [("varying", False), ("constant", True), ("sparse", True)])
def test_one_layer_learns_as_by_the_scan(name, kind, masked):
    batch = batch_of(kind=kind, masked=masked)
    found = []
    for credit in ("scan", "online"):
        net = chain(LAST[name], sizes=(6, 3))
        found.append(learn(net, methods.LFP(OfOneStep(), credit=credit), batch))
    (updates, outputs, watched), (own, same, seen) = found
    torch.testing.assert_close(outputs, same, atol=1e-14, rtol=1e-14)
    for one, other in zip(own, updates, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-11)
    torch.testing.assert_close(watched, seen)


def unrolled(net, batch, reward_of):
    """Compute the scan's update with the dropped terms left out: loops over samples, steps back in time, and neurons.

    ``reward_of`` is a function of outputs ``[T, C]`` of a sample so far and its class to the rewards of the last step.
    """
    x, grads = batch.sequence.to_dense(), {p: torch.zeros_like(p) for p in net.parameters()}
    layers = [layer for layer in net if not isinstance(layer, nn.Flatten)]
    pairs = list(zip(layers[::2], layers[1::2], strict=True))
    steps, samples = x.shape[:2]
    for b in range(samples):
        values, now = [], x[:, b]
        for dense, own in pairs:  # forward
            width = dense.out_features
            recurrent = getattr(own, "recurrent", None)
            zeros = torch.zeros(width, dtype=x.dtype)
            u, y, s, rows = zeros, zeros, zeros, []
            for t in range(steps):
                kept, before = u, s
                current = dense.weight @ now[t] + (0 if dense.bias is None else dense.bias)
                if recurrent is not None:
                    current = current + recurrent.weight @ s + (0 if recurrent.bias is None else recurrent.bias)
                y = getattr(own, "alpha", 0) * y + current
                if isinstance(own, nn.LI):
                    u = own.beta * u + y
                    s, inflow, v, hears = u, None, None, None
                else:
                    theta = own.threshold
                    over = (u > theta).to(x.dtype)
                    v = {"subtract": u, "zero": u * (1 - over), "immediate": u - theta * over}[own.reset]
                    inflow = (own.beta * kept).abs() + y.abs() + 1e-6
                    u = own.beta * v + y - theta * over * (own.reset == "subtract")
                    inflow = inflow.clamp(min=own.floor * theta)
                    s, hears = (u > theta).to(x.dtype), (u > own.margin * theta).to(x.dtype)
                rows.append((now[t], before, kept, v, s, inflow, hears))
            values.append(rows)
            now = torch.stack([row[4] for row in rows])
        outputs, given = now, []
        for t in range(steps):
            counts = batch.mask is None or batch.mask[t, b]
            given.append(reward_of(outputs[: t + 1], int(batch.targets[b])) if counts else torch.zeros(len(outputs[t])))
        for (dense, own), rows in reversed(list(zip(pairs, values, strict=True))):
            recurrent, messages = getattr(own, "recurrent", None), []
            n, m, carry = 0, 0, 0
            if own is not pairs[-1][1]:  # messages to spikes: S · Wᵀ r / D, or with a margin more of them
                given = [message * hears for message, (*_, hears) in zip(given, rows, strict=True)]
            for t in reversed(range(steps)):
                told, before, kept, v, s, inflow, _ = rows[t]
                if isinstance(own, nn.LI):
                    here = given[t] / (s + torch.where(s < 0, -1e-6, 1e-6))
                    m = here + own.beta * m
                else:
                    n = (given[t] + carry) / inflow
                    m = n + getattr(own, "alpha", 0) * m
                    carry = own.beta * kept * n
                    here = given[t] / inflow
                    if own.decay is not None:
                        term = own.beta * v * n / samples
                        grads[own.decay] -= term if own.decay.dim() else term.sum()
                for layer, source in ((dense, told), (recurrent, before)):
                    if layer is not None:
                        grads[layer.weight] -= layer.weight.abs() * torch.outer(m, source) / samples
                        if layer.bias is not None:
                            grads[layer.bias] -= layer.bias.abs() * m / samples
                messages.insert(0, dense.weight.T @ here)
            given = messages
    return list(grads.values())


def of_counts(batch):
    """Equations of A.4 with the counts that a sequence has if it goes on as so far."""

    def reward_of(outputs, label):
        whole = len(batch.sequence) if batch.mask is None else int(batch.mask[:, label_of[label]].sum())
        n = outputs.sum(0) / len(outputs) * whole
        right = torch.arange(outputs.shape[1]) == label
        return torch.where(right, 1 - torch.sigmoid(n - whole / 2), torch.sigmoid(whole - n - whole / 2) - 1)

    label_of = {int(label): number for number, label in enumerate(batch.targets)}
    return reward_of


def of_one_step(outputs, label):
    return torch.nn.functional.one_hot(torch.tensor(label), outputs.shape[1]) - 0.7 * outputs[-1]


NETS = {
    "lif": lambda: chain(lambda: nn.LIF(threshold=0.5, learn_beta=True), lambda: nn.LIF(0.8, 0.4)),
    "floor and margin": lambda: chain(
        lambda: nn.LIF(0.8, 0.5, floor=0.8, margin=0.5), lambda: nn.LIF(0.7, 0.4, reset="zero", floor=1.5)
    ),
    "zero": lambda: chain(*[lambda: nn.LIF(0.8, 0.5, reset="zero")] * 3, sizes=(6, 5, 4, 3)),
    "recurrent": lambda: chain(lambda: nn.RecurrentLIF(5, threshold=0.6, learn_beta=True), lambda: nn.LIF(0.8, 0.4)),
    "synaptic": lambda: chain(lambda: nn.Synaptic(0.6, threshold=0.8), lambda: nn.Synaptic(threshold=0.4)),
    "recurrent synapses": lambda: chain(
        lambda: nn.RecurrentSynaptic(5, 0.5, threshold=0.7, reset="immediate"), lambda: nn.LIF(threshold=0.4)
    ),
    "integrators": lambda: chain(lambda: nn.LIF(threshold=0.5), lambda: nn.LI(0.8), bias=False),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("counted", [False, True])
def test_more_layers_learn_as_by_the_scan_without_the_dropped_terms(name, counted):
    batch = batch_of(masked=counted, samples=3)
    net = NETS[name]()
    if counted and name == "integrators":
        return  # A.4 counts spikes
    reward = rewards.SpikeSequence() if counted else OfOneStep()
    updates, outputs, _ = learn(net, methods.LFP(reward, credit="online"), batch)
    with torch.no_grad():
        expected = unrolled(net, batch, of_counts(batch) if counted else of_one_step)
    assert torch.equal(outputs, net(batch.sequence))
    for (label, _), one, other in zip(net.named_parameters(), updates, expected, strict=True):
        assert other.abs().max() > 0, label
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10, msg=lambda text, label=label: f"{label} {text}")
    if not counted:  # and the dropped terms are not nothing
        whole, *_ = learn(net, methods.LFP(OfOneStep()), batch)
        assert not torch.allclose(whole[0], updates[0])


@pytest.mark.parametrize("name", ["recurrent", "recurrent synapses", "integrators"])
def test_windows_and_slices_have_no_effect(monkeypatch, name):
    batch = batch_of(masked=True)
    found = []
    for window, room in ((1, 1), (3, 200), (100, 2**24), (4, 2**24)):
        monkeypatch.setattr(eligibility, "WINDOW", window)
        monkeypatch.setattr(eligibility, "ROOM", room)
        found.append(learn(NETS[name](), methods.LFP(OfOneStep(), credit="online"), batch))
    for updates, outputs, watched in found[1:]:
        assert torch.equal(outputs, found[0][1])
        for one, other in zip(updates, found[0][0], strict=True):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-11)
        torch.testing.assert_close(watched, found[0][2])


@pytest.mark.parametrize("update", ["masters", "stochastic"])
@pytest.mark.parametrize("name", ["lif", "recurrent"])
def test_weights_of_a_few_bits(update, name):
    """Updates are those of the rounded network in floats, times the magnitudes of the weights that are kept."""
    net, batch = NETS[name](), batch_of()
    WeightGrids(net, Quantization(bits=4, update=update), 0)
    updates, outputs, _ = learn(net, methods.LFP(OfOneStep(), credit="online"), batch)
    rounded, magnitudes = NETS[name](), []
    for quantised, own in zip(net.modules(), rounded.modules(), strict=True):
        if not isinstance(own, nn.Linear):
            continue
        weight, bias = quantised.weight.detach(), quantised.bias.detach()
        grid, wide = quantised.live_grids()
        own.weight.data = grid.to_real(grid.to_integers(weight))
        own.bias.data = bias if wide is None else wide.to_real(wide.to_integers(bias))
        if update == "stochastic":
            weight = weight.where(weight != 0, grid.scale / 4)
            bias = bias if wide is None else bias.where(bias != 0, wide.scale / 4)
        magnitudes += [(own.weight, weight), (own.bias, bias)]
    expected, same, _ = learn(rounded, methods.LFP(OfOneStep(), credit="online"), batch)
    assert torch.equal(outputs, same)
    own = dict(zip(rounded.parameters(), updates, strict=True))
    for p, kept in magnitudes:
        there = p.detach() != 0
        torch.testing.assert_close((own[p] / kept.abs())[there], (p.grad / p.detach().abs())[there])
    assert len(expected) == len(updates)


class Living(TorchDispatchMode):
    """Most bytes of storages made within the block that were held at a time; ``known`` were made before."""

    def __init__(self, *known):
        super().__init__()
        self.known = {each.untyped_storage()._cdata for each in known}
        self.peak, self.now, self.seen = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known and (key not in self.seen or self.seen[key][0].expired()):
                    self.seen[key] = torch.multiprocessing.reductions.StorageWeakRef(storage), size
                    self.now += size
        if self.now > self.peak:  # at most: some of them are gone
            self.seen = {key: each for key, each in self.seen.items() if not each[0].expired()}
            self.now = sum(size for _, size in self.seen.values())
            self.peak = max(self.peak, self.now)
        return out


HIDDEN = {
    "lif": (lambda: nn.LIF(threshold=0.5), 2000),
    "recurrent": (lambda: nn.RecurrentLIF(60), 200),
    "10,000 steps": (lambda: nn.LIF(threshold=0.5), 10_000),
}


@pytest.mark.parametrize("name", ["lif", "recurrent", pytest.param("10,000 steps", marks=pytest.mark.slow)])
def test_memory_does_not_depend_on_the_number_of_steps(monkeypatch, name):
    monkeypatch.setattr(eligibility, "WINDOW", 32)
    torch.manual_seed(0)
    hidden, most = HIDDEN[name]
    net = nn.Sequential(nn.Linear(40, 60), hidden(), nn.Linear(60, 3), nn.LIF(threshold=0.5))
    events, labels = (torch.rand(max(most, 400), 2, 40) < 0.02).float(), torch.tensor([0, 2])

    def peak(steps, credit):
        batch, method = Batch(events[:steps], labels), methods.LFP(rewards.SpikeSequence(), credit=credit)
        method.suit(net, Classification())
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        known = events, labels, *net.parameters(), *(p.grad for p in net.parameters())
        with Living(*known) as living, rules.lending(net, method.rule):
            outputs, _ = method.learn(net, batch)
        return living.peak - outputs.numel() * outputs.element_size()

    short = peak(100, "online")
    assert peak(most, "online") <= 1.05 * short
    assert short > 2 * 40 * 60 * 4  # the eligibilities are there
    assert peak(400, "scan") > 2 * short  # the measure sees what the scan keeps


def trainer_of(**options):
    torch.manual_seed(0)
    method = methods.LFP(rewards.SpikeSequence(), credit="online", **options.pop("method", {}))
    return TemporalTrainer(models.lif_mlp([64, 12, 10]), method=method, steps=6, schedule=None, **options)


def test_digits_are_learned():
    torch.manual_seed(0)
    digits = data.load("digits")
    method = methods.LFP(rewards.SpikeSequence(), credit="online")
    trainer = TemporalTrainer(models.lif_mlp([64, 32, 10]), method=method, steps=9, batch_size=32)
    trainer.fit(digits.train, 3)
    assert trainer.evaluate(digits.test).accuracy > 0.7


def test_training_is_resumed_bit_for_bit_and_recorded(tmp_path):
    digits = data.load("digits").train
    some = torch.utils.data.Subset(digits, range(60))
    whole, first, second = (trainer_of(batch_size=4) for _ in range(3))
    with UpdateRecorder(whole.net, tmp_path / "updates.cbor", bits=8) as recorder:
        whole.fit(some, 2, after_step=recorder.after_step)
    first.fit(some, 1)
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    second.fit(some, 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
    ends, live = replay(tmp_path / "updates.cbor"), IntegerImage.of(whole.net, recorder.base.grids)
    assert all((ends.arrays[name] == integers).all() for name, integers in live.arrays.items())


def test_rewards_are_capped_and_frozen_weights_stay():
    net, batch = NETS["lif"](), batch_of()
    net[3].weight.requires_grad_(False)
    updates, _, watched = learn(net, methods.LFP(OfOneStep(), credit="online", cap_rewards=True), batch)
    expected = unrolled(net, batch, lambda outputs, label: of_one_step(outputs, label).clamp(max=0))
    names = [name for name, _ in net.named_parameters()]
    for name, one, other in zip(names, updates, expected, strict=True):
        if name == "3.weight":
            assert one is None
        else:
            torch.testing.assert_close(one, other.detach(), atol=1e-12, rtol=1e-10)
    assert watched["reward"] == -watched["reward_magnitude"] < 0


@pytest.mark.parametrize(
    ("net", "options", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.LIF(), nn.Flatten(), nn.Linear(2, 3), nn.LIF()), {}, "layer 0 is Conv2d"),
        (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.LIF()), {}, "layer 1 is ReLU"),
        (nn.Sequential(nn.Linear(6, 5), nn.ALIF(), nn.Linear(5, 3), nn.LIF()), {}, "layer 1 is ALIF"),
        (nn.Sequential(nn.Linear(6, 5), nn.LIF(), nn.BatchNorm1d(5), nn.Linear(5, 3)), {}, "layer 2 is BatchNorm1d"),
        (nn.Sequential(nn.Linear(6, 5), nn.LIF(), nn.Dropout(0.5), nn.Linear(5, 3)), {}, "layer 2 is Dropout"),
        (nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3), nn.LIF()), {}, "2 dense layers"),
        (nn.Sequential(nn.Linear(6, 3), nn.RecurrentLIF(nn.Sequential(nn.Linear(3, 3)))), {}, "is Sequential"),
        (nn.Sequential(nn.Linear(6, 3), nn.LIF()).bfloat16(), {}, r"net\.float\(\)"),
        (models.lif_mlp([6, 3]), {"rule": rules.Gamma()}, "without normalisation"),
        (models.lif_mlp([6, 3]), {"rule": rules.Epsilon(normalize="step")}, "without normalisation"),
        (models.lif_mlp([6, 3]), {"reward": rewards.Levenshtein()}, "when a sequence"),
    ],
)
def test_what_cannot_learn_forward_in_time_is_refused(net, options, words):
    given = {"reward": rewards.SpikeSequence()} | options
    with pytest.raises(UserError, match=words) as error:
        methods.LFP(**given, credit="online").suit(net, Classification())
    assert "\n" not in str(error.value)


def test_credit_and_rule_do_not_contradict_each_other():
    assert methods.LFP(OfOneStep(), credit="step").rule.credit == "step"
    assert repr(methods.LFP(OfOneStep())) == "LFP(reward=OfOneStep(), rule=Epsilon(constant_statistics=False))"
    with pytest.raises(UserError, match="exclude each other"):
        methods.LFP(OfOneStep(), rules.Epsilon(credit="step"), credit="online")
    with pytest.raises(UserError, match="online, scan, step"):
        methods.LFP(OfOneStep(), credit="of")
    assert methods.LFP(OfOneStep(), credit="online").runs_network
    assert not methods.LFP(OfOneStep()).runs_network


def test_chunks_and_recomputation_are_refused():
    for options, words in (({"chunk": 2}, "one step at a time"), ({"recompute": 2}, "recompute=2")):
        with pytest.raises(UserError, match=words):
            trainer_of(**options)


def test_the_command_line_knows_it():
    config = RunConfig(model="lif-rnn", method="lfp", credit="online")
    method = config.make_method()
    assert (method.credit, method.rule.credit) == ("online", "scan")
    assert RunConfig(method="lfp", credit="step").make_method().credit is None  # the rule has it
    warmed = RunConfig(method="lfp", credit="online", warm_up_steps=3).resolved(1000).make_method()
    assert warmed.then.credit == "online"


def test_other_tasks_learn():
    torch.manual_seed(0)
    net = models.lif_mlp([6, 8, 3], readout="li", threshold=0.5)
    task, x = MultiLabel(), torch.rand(9, 2, 6)
    batch = Batch(x, torch.tensor([[1, 0, 1], [0, 1, 0]]).bool())
    updates, *_ = learn(net, methods.LFP(task.reward(False), credit="online"), batch, task)
    assert all(update.abs().max() > 0 for update in updates)


def test_nothing_runs_longer_sequences_than_training_does():
    """Waking, evaluation and prediction take memory that does not grow with the steps either, and change no number."""
    torch.manual_seed(0)
    x, y = torch.rand(6, 300, 5).bernoulli(), torch.arange(6) % 2
    net = models.lif_mlp([5, 8, 2])
    trainer = TemporalTrainer(net, method=methods.LFP(rewards.CountSoftmax(), credit="online"))
    samples = data.arrays(x, y, sequences=True)
    trainer.fit(samples, epochs=1)
    seen = []
    for layer in net.modules():
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    found = trainer.predict(samples, scores=True), trainer.evaluate(samples)
    assert 1 < max(seen) <= READ_STEPS < 300
    with torch.no_grad():
        whole = net.eval()(x.transpose(0, 1)).sum(0)
    assert torch.equal(found[0], whole)
    assert found[1].accuracy == pytest.approx(float((whole.argmax(1) == y).double().mean()))


def test_a_hook_on_a_layer_changes_nothing():
    """Layers with a hook run one by one, also over more steps than are computed together."""
    x, y = torch.rand(6, 60, 5).bernoulli(), torch.arange(6) % 2
    weights = []
    for hooked in (False, True):
        torch.manual_seed(0)
        net = models.lif_mlp([5, 8, 2])
        for layer in net.modules() if hooked else ():
            layer.register_forward_hook(lambda layer, inputs, output: None)
        method = methods.LFP(rewards.CountSoftmax(), credit="online")
        TemporalTrainer(net, method=method).fit(data.arrays(x, y, sequences=True), epochs=2)
        weights.append([p.detach().clone() for p in net.parameters()])
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-7)
