"""PEPITA against its equations written out, sample by sample."""

import itertools
import warnings

import pytest
import torch
from torch import nn as tnn

import spikelfp
from spikelfp import TemporalTrainer, Trainer, data, methods, models, nn, quantized, tasks
from spikelfp.errors import CheckpointError, LearningWarning, UserError
from spikelfp.methods import Batch


def samples(count=12, features=5, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, features, generator=generator).double()  # data sets are float32
    return x, torch.arange(count) % classes


def network(activation="tanh"):
    torch.manual_seed(1)
    return models.mlp([5, 7, 6, 3], activation=activation).double()


def order(trainer, dataset, epochs):
    """Batches of sample numbers, in the order that the trainer goes through them."""
    source = spikelfp.training.sources.FromDataset(dataset, trainer.batch_size, trainer.seed, 0)
    epochs = [source.epoch(spikelfp.training.update.Position(epoch), trainer.world) for epoch in range(epochs)]
    return [batch.indices.tolist() for batch in itertools.chain(*epochs)]


def updates(weights, biases, activation, x, error, projection):
    """``ΔW`` and ``Δb`` of one sample: two passes of a network of dense layers, and the equations."""

    def passed(inputs):
        before = []
        for number, (w, b) in enumerate(zip(weights, biases, strict=True)):
            before.append(inputs)
            inputs = w @ inputs + b
            if number < len(weights) - 1:
                inputs = activation(inputs)
        return before, inputs

    first, outputs = passed(x)
    e = error(outputs)
    second, _ = passed(x + e @ projection)
    changes = [one - other for one, other in zip(first[1:], second[1:], strict=True)] + [e]
    return [torch.outer(change, inputs) for change, inputs in zip(changes, second, strict=True)], changes


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("activation", ["tanh", "heaviside"])
@pytest.mark.parametrize("loss", ["bce", "rate"])
def test_training_is_the_equations(loss, activation, batch_size):
    x, y = samples()
    net = network("tanh")
    if activation == "heaviside":
        net[2], net[4] = nn.Heaviside(), nn.Heaviside()
    layers = [layer for layer in net if isinstance(layer, tnn.Linear)]
    weights = [layer.weight.detach().clone() for layer in layers]
    biases = [layer.bias.detach().clone() for layer in layers]
    method, dataset = methods.PEPITA(strength=2), data.arrays(x, y)
    trainer = quiet(net, method=method, task=tasks.Classification(loss), lr=0.3, batch_size=batch_size)
    trainer.fit(dataset, 3)
    phi = torch.tanh if activation == "tanh" else lambda z: (z > 0).double()
    link = torch.sigmoid if loss == "bce" else lambda z: z.softmax(-1)
    for batch in order(trainer, dataset, 3):
        found = [
            updates(weights, biases, phi, x[n], lambda o, n=n: link(o) - torch.eye(3)[y[n]], method.projection)
            for n in batch
        ]
        for number in range(len(weights)):
            weights[number] = weights[number] - 0.3 * sum(w[number] for w, _ in found) / len(batch)
            biases[number] = biases[number] - 0.3 * sum(b[number] for _, b in found) / len(batch)
    for layer, w, b in zip(layers, weights, biases, strict=True):
        assert not torch.equal(w, torch.zeros_like(w))
        torch.testing.assert_close(layer.weight, w, atol=1e-12, rtol=1e-10)
        torch.testing.assert_close(layer.bias, b, atol=1e-12, rtol=1e-10)
    assert method.projection.dtype == torch.float64
    assert method.projection.abs().max() <= 2 * (6 / 5) ** 0.5


def quiet(net, kind=Trainer, **options):
    """A trainer that takes plain steps, and does not say that Heaviside has no derivative."""
    options = {"optimizer": torch.optim.SGD, "lr": 0.1, "schedule": None, "device": "cpu", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LearningWarning)
        return kind(net, **options)


def taught(method, net, batch, task=None, chunk=None, parts=1):
    """Gradients and watched values of one batch."""
    trainer = quiet(net, TemporalTrainer, method=method, task=task or tasks.Classification("bce"), steps=2, chunk=chunk)
    net.zero_grad()
    trainer._prepare_method()
    seen = spikelfp.training.update.fill_gradients(
        net, trainer.runs(), method, batch, of=len(batch.targets), parts=parts, world=trainer.world, chunk=chunk,
        task=trainer.task,
    )  # fmt: skip
    return [p.grad.clone() for p in net.parameters()], seen


