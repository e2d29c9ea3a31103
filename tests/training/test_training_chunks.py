"""Long sequences a chunk at a time: what a chunk learns from, what is carried on, what it all adds up to."""

import pytest
import torch
from sequence_data import CLASSES, METHODS, NETS, make, mlp, recordings, recurrent, same_weights

from spikelfp import data, models, nn, rules
from spikelfp.errors import CheckpointError, UserError
from spikelfp.methods import Batch
from spikelfp.nn.layer import check_carries
from spikelfp.nn.recompute import detached_copy
from spikelfp.quantized import Quantization
from spikelfp.training import TemporalTrainer
from spikelfp.training.evaluation import evaluate
from spikelfp.training.parallel import SINGLE_WORKER
from spikelfp.training.update import outputs_in_chunks, predict


def kind_of(method):
    return torch.float32 if method == "surrogate" else torch.float64


def detached(state):
    if isinstance(state, tuple):
        return tuple(detached(part) for part in state)
    return None if state is None else state.detach()


def alone(net, name, x, labels, chunk):
    """The slow way: each sample alone, cut to its length, chunk after chunk, from the state of the one before."""
    method = METHODS[name]
    net.zero_grad()
    right = 0
    for b in range(len(labels)):
        own = x.values[: int(x.lengths[b]), b : b + 1] if x.lengths is not None else x.values[:, b : b + 1]
        state, total = None, torch.zeros(1, CLASSES)
        for piece in own.split(chunk):
            with rules.using(net, method.rule):
                outputs, state = net.run(piece, detached(state))
            # a loss is a mean over steps, and weighs a chunk by its steps; LFP adds up the rewards of all steps
            weight = len(piece) / len(own) if name == "surrogate" else 1.0
            method.backward(outputs, labels[b : b + 1], weight / len(labels))
            total = total + outputs.detach().sum(0)
        right += int(total.argmax(-1) == labels[b])
    return [p.grad.clone() for p in net.parameters()], right


def assert_grads(found, expected):
    assert any(grad.any() for grad in expected)
    for a, b in zip(found, expected, strict=True):
        tolerance = 1e-9 if a.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


