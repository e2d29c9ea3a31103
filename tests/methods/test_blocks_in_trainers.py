"""F³, DFA, DRTP and LLO in the trainers: resume, parts of data and of batches, workers, grids, update streams."""

import copy

import pytest
import torch

import spikelfp
from spikelfp import TemporalTrainer, Trainer, data, methods, models, nn, tasks
from spikelfp.methods.blocks import cut

BLOCKS = ["f3", "dfa", "drtp", "llo"]
NETS = ["mlp", "lif-mlp"]


def arrays(count=23, features=6, classes=3, seed=0):
    """Samples whose number is not a multiple of the size of a batch."""
    generator = torch.Generator().manual_seed(seed)
    return data.arrays(torch.rand(count, features, generator=generator), torch.arange(count) % classes)


def network(kind):
    torch.manual_seed(1)
    if kind == "mlp":
        return models.mlp([6, 8, 7, 3], activation="tanh")
    return models.lif_mlp([6, 8, 7, 3], threshold=0.3, beta=0.8, readout="li" if kind == "lif-li" else "lif")


def trainer(method, kind="mlp", **options):
    steps = {"steps": 5} if kind != "mlp" else {"steps": 1}
    net = network(kind).to(options.pop("dtype", torch.float32))
    return TemporalTrainer(net, method=method, batch_size=5, **{"lr": 0.02, **steps, **options})


def state(made):
    """All that training has changed: weights, feedback weights, the table."""
    found = {name: p.detach().clone() for name, p in made.net.state_dict().items()}
    for number, part in enumerate(made.method.parts()):
        kept = part.state_dict()
        for name, own in {**kept.get("weights", {}), **kept.get("table", {})}.items():
            found[f"{number} {name}"] = own.clone()
    return found


def same(one, other):
    assert one.keys() == other.keys()
    for name, own in one.items():
        assert torch.equal(own, other[name]), name