def mean_over_steps(net, method, batch, error, count):
    """Gradients by the equations, as a mean over the steps of each sample that ``count``, then over the samples."""
    layers = [layer for layer in net if isinstance(layer, tnn.Linear)]
    weights, biases = [layer.weight.detach() for layer in layers], [layer.bias.detach() for layer in layers]
    found = [torch.zeros_like(p) for p in net.parameters()]
    for n, t in itertools.product(range(len(batch.targets)), range(len(batch.sequence))):
        if not count[t, n]:
            continue
        w, b = updates(weights, biases, torch.tanh, batch.sequence[t, n], lambda _, n=n: error[n], method.projection)
        share = 1 / int(count[:, n].sum()) / len(batch.targets)
        for each, own in zip(found, itertools.chain(*zip(w, b, strict=True)), strict=True):
            each += share * own
    return found


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_steps_that_count_share_the_update(masked, chunk):
    """Also a chunk at a time, whose error is that of its own steps."""
    net, method = network(), methods.PEPITA(strength=3)
    x = torch.randn(5, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    count = torch.arange(5).unsqueeze(1) < torch.tensor([5, 2, 3]) if masked else torch.ones(5, 3, dtype=torch.bool)
    batch = Batch(x, torch.tensor([0, 2, 1]), count if masked else None)
    grads, seen = taught(method, net, batch, chunk=chunk)
    expected = [torch.zeros_like(p) for p in net.parameters()]
    target = torch.eye(3, dtype=torch.float64)[batch.targets]
    outputs, whole = torch.sigmoid(net(x)).detach(), count.sum(0)
    for start in range(0, 5, chunk or 5):
        own = count[start : start + (chunk or 5)]
        here = Batch(x[start : start + len(own)], batch.targets)
        read = (outputs[start : start + len(own)] * own.unsqueeze(-1)).sum(0) / own.sum(0).clamp(min=1).unsqueeze(-1)
        for n in range(3):  # one sample after the other: each has its own share of steps here
            one = Batch(here.sequence[:, n : n + 1], here.targets[n : n + 1])
            found = mean_over_steps(net, method, one, (read - target)[n : n + 1], own[:, n : n + 1])
            for each, more in zip(expected, found, strict=True):
                each += more * int(own[:, n].sum()) / int(whole[n]) / 3
    for grad, own in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, own, atol=1e-12, rtol=1e-9)
    loss = -(target * outputs.log() + (1 - target) * (1 - outputs).log()).mean(-1)
    assert float(seen.watched["loss"]) == pytest.approx(float(((loss * count).sum(0) / whole).mean()))


TASKS = {
    "count": (tasks.Classification("count"), torch.tensor([0, 2, 1]), lambda o: o.sum(0).softmax(-1)),
    "regression": (tasks.Regression(), torch.tensor([[0.2, 1, -3]] * 3), lambda o: o.mean(0)),
    "last": (tasks.Regression(readout="last"), torch.tensor([[0.2, 1, -3]] * 3), lambda o: o[-1]),
    "labels": (tasks.MultiLabel(), torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]]), lambda o: o.mean(0).sigmoid()),
}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_has_its_error(name):
    task, targets, predicted = TASKS[name]
    net, method = network(), methods.PEPITA(strength=3)
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    count = torch.ones(4, 3, dtype=torch.bool)
    if name == "last":
        count[:3] = False
    mask = task.counting(None, 4, 3, x.device)
    batch = Batch(x, targets, mask)
    grads, _ = taught(method, net, batch, task)
    expected = torch.eye(3)[targets] if name == "count" else targets
    found = mean_over_steps(net, method, batch, predicted(net(x)).detach() - expected.double(), count)
    for grad, own in zip(grads, found, strict=True):
        torch.testing.assert_close(grad, own, atol=1e-12, rtol=1e-9)