@pytest.mark.parametrize(("chunk", "unequal"), [(1, True), (6, True), (7, False), (20, True)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", NETS)
def test_updates_are_those_of_the_chunks_of_every_sample(net, method, chunk, unequal):
    build, shape = NETS[net]
    dtype = kind_of(method)
    x, labels = recordings(10, shape=shape, unequal=unequal, dtype=dtype).__getitems__(range(10))
    slow = make(build, dtype)
    expected, right = alone(slow.net, method, x, labels, chunk)
    fast = make(build, dtype, method=METHODS[method], chunk=chunk)
    seen = fast.train_step(x, labels)
    assert_grads([p.grad for p in fast.net.parameters()], expected)
    assert int(seen.correct) == right


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unequal", [True, False])
def test_one_chunk_is_a_plain_step(method, unequal):
    x, labels = recordings(16, unequal=unequal).__getitems__(range(16))
    plain, chunked = make(recurrent, method=METHODS[method]), make(recurrent, method=METHODS[method], chunk=20)
    one, other = plain.train_step(x, labels), chunked.train_step(x, labels)
    assert same_weights(plain, chunked)
    assert int(one.correct) == int(other.correct)
    assert {n: float(v) for n, v in one.watched.items()} == {n: float(v) for n, v in other.watched.items()}


@pytest.mark.parametrize("unequal", [True, False])
def test_a_loss_of_chunks_is_that_of_the_whole(unequal):
    """The forward pass is the same, so the loss and the accuracy are; only credit ends at the borders."""
    x, labels = recordings(16, unequal=unequal).__getitems__(range(16))
    method = METHODS["surrogate"]
    plain, chunked = make(recurrent, method=method), make(recurrent, method=method, chunk=6)
    one, other = plain.train_step(x, labels), chunked.train_step(x, labels)
    assert float(other.watched["loss"]) == pytest.approx(float(one.watched["loss"]), rel=1e-5)
    assert int(one.correct) == int(other.correct)
    assert not torch.allclose(plain.net[0].weight.grad, chunked.net[0].weight.grad, rtol=1e-2)


def test_a_readout_of_the_last_steps_trains_those_alone():
    """Chunks before the readout run without a graph, and leave a state."""
    x, labels = recordings(10, unequal=False, dtype=torch.float64).__getitems__(range(10))
    trainer = make(recurrent, torch.float64, chunk=5, readout_steps=4)
    trainer.train_step(x, labels)
    slow = make(recurrent, torch.float64).net
    _, state = slow.run(x.values[:15])
    outputs, _ = slow.run(x.values[15:], detached(state))
    mask = torch.arange(5).unsqueeze(1).expand(5, 10) >= 1
    METHODS["lfp"].backward(outputs, labels, mask=mask)
    assert_grads([p.grad for p in trainer.net.parameters()], [p.grad for p in slow.parameters()])


@pytest.mark.parametrize("method", ["lfp", "surrogate"])
@pytest.mark.parametrize("accumulate", [2, 3, 40])
def test_parts_of_a_batch_add_up(method, accumulate):
    dtype = kind_of(method)
    x, labels = recordings(14, dtype=dtype).__getitems__(range(14))
    whole = make(dtype=dtype, method=METHODS[method], chunk=6)
    parts = make(dtype=dtype, method=METHODS[method], chunk=6, accumulate=accumulate)
    seen, seen_in_parts = whole.train_step(x, labels), parts.train_step(x, labels)
    assert_grads([p.grad for p in parts.net.parameters()], [p.grad for p in whole.net.parameters()])
    assert int(seen.correct) == int(seen_in_parts.correct)
    for name, value in seen.watched.items():
        assert float(seen_in_parts.watched[name]) == pytest.approx(float(value), rel=1e-5)


def exact(net):
    """Weights on a grid so coarse that every sum is exact, in whatever order."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 64).round() / 64)
    return net


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("chunk", [1, 6, 19, 20, 50])
def test_evaluation_sees_the_spikes_of_the_whole_sequence(net, chunk):
    build, shape = NETS[net]
    dataset = recordings(30, shape=shape)
    trainer, chunked = make(lambda: exact(build())), make(lambda: exact(build()), chunk=chunk)
    assert same_weights(trainer, chunked)
    x, labels = dataset.__getitems__(range(30))
    with torch.no_grad():
        pieces = list(outputs_in_chunks(chunked.net, Batch(x.values, labels, x.mask), chunk))
        outputs = torch.cat([piece for piece, _ in pieces])
        assert torch.equal(outputs, trainer.net(x.values))
        assert torch.equal(torch.cat([mask for _, mask in pieces]), x.mask)
        assert outputs.any()
    assert max(len(piece) for piece, _ in pieces) <= chunk
    whole = trainer.evaluate(dataset)
    found = chunked.evaluate(dataset)
    assert found.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert (found.loss, found.mean_output) == pytest.approx((whole.loss, whole.mean_output), rel=1e-6)
    assert found.accuracy == whole.accuracy
    shared = evaluate(
        chunked.net,
        [(x, labels)],
        chunked.batch,
        seed=0,
        device=torch.device("cpu"),
        world=SINGLE_WORKER,
        task=trainer.task,
        chunk=chunk,
    )
    assert shared.accuracy == float((predict(outputs, x.mask) == labels).double().mean())


def test_static_samples_train_in_chunks_too():
    splits = data.load("digits")
    trainer = TemporalTrainer(models.lif_mlp([64, 32, 10]), steps=12, chunk=5, device="cpu", lr=1e-2)
    trainer.fit(splits.train, 8)
    assert trainer.evaluate(splits.test).accuracy > 0.8


@pytest.mark.parametrize("method", ["lfp", "surrogate"])
def test_networks_learn_in_chunks(method):
    trainer = make(method=METHODS[method], chunk=6)
    trainer.fit(recordings(96), 20)
    assert trainer.evaluate(recordings(96)).accuracy > 0.7


def test_weights_on_a_grid_train_in_chunks():
    trainer = make(chunk=6, quantization=Quantization(4))
    trainer.fit(recordings(96), 20)
    weights = trainer.net[1].grid.to_integers(trainer.net[1].weight)
    assert len(weights.unique()) <= 16
    assert trainer.evaluate(recordings(96)).accuracy > 0.6


def test_resuming_is_bit_for_bit_the_same(tmp_path):
    whole = make(recurrent, chunk=6)
    rows = whole.fit(recordings(), 2)
    stopping = make(recurrent, chunk=6)
    stopping.should_stop = lambda: stopping.position.step >= 4
    stopping.fit(recordings(), 2)
    stopping.save(tmp_path / "c.pt")
    resumed = make(recurrent, chunk=6)
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(recordings(), 2) == rows
    assert same_weights(whole, resumed)
    with pytest.raises(CheckpointError, match="chunk 6, this trainer has 7"):
        make(recurrent, chunk=7).load(tmp_path / "c.pt")


def held(steps, chunk):
    """Most bytes that autograd keeps at a time for a step of training."""
    trainer = make(chunk=chunk)
    x, labels = recordings(16, steps=steps, unequal=False).__getitems__(range(16))
    now = most = 0

    class Kept:
        def __init__(self, tensor):
            nonlocal now, most
            self.tensor, self.bytes = tensor, tensor.nbytes
            now += self.bytes
            most = max(most, now)

        def __del__(self):
            nonlocal now
            now -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        trainer.train_step(x, labels)
    return most


def test_memory_is_that_of_one_chunk():
    assert held(200, 10) == held(20, 10)
    assert held(200, None) > 8 * held(200, 10)


def test_silent_layers_are_woken_with_as_many_steps_as_a_chunk_has(monkeypatch):
    seen = []
    monkeypatch.setattr("spikelfp.training.trainer.wake_silent_layers", lambda net, x, mask: seen.append(x) or {})
    make(chunk=5, wake=True).fit(recordings(unequal=False), 1)
    assert seen[0].shape == (20, 4, 12)  # 16 samples of 5 steps together


def test_a_state_keeps_no_sequence():
    spikes = torch.rand(50, 3, requires_grad=True) * 2
    state = detached_copy((spikes[-1], None, (spikes[0],)))
    assert state[1] is None
    assert torch.equal(state[0], spikes[-1])
    assert all(t.untyped_storage().nbytes() == t.nbytes and not t.requires_grad for t in (state[0], state[2][0]))


class Forgets(nn.Layer):
    """Has neurons inside and no ``run``."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 4), nn.LIF())

    def forward(self, x):
        return self.inner(x)


class Remembers(Forgets):
    def run(self, x, state=None):
        return self.inner.run(x, state)


class Memoryless(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 4), nn.ReLU())

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("net", "options", "named"),
    [
        (mlp, {"chunk": 0}, r"chunk must be at least 1 \(or left out\), got 0"),
        (mlp, {"readout_steps": 0}, r"readout_steps must be at least 1 \(or left out\), got 0"),
        (mlp, {"chunk": 4, "recompute": 3}, "chunk=4 and recompute=3 exclude each other"),
        (lambda: torch.nn.Sequential(nn.Linear(12, 4), nn.LIF()), {"chunk": 4}, "only layers of this package carry"),
        (lambda: nn.Sequential(Forgets()), {"chunk": 4}, r"layer 0 \(Forgets\) has a LIF inside"),
        (
            lambda: nn.Sequential(torch.nn.Sequential(nn.Linear(12, 4), nn.LIF())),
            {"chunk": 4},
            r"layer 0 \(Sequential\) has a LIF inside",
        ),
    ],
)
def test_what_cannot_be_done_in_chunks_is_refused_in_one_line(net, options, named):
    with pytest.raises(UserError, match=named) as caught:
        make(net, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_what_carries_its_state_is_taken():
    for net in (recurrent(), nn.Sequential(Remembers()), nn.Sequential(Memoryless(), nn.LIF()), models.lif_mlp([3, 2])):
        check_carries(net)
    for name in ("lif-vgg-like", "lif-resnet18", "lif-vit", "lif-lenet"):
        check_carries(models.build(models.ModelSpec(name, (3, 32, 32), 10, width=12)))


def test_dropout_is_off_in_evaluation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), nn.LIF(threshold=0.3), nn.Dropout(0.5), nn.Linear(8, CLASSES), nn.LIF())
    trainer = TemporalTrainer(net, chunk=6, device="cpu", batch_size=16)
    trainer.fit(recordings(), 1)
    x, labels = recordings().__getitems__(range(48))
    outputs = net.eval()(x.values)
    expected = float((predict(outputs, x.mask) == labels).double().mean())
    assert trainer.evaluate(recordings()).accuracy == pytest.approx(expected)
