"""F³ and its family against Algorithm 1 written out, sample by sample."""

import pytest
import torch
from torch import nn as tnn

import spikelfp
from spikelfp import Trainer, data, methods, models, nn
from spikelfp.errors import UserError


def samples(count=12, features=5, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return x, torch.arange(count) % classes


def network(sizes=(5, 7, 6, 3)):
    torch.manual_seed(1)
    return models.mlp(list(sizes), activation="tanh").double()


def order(trainer, dataset, epochs, batch_size):
    """Batches of sample numbers, in the order that the trainer goes through them."""
    return [
        [batch.indices for batch in spikelfp.training.sources.FromDataset(dataset, batch_size, trainer.seed, 0).epoch(
            spikelfp.training.update.Position(epoch), trainer.world)]
        for epoch in range(epochs)
    ]  # fmt: skip


def algorithm_1(net, feedback, x, y, classes, epochs, lr, kind):
    """Algorithm 1 of F³ with SGD, biases and binary cross-entropy, one sample after the other within a batch.

    The update of a batch is the mean over its samples.
    """
    layers = [layer for layer in net if isinstance(layer, tnn.Linear)]
    weights = [layer.weight.detach().clone() for layer in layers]
    biases = [layer.bias.detach().clone() for layer in layers]
    targets = torch.eye(classes, dtype=torch.float64)[y]
    delayed = targets.clone()
    for batches in epochs:
        new = delayed.clone()
        for batch in batches:
            steps_w = [torch.zeros_like(w) for w in weights]
            steps_b = [torch.zeros_like(b) for b in biases]
            for n in batch.tolist():
                hidden, inputs = x[n], []
                outs = []
                for w, b in zip(weights, biases, strict=True):
                    inputs.append(hidden)
                    z = w @ hidden + b
                    hidden = torch.tanh(z)
                    outs.append((z, hidden))
                prediction = torch.sigmoid(outs[-1][0])
                error = {"f3": delayed[n], "drtp": targets[n], "dfa": targets[n] - prediction}[kind]
                for i, (_, h) in enumerate(outs[:-1]):
                    delta = (feedback[i].T @ error) * (1 - h**2)
                    steps_w[i] += torch.outer(delta, inputs[i]) / len(batch)
                    steps_b[i] += delta / len(batch)
                delta = (prediction - targets[n]) / classes  # of the mean over the classes
                steps_w[-1] += torch.outer(delta, inputs[-1]) / len(batch)
                steps_b[-1] += delta / len(batch)
                new[n] = targets[n] - prediction
            for each, step in zip([*weights, *biases], [*steps_w, *steps_b], strict=True):
                each -= lr * step
        delayed = new
    return weights, biases, delayed


@pytest.mark.parametrize("batch_size", [1, 4, 5])
@pytest.mark.parametrize("kind", ["f3", "dfa", "drtp"])
def test_training_is_algorithm_1(kind, batch_size):
    x, y = samples()
    net = network()
    before = network()
    method = methods.methods[kind]()
    dataset = data.arrays(x, y)
    trainer = Trainer(net, method=method, task=spikelfp.tasks.Classification("bce"), optimizer=torch.optim.SGD, lr=0.3,
                      schedule=None, batch_size=batch_size)  # fmt: skip
    trainer.fit(dataset, 3)
    feedback = list(method.weights.values())
    found = order(trainer, dataset, 3, batch_size)
    weights, biases, delayed = algorithm_1(before, feedback, x, y, 3, found, 0.3, kind)
    layers = [layer for layer in net if isinstance(layer, tnn.Linear)]
    for layer, w, b in zip(layers, weights, biases, strict=True):
        torch.testing.assert_close(layer.weight, w, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(layer.bias, b, atol=1e-6, rtol=1e-6)
    if kind == "f3":
        torch.testing.assert_close(method.table.errors, delayed.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("spiking", [False, True])
def test_first_epoch_of_f3_is_drtp_to_the_last_bit(spiking):
    digits = data.load("digits").train
    states = []
    for kind in ("f3", "drtp"):
        torch.manual_seed(0)
        net = models.lif_mlp([64, 20, 10]) if spiking else models.mlp([64, 20, 10], activation="tanh")
        trainer = (spikelfp.TemporalTrainer if spiking else Trainer)(
            net, method=kind, **({"steps": 4} if spiking else {}), batch_size=100
        )
        trainer.fit(digits, 1)
        states.append(list(net.parameters()))
        trainer.fit(digits, 1)
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other)


def test_f3_differs_from_drtp_in_the_second_epoch():
    x, y = samples()
    nets = []
    for kind in ("f3", "drtp"):
        net = network()
        Trainer(net, method=kind, loss="bce", schedule=None).fit(data.arrays(x, y), 2)
        nets.append(net)
    assert not torch.equal(nets[0][1].weight, nets[1][1].weight)


def test_hidden_layers_of_llo_stay():
    x, y = samples()
    net, before = network(), network()
    Trainer(net, method="llo", loss="bce").fit(data.arrays(x, y), 2)
    assert torch.equal(net[1].weight, before[1].weight)
    assert torch.equal(net[3].weight, before[3].weight)
    assert not torch.equal(net[5].weight, before[5].weight)


def test_samples_that_change_identity_are_refused():
    class Changing(torch.utils.data.Dataset):
        calls = 0

        def __len__(self):
            return 6

        def __getitem__(self, index):
            Changing.calls += 1
            return torch.ones(5), torch.tensor((index + Changing.calls // 12) % 3)

    with pytest.raises(UserError, match="had another target"):
        Trainer(network().float(), method="f3", loss="bce", wake=False).fit(Changing(), 6)


def test_a_loader_has_no_numbers():
    x, y = samples()
    loader = torch.utils.data.DataLoader(list(zip(x.float(), y, strict=True)), batch_size=4, shuffle=True)
    with pytest.raises(UserError, match="error_memory"):
        Trainer(network().float(), method="f3", loss="bce").fit(loader, 1)
    for memory in ("class", "hash"):
        method = methods.F3(error_memory=memory)
        Trainer(network().float(), method=method, task=spikelfp.tasks.Classification("bce")).fit(loader, 2)
        assert method.table.seen.sum() == (3 if memory == "class" else 12)


def test_nothing_runs_back_between_blocks():
    """The graph that a hidden block hands over ends at its input."""
    net = network((5, 7, 6, 4, 3)).float()
    segments = methods.blocks.cut(net)
    seen = []

    def teach(segment, hidden):
        leaves, left = set(), [hidden.grad_fn]
        while left:
            node = left.pop()
            leaves |= {node.variable} if hasattr(node, "variable") else set()
            left += [each for each, _ in node.next_functions if each is not None]
        seen.append((segment.name, {id(p) for p in leaves} == {id(p) for p in segment.parameters()}))

    with methods.blocks.cutting(net, segments, teach):
        net(torch.randn(1, 2, 5))
    assert seen == [("2", True), ("4", True), ("6", True)]


@pytest.mark.parametrize("rest", [nn.Flatten(), nn.MaxPool2d(2)])
def test_layers_without_weights_join_a_neighbour(rest):
    first = nn.LIF(), nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.LIF()
    net = nn.Sequential(*first, rest, nn.Conv2d(2, 3, 1), nn.ReLU(), nn.ReLU(), nn.Linear(4, 2), nn.Identity())
    assert [[type(layer).__name__ for layer in each.layers] for each in methods.blocks.cut(net)] == [
        ["LIF", "Conv2d", "MaxPool2d", "LIF"], [type(rest).__name__, "Conv2d", "ReLU", "ReLU"], ["Linear", "Identity"]
    ]  # fmt: skip


def test_a_layer_that_ends_a_block_runs_nowhere_else():
    act = nn.ReLU()
    for net in (
        nn.Sequential(nn.Linear(5, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), act, nn.MaxPool2d(2), act, nn.Linear(4, 2)),
    ):
        with pytest.raises(UserError, match="give each its own layer"):
            methods.blocks.cut(net)


def test_a_loss_by_function_is_descended_and_judged():
    x, y = samples()
    nets = []
    for options in ({"method": methods.F3(loss=methods.losses["bce"])}, {"method": "f3", "loss": "bce"}):
        nets.append(network())
        Trainer(nets[-1], **options, schedule=None).fit(data.arrays(x, y), 2)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)
    task = spikelfp.tasks.Classification("rate")
    odd = methods.F3(loss=methods.losses["bce"])
    odd.suit(network(), task)
    assert odd._task.loss_name == "bce"


def test_the_slope_of_a_loss_of_ones_own_leaves_padding_out():
    def own(outputs, labels, weights=None):
        each = -outputs.log_softmax(-1).gather(-1, labels.expand(len(outputs), -1).unsqueeze(-1)).squeeze(-1)
        return each.mean() if weights is None else (each * weights).sum()

    net = models.mlp([5, 4, 3], activation="tanh").double()
    method = methods.F3(loss=own, error_information="loss")
    method.suit(net, spikelfp.tasks.Classification())
    outputs, y = torch.randn(3, 2, 3, dtype=torch.float64), torch.tensor([0, 2])
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    found = method._slope_of_loss(outputs, methods.Batch(torch.zeros(3, 2, 5), y, mask))
    for sample, steps in ((0, 3), (1, 1)):
        whole = outputs[:steps, [sample]].softmax(-1).mean(0)[0]
        torch.testing.assert_close(found[sample], torch.eye(3, dtype=torch.float64)[y[sample]] - whole)
    chunks = [
        method._slope_of_loss(outputs[a:b], methods.Batch(torch.zeros(b - a, 2, 5), y, mask[a:b], steps=mask.sum(0)))
        for a, b in ((0, 2), (2, 3))
    ]
    torch.testing.assert_close(chunks[0] + chunks[1], found)