def test_convolutions_add_up_their_positions():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(3, 2)
    ).double()
    x, method = torch.randn(1, 2, 1, 6, 6, dtype=torch.float64), methods.PEPITA(strength=5)
    grads, _ = taught(method, net, Batch(x, torch.tensor([1, 0])))
    expected = [torch.zeros_like(p) for p in net.parameters()]
    for n in range(2):

        def passed(images):
            h1 = torch.relu(torch.conv2d(images, net[0].weight, net[0].bias))
            pooled = torch.max_pool2d(h1, 2)
            h2 = torch.tanh(torch.conv2d(pooled, net[3].weight, net[3].bias))
            return h1[0], pooled[0], h2[0], h2.flatten() @ net[6].weight.T + net[6].bias

        image = x[0, n]
        h1, _, h2, outputs = passed(image.unsqueeze(0))
        e = torch.sigmoid(outputs) - torch.eye(2)[1 - n]
        changed = image + (e @ method.projection).view(1, 6, 6)
        g1, pooled, g2, _ = passed(changed.unsqueeze(0))
        for row, column in itertools.product(range(4), range(4)):
            d = (h1 - g1)[:, row, column]
            expected[0] += torch.einsum("o,ihw->oihw", d, changed[:, row : row + 3, column : column + 3]) / 2
            expected[1] += d / 2
        d = (h2 - g2)[:, 0, 0]
        expected[2] += torch.einsum("o,ihw->oihw", d, pooled) / 2
        expected[3] += d / 2
        expected[4] += torch.outer(e, g2.flatten()) / 2
        expected[5] += e / 2
    for grad, own in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, own.detach(), atol=1e-12, rtol=1e-9)