def close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, own in one.items():
        torch.testing.assert_close(other[name], own, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("method", BLOCKS)
def test_training_goes_on_in_the_middle_of_an_epoch_bit_for_bit(tmp_path, method, kind):
    whole = trainer(method, kind)
    rows = whole.fit(arrays(), 3)
    stopped = trainer(method, kind)
    stopped.should_stop = lambda: stopped.position.step >= 7  # of 5 an epoch
    stopped.fit(arrays(), 3)
    stopped.save(tmp_path / "c.pt")
    resumed = trainer(method, kind, seed=stopped.seed)
    resumed.load(tmp_path / "c.pt")
    assert resumed.position.batch == 2
    assert resumed.fit(arrays(), 3) == rows
    same(state(whole), state(resumed))
    assert any(key.startswith("0 ") for key in state(whole)) is (method != "llo")


def test_equal_seeds_make_equal_runs_and_feedback_and_others_do_not():
    first, second, other = (trainer("f3", "lif-mlp", seed=seed) for seed in (3, 3, 4))
    for each in (first, second, other):
        torch.rand(each.seed)  # other uses of random numbers do not count
        each.fit(arrays(), 2)
    same(state(first), state(second))
    assert not torch.equal(first.method.weights["2"], other.method.weights["2"])


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("method", ["f3", "dfa", "drtp"])
def test_parts_of_a_batch_add_up(method, kind):
    whole, made = (trainer(method, kind, optimizer="sgd", accumulate=parts, dtype=torch.float64) for parts in (1, 3))
    for each in (whole, made):
        each.fit(arrays(), 2)
    close(state(whole), state(made), rtol=1e-5, atol=1e-7)


def test_errors_belong_to_samples_of_the_original_set():
    """A validation split leaves holes in the table, and every error is that of the outputs for its own sample."""
    splits = data.load("digits").with_validation(0.3, 0)
    part = splits.train.subset(torch.arange(40))
    made = Trainer(models.mlp([64, 12, 10]), method=methods.F3(), task=tasks.Classification("bce"), batch_size=8,
                   schedule=None)  # fmt: skip
    made.fit(part, 1)
    numbers = part.numbers_at(torch.arange(40))
    table = made.method.table
    assert table.seen.nonzero().flatten().tolist() == sorted(numbers.tolist())
    assert numbers.max() > 40
    # one more batch of samples by their numbers, from weights that are known
    made.should_stop = lambda: True
    before = copy.deepcopy(made.net)
    made.fit(part, 2)
    assert made.position.step == 6
    x, y = part.__getitems__(range(40))
    errors = torch.eye(10)[y] - before(x.unsqueeze(0))[0].sigmoid()
    hits = [n for n in range(40) if torch.allclose(table.errors[numbers[n]], errors[n].detach(), atol=1e-6)]
    assert len(hits) == 8  # the samples of that batch, and no others


@pytest.mark.parametrize("kind", NETS)
def test_augmented_samples_keep_their_errors(kind):
    digits = data.load("digits").train.subset(torch.arange(60))
    net = models.mlp([64, 12, 10]) if kind == "mlp" else models.lif_mlp([64, 12, 10], threshold=0.3)
    made = TemporalTrainer(net, method="f3", steps=1 if kind == "mlp" else 4, batch_size=16)
    made.fit(data.Augmented(digits), 2)
    table = made.method.table
    assert table.seen.all()
    assert len(table) == 60
    assert table.targets.unique().numel() == 10
    for own in range(10):
        assert table.targets[digits.labels == own].unique().numel() == 1


@pytest.mark.parametrize("method", ["f3", "drtp"])
def test_hidden_layers_learn_in_chunks_as_at_once_by_credit_of_single_steps(method):
    """Nothing passes from step to step, and every step gets the same feedback, which is known before."""
    kind = methods.methods[method]
    whole, chunked = (
        trainer(kind(credit="step"), "lif-mlp", optimizer="sgd", schedule=None, steps=6, dtype=torch.float64, **own)
        for own in ({}, {"chunk": 2})
    )
    before = state(whole)
    for each in (whole, chunked):
        each.fit(arrays(), 1)
    hidden = [name for name in before if name.startswith(("1.", "3."))]
    assert all(not torch.equal(before[name], state(whole)[name]) for name in hidden)
    close({n: state(whole)[n] for n in hidden}, {n: state(chunked)[n] for n in hidden}, rtol=1e-6, atol=1e-9)


def sequences(targets, lengths):
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(3, 8, (9,), generator=generator) if lengths else None
    x = torch.rand(9, 7, 6, generator=generator)
    y = torch.rand(9, 3, generator=generator) if targets == "values" else torch.arange(9) % 3
    return data.arrays(x, y, sequences=True, lengths=own)


@pytest.mark.parametrize("lengths", [False, True])
def test_chunks_do_not_change_the_error_of_a_mean_over_steps(lengths):
    tables = []
    for chunk in (None, 2, 3):
        made = trainer("f3", "lif-li", task="regression", steps=None, chunk=chunk, lr=1e-9)
        made.fit(sequences("values", lengths), 1)
        tables.append(made.method.table.errors.clone())
    for table in tables[1:]:
        torch.testing.assert_close(table, tables[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [False, True])
def test_the_error_of_spikes_in_chunks_is_the_sum_of_their_shares(lengths):
    """A chunk is rewarded as a sequence of its own, and counts by its steps."""
    train, reward = sequences("classes", lengths), spikelfp.rewards.SpikeSequence()
    made = trainer("f3", "lif-mlp", steps=None, chunk=3, lr=1e-9)
    made.fit(train, 1)
    for number in range(9):
        shown, label = train.__getitems__([number])
        counted = len(shown.values) if shown.lengths is None else int(shown.lengths[0])
        with torch.no_grad():
            outputs = made.net(shown.values[:counted])
        expected = sum(reward(part, label).sum(0) for part in outputs.split(3)) / counted
        torch.testing.assert_close(made.method.table.errors[number], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", BLOCKS)
def test_training_stops_when_validation_gets_no_better(method):
    made = trainer(method)
    rows = made.fit(arrays(), 40, validation=arrays(seed=1), patience=2)
    assert made.stopped_early
    assert 2 < len(rows) < 40


def test_a_warm_up_comes_before_and_its_errors_are_not_known(tmp_path):
    """During the warm-up no error is kept, so F³ begins with the targets; a stop on either side goes on."""

    def made():
        warm = methods.WarmUp(methods.GradientDescent(spikelfp.rules.Surrogate()), methods.F3(), 6)
        return trainer(warm, "lif-mlp")

    whole = made()
    whole.should_stop = lambda: whole.position.step == 6
    whole.fit(arrays(), 3)
    assert len(whole.method.then.table) == 0
    whole.should_stop = lambda: False
    whole.fit(arrays(), 3)
    assert whole.method.then.table.seen.all()
    for after in (3, 9):
        stopped = made()
        stopped.should_stop = lambda stopped=stopped, after=after: stopped.position.step >= after
        stopped.fit(arrays(), 3)
        stopped.save(tmp_path / "c.pt")
        resumed = made()
        resumed.load(tmp_path / "c.pt")
        resumed.fit(arrays(), 3)
        same(state(whole), state(resumed))


@pytest.mark.parametrize("update", ["masters", "stochastic"])
@pytest.mark.parametrize("method", ["f3", "llo"])
def test_quantised_weights_stay_on_their_grids_and_go_on(tmp_path, method, update):
    def made():
        grid = spikelfp.quantized.Quantization(bits=4, update=update)
        return trainer(method, "lif-mlp", quantization=grid)

    whole, stopped, resumed = made(), made(), made()
    rows = whole.fit(arrays(), 2)
    stopped.should_stop = lambda: stopped.position.step >= 3
    stopped.fit(arrays(), 2)
    stopped.save(tmp_path / "c.pt")
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(arrays(), 2) == rows
    same(state(whole), state(resumed))
    before = made()
    moved = [not torch.equal(own, dict(before.net.named_parameters())[n]) for n, own in whole.net.named_parameters()]
    assert any(moved)
    assert all(moved) or method == "llo"


@pytest.mark.parametrize("method", ["f3", "dfa", "drtp"])
@pytest.mark.parametrize("credit", ["scan", "step", "gradient"])
def test_regression_learns(method, credit):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 4, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 1.5]) + 1
    torch.manual_seed(0)
    net = (
        models.mlp([4, 16, 1], activation="tanh")
        if credit == "gradient"
        else models.lif_mlp([4, 16, 1], readout="li", threshold=0.3)
    )
    made = TemporalTrainer(
        net, method=methods.methods[method](credit=credit), task="regression", steps=1 if credit == "gradient" else 5,
        batch_size=10, lr=0.02, schedule=None,
    )  # fmt: skip
    rows = made.fit(data.arrays(x, y), 12)
    assert rows[-1]["train_rmse"] < (1 if method == "drtp" else 0.8) * rows[0]["train_rmse"]
    if method == "f3":
        expected = made.task.expected(y.unsqueeze(1), torch.zeros(1, 60, 1))
        assert made.method.table.errors.abs().mean() < expected.abs().mean()


@pytest.mark.parametrize("kind", NETS)
def test_sets_of_labels(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, 6, generator=generator)
    y = (x[:, :3] > 0.5).float()
    net = network("mlp") if kind == "mlp" else models.lif_mlp([6, 8, 7, 3], readout="li")
    made = TemporalTrainer(net, method="f3", task="multi-label", steps=1 if kind == "mlp" else 4, batch_size=10)
    made.fit(data.arrays(x, y), 2)
    assert made.method.table.seen.sum() == 30
    errors = made.method.table.errors
    assert (errors[y == 1] >= 0).all()  # y* − ŷ of probabilities
    assert (errors[y == 0] <= 0).all()


def test_sparse_events_train_as_dense_ones():
    generator = torch.Generator().manual_seed(0)
    frames = (torch.rand(10, 6, 6, generator=generator) < 0.3).float()
    labels = torch.arange(10) % 3
    found = []
    for sparse in (False, True):
        made = trainer(methods.F3(), "lif-mlp", steps=None, optimizer="sgd")
        for _epoch in range(2):
            for part in (torch.arange(5), torch.arange(5, 10)):
                values = frames[part].transpose(0, 1)
                shown = data.Sequences(values.to_sparse().coalesce() if sparse else values)
                made.train_step(shown, labels[part], indices=part)
        found.append(state(made))
    close(*found, rtol=1e-5, atol=1e-6)
    assert found[0]["0 seen"].all()


@pytest.mark.parametrize("memory", ["class", "hash"])
def test_averages_of_errors_from_a_loader(memory):
    """By hand: the mean of the new errors of a key enters at the rate, and the first one as a whole."""
    x, y = arrays().__getitems__(range(23))
    made = trainer(methods.F3(error_memory=memory, error_rate=0.25), schedule=None, optimizer="sgd")
    expected = {}
    batches = [torch.arange(start, min(start + 5, 23)) for start in range(0, 23, 5)]
    for _ in range(2):
        for batch in batches:
            before = copy.deepcopy(made.net)
            made.train_step(x[batch], y[batch])
            with torch.no_grad():
                errors = torch.eye(3)[y[batch]] - before(x[batch].unsqueeze(0))[0].softmax(-1)
            keys = y[batch].tolist() if memory == "class" else batch.tolist()
            for key in set(keys):
                new = torch.stack([e for e, k in zip(errors, keys, strict=True) if k == key]).mean(0)
                expected[key] = new if key not in expected else expected[key] + 0.25 * (new - expected[key])
    table = made.method.table
    rows = torch.arange(3) if memory == "class" else table._hashed(x.unsqueeze(0))
    torch.testing.assert_close(table.errors[rows], torch.stack([expected[k] for k in sorted(expected)]))
    assert table.seen.sum() == len(expected)
    loader = torch.utils.data.DataLoader(list(zip(x, y, strict=True)), batch_size=5)
    again = trainer(methods.F3(error_memory=memory, error_rate=0.25), schedule=None, optimizer="sgd")
    again.fit(loader, 2)
    torch.testing.assert_close(again.method.table.errors, table.errors)


IMAGES = {
    "conv": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.LIF(threshold=0.3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 10), nn.LIF()
    ),
    "lif-rnn": lambda: models.build(models.ModelSpec("lif-rnn", (1, 8, 8), 10, {"hidden": (12,)})),
    "resnet18": lambda: models.build(models.ModelSpec("resnet18", (1, 8, 8), 10, {"width": 4})),
    "vit": lambda: models.build(models.ModelSpec("vit", (1, 8, 8), 10, {"width": 12, "depth": 2})),
    "lif-vit": lambda: models.build(models.ModelSpec("lif-vit", (1, 8, 8), 10, {"width": 12, "depth": 1})),
}


@pytest.mark.parametrize(("method", "kind"), [("dfa", "conv"), *(("f3", kind) for kind in IMAGES)])
def test_other_networks_train_block_by_block(kind, method):
    digits = data.load("digits").train.subset(torch.arange(24))
    torch.manual_seed(0)
    net = IMAGES[kind]()
    made = TemporalTrainer(net, method=method, steps=4 if "lif" in kind or kind == "conv" else 1, batch_size=12)
    before = copy.deepcopy(net.state_dict())
    made.fit(digits, 2)
    segments = cut(net)
    assert set(made.method.weights) == {segment.name for segment in segments[:-1]}
    for segment in segments:
        own = {id(p) for p in segment.parameters()}
        moved = [not torch.equal(p, before[name]) for name, p in net.named_parameters() if id(p) in own]
        assert any(moved), segment.name
    assert made.evaluate(digits).accuracy is not None