def test_both_passes_see_the_same_dropout_and_noise():
    """With a projection of nearly 0, hidden layers learn nothing: all else in the two passes is equal."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Dropout(0.5), nn.Linear(5, 20), nn.Noise(1.0), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3)
    ).double()
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    states = [torch.get_rng_state()]
    for _ in range(2):
        grads, _ = taught(methods.PEPITA(strength=1e-9), net, Batch(x, torch.tensor([0, 1, 2, 0])))
        assert grads[0].abs().max() < 1e-6
        assert grads[2].abs().max() > 1e-3
        states.append(torch.get_rng_state())
    assert not torch.equal(states[1], states[2])  # the next batch has others


def test_parts_chunks_constant_and_sparse_inputs_give_one_update():
    x = torch.randn(1, 4, 5, dtype=torch.float64).relu()
    y = torch.tensor([0, 1, 2, 0])
    net, method = network(), methods.PEPITA(strength=3)
    whole, seen = taught(method, net, Batch(x.expand(4, 4, 5), y))
    for sequence, options in [
        (x.expand(4, 4, 5), {"parts": 3}), (x.expand(4, 4, 5), {"chunk": 2}), (x.repeat(4, 1, 1), {}),
        (x.repeat(4, 1, 1).to_sparse().coalesce(), {}), (x.expand(4, 4, 5), {"parts": 6, "chunk": 3}),
    ]:  # fmt: skip
        grads, again = taught(method, net, Batch(sequence, y), **options)
        for grad, own in zip(grads, whole, strict=True):
            torch.testing.assert_close(grad, own, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(again.watched["loss"], seen.watched["loss"])


def test_sum_is_the_mean_times_the_samples():
    x, y = samples()
    one, other = network(), network()
    mean, _ = taught(methods.PEPITA(), one, Batch(x.unsqueeze(0), y))
    total, _ = taught(methods.PEPITA(reduction="sum"), other, Batch(x.unsqueeze(0), y))
    for a, b in zip(mean, total, strict=True):
        torch.testing.assert_close(12 * a, b)


def test_frozen_layers_stay_and_the_others_learn():
    x, y = samples()
    net, free = network(), network()
    net[1].requires_grad_(False)
    before = net[1].weight.clone()
    for each in (net, free):
        quiet(each, method="pepita", loss="bce", batch_size=12).fit(data.arrays(x, y), 1)
    assert torch.equal(net[1].weight, before)
    assert torch.equal(net[3].weight, free[3].weight)


def test_weights_of_few_bits_learn():
    x, y = samples()
    net, before = network().float(), network().float()
    trainer = quiet(net, method="pepita", loss="bce", quantization=quantized.Quantization(bits=6))
    trainer.fit(data.arrays(x.float(), y), 3)
    assert not torch.equal(net[1].weight, before[1].weight)
    assert not torch.equal(net[3].weight, before[3].weight)
    grid = net[1].weight.unique()
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert len(grid) > 1


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    x, y = samples()

    def made(net, **options):
        return quiet(net, method="pepita", loss="bce", batch_size=5, **options)

    def build():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 7), nn.Noise(0.1), nn.ReLU(), nn.Dropout(0.2), nn.Linear(7, 3)).double()

    whole, stopped, resumed = build(), build(), build()
    torch.manual_seed(2)
    made(whole).fit(data.arrays(x, y), 4)
    first = made(stopped)
    torch.manual_seed(2)
    first.should_stop = lambda: first.position.step >= 5
    first.fit(data.arrays(x, y), 4)
    first.save(tmp_path / "stopped.pt")
    later = made(resumed)
    later.load(tmp_path / "stopped.pt")
    assert torch.equal(later.method.projection, first.method.projection)
    later.fit(data.arrays(x, y), 4)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    other = made(build(), seed=3)
    other.fit(data.arrays(x, y), 1)
    assert not torch.equal(other.method.projection, first.method.projection)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"projection": torch.zeros(4, 5)}, r"\[4, 5\], and the network has 3 outputs"),
        ({"projection": torch.full((3, 5), torch.nan)}, "finite"),
        ({"projection": torch.zeros(3)}, "no matrix"),
        ({"seed": None}, "missing"),
    ],
)
def test_another_projection_is_refused(tmp_path, state, match):
    x, y = samples()
    trainer = quiet(network(), method="pepita", loss="bce")
    trainer.fit(data.arrays(x, y), 1)
    kept = trainer.method.state_dict()
    with pytest.raises(UserError, match=match):
        trainer.method.load_state_dict({**kept, **state})
    assert torch.equal(trainer.method.projection, kept["projection"])
    trainer.save(tmp_path / "own.pt")
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    content["method_state"] = {**kept, "projection": kept["projection"][:, :4].clone()}
    torch.save(content, tmp_path / "own.pt")
    with pytest.raises(CheckpointError):
        trainer.load(tmp_path / "own.pt")
    fresh = methods.PEPITA()
    fresh.suit(network(), tasks.Classification("bce"))
    fresh.load_state_dict({**kept, "projection": kept["projection"][:, :4].clone()})  # the inputs are not known yet
    with pytest.raises(UserError, match=r"\[3, 4\], and the network has 3 outputs and 5 inputs"):
        fresh.learn(fresh._net, Batch(x.unsqueeze(0), y))


shared = nn.ReLU()


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([nn.Linear(5, 4), nn.LIF(), nn.Linear(4, 3)], "without memory"),
        ([nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.LI()], "without memory"),
        ([nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)], "normalisations"),
        ([nn.Linear(5, 4), tnn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 3)], "normalisations"),
        ([nn.LayerNorm(5), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)], "normalisations"),
        ([nn.Sum(nn.Linear(5, 4), nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 3)], "layers inside"),
        ([nn.Block(nn.Linear(5, 4), nn.ReLU()), nn.Linear(4, 3)], "layers inside"),
        ([nn.Linear(5, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)], "learns in Linear, Linear"),
        ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 3)], "MaxPool2d stands between"),
        ([nn.Linear(5, 4), tnn.Softplus(), nn.Flatten()], "Softplus stands between"),
        ([nn.Linear(5, 4), tnn.PReLU(), nn.ReLU(), nn.Linear(4, 3)], "learns in Linear, PReLU"),
        ([nn.Linear(5, 4), shared, nn.Dropout(), shared, nn.Linear(4, 3)], "runs in two blocks"),
    ],
)
def test_networks_that_it_cannot_train_are_refused(layers, match):
    with pytest.raises(UserError, match=match):
        quiet(nn.Sequential(*layers), method="pepita")


def test_other_choices_are_refused():
    x, y = samples()
    with pytest.raises(UserError, match="recompute"):
        quiet(network().float(), TemporalTrainer, method="pepita", steps=4, recompute=2)
    with pytest.raises(UserError, match="does not tell what its prediction"):
        quiet(network(), method=methods.PEPITA(loss=lambda o, y: o.mean()))
    with pytest.raises(UserError, match="reward"):
        quiet(network(), method="pepita", reward="softmax")
    with pytest.raises(UserError, match="one error of each sample"):
        quiet(network(), method="pepita", task="sequence-labels")
    with pytest.raises(UserError, match="label 5 of sample 0 is outside 0 to 2"):
        quiet(network(), method="pepita").fit(data.arrays(x, y + 5), 1)
    for strength in (0, -1, float("inf"), float("nan"), True, "much"):
        with pytest.raises(UserError, match="strength"):
            methods.PEPITA(strength=strength)


def test_heaviside_learns_above_the_last_layer_alone():
    digits = data.load("digits")
    scores = {}
    for kind in ("llo", "pepita"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.Heaviside(), nn.Linear(30, 10))
        loss = methods.losses["rate"]
        method = methods.LLO(credit="gradient", loss=loss) if kind == "llo" else methods.PEPITA(strength=0.5)
        trainer = quiet(net, method=method, optimizer="adam", lr=3e-3, batch_size=50)
        trainer.fit(digits.train, 4)
        scores[kind] = trainer.evaluate(digits.test).score
    assert scores["pepita"] > scores["llo"] + 0.05
