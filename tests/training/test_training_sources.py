"""What a trainer is fed, and what it gives back: data sets, loaders, splits, arrays; predictions; validation."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from spikelfp import data, methods, models, nn, rewards
from spikelfp.errors import CheckpointError, UserError
from spikelfp.tasks import Classification
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.optim import ran_out

SPLITS = data.load("digits")
X, Y = SPLITS.train.values(SPLITS.train.images[:90]).flatten(1), SPLITS.train.labels[:90]
PAIRS = TensorDataset(X, Y)


class Labelled(Dataset):
    """As torchvision has it: labels are plain integers."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], int(Y[index])


def make(hidden=12, **options):
    torch.manual_seed(0)
    return TemporalTrainer(
        models.lif_mlp([64, hidden, 10]), **{"steps": 4, "batch_size": 30, "device": "cpu"} | options
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.parameters(), b.net.parameters(), strict=True))


@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        (X.numpy(), Y.numpy()),
        (X.double(), Y.int()),
        [X, Y],
        (X.tolist(), Y.tolist()),
        data.arrays(X, Y),
        Labelled(),
        Subset(PAIRS, range(90)),
        Subset(data.arrays(torch.cat([X, X]), torch.cat([Y, Y])), range(90)),
        [(x, y) for x, y in zip(X, Y, strict=True)],
        TensorDataset(X, Y.to(torch.uint8)),
    ],
    ids=[
        "tensors", "numpy", "double", "list", "lists", "arrays", "int labels", "subset", "subset of arrays", "samples",
        "uint8 labels",
    ],
)  # fmt: skip
def test_every_form_of_the_same_data_trains_alike(given):
    expected, trainer = make(), make()
    rows = expected.fit(PAIRS, 2)
    assert trainer.fit(given, 2) == rows
    assert same(trainer, expected)
    assert trainer.evaluate(given) == expected.evaluate(PAIRS)
    assert torch.equal(trainer.predict(given), expected.predict(X))


def test_a_loader_is_used_as_it_is():
    loader = DataLoader(PAIRS, batch_size=40, drop_last=True)
    trainer, plain = make(schedule=None, wake=False), make(schedule=None, wake=False)
    trainer.fit(loader, 1)
    for start in (0, 40):
        plain.train_step(X[start : start + 40], Y[start : start + 40])
    assert trainer.position.step == 2
    assert same(trainer, plain)


@pytest.mark.parametrize("generator", [None, 5])
def test_looking_at_the_first_batch_leaves_the_loader_alone(generator):
    seen = []

    class Told(Labelled):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    def order():
        own = None if generator is None else torch.Generator().manual_seed(generator)
        torch.manual_seed(3)
        return DataLoader(Told(), batch_size=45, shuffle=True, generator=own)

    trainer = make()
    loader = order()
    trainer.fit(loader, 1)
    trained = seen[-90:]
    seen.clear()
    list(order())
    assert seen == trained


def test_a_shuffling_loader_resumes_at_the_end_of_an_epoch(tmp_path):
    def loader():
        return DataLoader(PAIRS, batch_size=30, shuffle=True)

    whole, cut, resumed = make(), make(), make()
    torch.manual_seed(1)
    rows = whole.fit(loader(), 2)
    torch.manual_seed(1)
    cut.fit(loader(), 2, after_epoch=lambda row: row["epoch"] == 1 and cut.save(tmp_path / "c.pt"))
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(loader(), 2) == rows
    assert same(whole, resumed)

    cut = make()
    cut.should_stop = lambda: cut.position.step == 3  # after the last batch: the epoch is only to be closed
    cut.fit(loader(), 1)
    cut.should_stop = lambda: False
    assert len(cut.fit(loader(), 1)) == 1
    assert cut.position.step == 3

    cut = make()
    cut.should_stop = lambda: cut.position.step == 2
    cut.fit(loader(), 2)
    with pytest.raises(UserError, match=r"stands after batch 2 of an epoch: go on from a checkpoint of an epoch's end"):
        cut.fit(loader(), 2)


def test_sequences_by_loader_and_by_data_set_train_alike():
    torch.manual_seed(0)
    sequences = data.arrays(
        torch.rand(40, 6, 64), torch.arange(40) % 10, sequences=True, lengths=torch.arange(40) % 6 + 1
    )
    one, other = make(schedule=None), make(schedule=None)
    order = list(data.EpochSampler(40, 30, 0, 0))
    one.fit(sequences, 1)
    other.fit(DataLoader(sequences, batch_sampler=order), 1)
    assert same(one, other)
    assert one.predict(sequences).shape == (40,)
    assert torch.equal(one.predict(sequences), other.predict(DataLoader(sequences, batch_size=7)))


def test_splits_train_validate_and_test():
    small = data.DataSplits(
        "small", SPLITS.train.subset(torch.arange(90)), SPLITS.test, 10, (1, 8, 8), SPLITS.class_names
    )
    trainer = make()
    rows = trainer.fit(small.with_validation(0.2, seed=0), 2)
    assert [0 <= row["validation_accuracy"] <= 1 for row in rows] == [True, True]
    assert trainer.evaluate(small) == trainer.evaluate(SPLITS.test)
    assert "validation_accuracy" not in make().fit(small, 1)[0]


def test_validation_is_measured_and_changes_nothing():
    plain, validated = make(), make()
    plain.fit(PAIRS, 2)
    rows = validated.fit(PAIRS, 2, validation=(X[:20], Y[:20]))
    assert same(plain, validated)
    assert rows[-1]["validation_accuracy"] == validated.evaluate((X[:20], Y[:20])).accuracy


def test_patience_stops_and_stays_stopped(tmp_path):
    def accuracies(*values):
        return [{"validation_accuracy": value} for value in values]

    task = Classification()
    assert not ran_out([], 1, task)
    assert not ran_out(accuracies(0.1, 0.2), 1, task)
    assert ran_out(accuracies(0.1, 0.2, 0.2), 1, task)
    assert not ran_out(accuracies(0.1, 0.2, 0.2), 2, task)
    assert ran_out(accuracies(0.3, 0.2, 0.25), 2, task)
    trainer = make(lr=1e-30, schedule=None)
    assert len(trainer.fit(PAIRS, 50, validation=PAIRS, patience=3)) == 4
    assert trainer.stopped_early
    trainer.save(tmp_path / "c.pt")
    again = make(lr=1e-30, schedule=None)
    again.load(tmp_path / "c.pt")
    assert len(again.fit(PAIRS, 50, validation=PAIRS, patience=3)) == 4
    assert len(again.fit(PAIRS, 6, validation=PAIRS)) == 6
    assert not again.stopped_early
    told = make(lr=1e-30, schedule=None)
    assert len(told.fit(PAIRS, 9, patience=1, after_epoch=lambda row: row.update(validation_accuracy=0.5))) == 2
    with pytest.raises(UserError, match="hand in validation"):
        make().fit(PAIRS, 3, patience=1, after_epoch=lambda row: None)


def test_predictions_are_those_that_are_evaluated():
    trainer = make()
    trainer.fit(PAIRS, 8)
    classes = trainer.predict(X)
    assert (classes.dtype, classes.shape) == (torch.int64, (90,))
    assert float((classes == Y).double().mean()) == pytest.approx(trainer.evaluate(PAIRS).accuracy)
    scores = trainer.predict(X, scores=True)
    assert scores.shape == (90, 10)
    assert torch.equal(scores.argmax(1), classes)
    with torch.no_grad():
        assert torch.equal(scores, trainer.net(nn.constant(X, 4)).sum(0))
    for same_inputs in (X.numpy(), X.tolist(), DataLoader(X, batch_size=7), DataLoader(PAIRS, batch_size=90)):
        assert torch.equal(trainer.predict(same_inputs), classes)
    spikes = (X > 0.5).float()
    shown = data.Sequences(nn.constant(spikes, 4))
    assert torch.equal(trainer.predict(shown), trainer.predict(spikes))
    assert torch.equal(trainer.predict(shown.values.transpose(0, 1), sequences=True), trainer.predict(spikes))


def test_a_single_output_decides_by_its_sign():
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    y = (x[:, 0] > 0).long()
    trainer = Trainer(nn.Sequential(nn.Linear(5, 1)), reward=rewards.Binary(), lr=0.05, batch_size=20, device="cpu")
    rows = trainer.fit((x, y), 20, validation=(x, y))
    assert trainer.evaluate((x, y)).accuracy > 0.95
    assert rows[-1]["train_accuracy"] > 0.9
    assert torch.equal(trainer.predict(x), (trainer.predict(x, scores=True)[:, 0] >= 0).long())


def test_real_targets_have_no_accuracy():
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    targets = x @ torch.randn(3, 2)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    trainer = Trainer(net, reward=rewards.SquaredError(), lr=0.02, batch_size=16, device="cpu")
    rows = trainer.fit((x, targets), 30)
    assert "train_accuracy" not in rows[-1]
    assert rows[-1]["reward_magnitude"] < 0.5 * rows[0]["reward_magnitude"]
    error = (trainer.predict(x, scores=True) - targets).square().mean()
    assert error < 0.3 * targets.square().mean()
    assert trainer.evaluate((x, targets)).loss == pytest.approx(float(error), rel=1e-5)
    assert trainer.predict(x).equal(trainer.predict(x, scores=True))
    with pytest.raises(UserError, match="no accuracy without classes"):
        _ = trainer.evaluate((x, targets)).accuracy


def test_targets_of_a_reward_of_ones_own_have_no_score():
    class Towards(rewards.Reward):
        def target(self, outputs, labels):
            return labels

        def reward(self, outputs, target):
            return outputs * (target - outputs)

    x, targets = torch.randn(64, 3), torch.randn(64, 2)
    trainer = Trainer(nn.Sequential(nn.Linear(3, 2)), reward=Towards(), batch_size=16, device="cpu")
    row = trainer.fit((x, targets), 1)[0]
    assert "reward" in row
    assert not any("accuracy" in name for name in row)
    with pytest.raises(UserError, match="evaluation counts right classes"):
        trainer.evaluate((x, targets))
    with pytest.raises(UserError, match="validation counts right classes"):
        trainer.fit((x, targets), 2, validation=(x, targets))
    judged = Trainer(nn.Sequential(nn.Linear(3, 2)), reward=Towards(), task="regression", batch_size=16, device="cpu")
    assert "train_rmse" in judged.fit((x, targets), 1)[0]


@pytest.mark.parametrize("limit", [0.05, 0.2])
def test_parameters_are_capped(limit, tmp_path):
    trainer = make(max_weight=limit, lr=0.02)
    trainer.fit(PAIRS, 2)
    largest = max(float(p.detach().abs().max()) for p in trainer.net.parameters())
    assert largest == pytest.approx(limit)
    free = make(lr=0.02)
    free.fit(PAIRS, 2)
    assert max(float(p.detach().abs().max()) for p in free.net.parameters()) > limit


def test_a_decay_that_learns_is_not_capped():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 10), nn.LIF(0.9, learn_beta=True))
    TemporalTrainer(net, steps=4, batch_size=30, max_weight=0.1, device="cpu").fit(PAIRS, 1)
    assert float(net[1].decay.detach()) > 0.5


def test_layers_may_bring_their_parameters_back_after_each_step():
    class Positive(nn.Linear):
        def project(self):
            with torch.no_grad():
                self.weight.clamp_(min=0)

    torch.manual_seed(0)
    net = nn.Sequential(Positive(64, 10), nn.LIF())
    TemporalTrainer(net, steps=4, batch_size=30, device="cpu").fit(PAIRS, 1)
    assert float(net[0].weight.detach().min()) == 0


def test_a_layer_named_project_is_no_projection():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ToTokens(), nn.SelfAttention(16, 2), nn.MeanToken(), nn.Linear(16, 10))
    assert isinstance(net[1].project, nn.Linear)
    trainer = Trainer(net, batch_size=45, device="cpu")
    trainer.fit((X.view(90, 16, 2, 2), Y), 1)
    assert trainer.position.step == 2


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adam,
        torch.optim.RMSprop,
        lambda parameters, lr: torch.optim.SGD(parameters, lr),
        lambda parameters: torch.optim.SGD(parameters, 1e-3),
        partial(torch.optim.SGD, momentum=0.5),
    ],
)
def test_optimisers_come_in_many_forms(optimizer):
    trainer = make(optimizer=optimizer)
    assert trainer.optimizer.param_groups[0]["lr"] in (3e-3, 1e-3)
    before = [p.detach().clone() for p in trainer.net.parameters()]
    trainer.fit(PAIRS, 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, trainer.net.parameters(), strict=True))


def test_an_optimiser_over_some_parameters_trains_those():
    torch.manual_seed(0)
    net = models.lif_mlp([64, 12, 10])
    before = [p.detach().clone() for p in net.parameters()]
    last = list(net.parameters())[-2:]
    trainer = TemporalTrainer(net, steps=4, optimizer=torch.optim.SGD(last, lr=0.1), device="cpu", wake=False)
    trainer.fit(PAIRS, 1)
    assert [torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)] == [True, True, False, False]


def test_an_optimiser_and_its_own_schedule_resume(tmp_path):
    def trainer():
        torch.manual_seed(0)
        net = models.lif_mlp([64, 12, 10])
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        schedule = StepLR(optimizer, 2, 0.5)
        return TemporalTrainer(net, steps=4, batch_size=30, optimizer=optimizer, schedule=schedule, device="cpu")

    whole, cut, resumed = trainer(), trainer(), trainer()
    rows = whole.fit(PAIRS, 2)
    assert rows[-1]["lr"] == pytest.approx(0.01 / 8)
    cut.should_stop = lambda: cut.position.step == 4
    cut.fit(PAIRS, 2)
    cut.save(tmp_path / "c.pt")
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(PAIRS, 2) == rows
    assert same(whole, resumed)


def test_classes_of_schedules_are_told_the_steps():
    for schedule, name in ((CosineAnnealingLR, "cosine"), (OneCycleLR, "one-cycle")):
        trainer, named = make(schedule=schedule), make(schedule=name)
        assert trainer.fit(PAIRS, 2) == named.fit(PAIRS, 2)
        assert same(trainer, named)
    trainer = make(schedule=partial(StepLR, step_size=3, gamma=0.1))
    assert trainer.fit(PAIRS, 2)[-1]["lr"] == pytest.approx(3e-5)


def test_a_plateau_looks_at_each_epoch(tmp_path):
    def trainer(**options):
        return make(lr=1e-30, schedule=lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0), **options)

    whole, cut, resumed = trainer(), trainer(), trainer()
    rows = whole.fit(PAIRS, 4, validation=PAIRS)
    assert [row["lr"] for row in rows] == pytest.approx([1e-30, 1e-30, 1e-30, 1e-30])  # smaller steps than its eps
    lively = make(lr=1e-6, schedule=lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.99))
    assert [row["lr"] for row in lively.fit(PAIRS, 4)] == pytest.approx([1e-6, 1e-6, 5e-7, 2.5e-7])
    cut.fit(PAIRS, 2, validation=PAIRS)
    cut.save(tmp_path / "c.pt")
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(PAIRS, 4, validation=PAIRS) == rows


def test_a_plateau_minimises_losses_and_errors_and_maximises_accuracies():
    from spikelfp.training.optim import plateau_metric

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    falls, rises = ReduceLROnPlateau(optimizer), ReduceLROnPlateau(optimizer, mode="max")
    row = {"loss": 0.7, "train_accuracy": 0.75}
    task = Classification()
    assert plateau_metric(falls, row, task) == 0.7
    assert plateau_metric(rises, row, task) == 0.75
    assert plateau_metric(falls, {"train_accuracy": 0.75}, task) == 0.25
    row["validation_accuracy"] = 0.5
    assert (plateau_metric(falls, row, task), plateau_metric(rises, row, task)) == (0.5, 0.5)
    with pytest.raises(UserError, match="neither"):
        plateau_metric(rises, {"reward": 1.0}, task)


def test_names_stand_for_methods_rewards_rules_and_losses():
    net = models.lif_mlp([4, 3, 2])
    assert repr(Trainer(net).method) == "LFP(reward=SpikeSequence(), rule=Epsilon(constant_statistics=False))"
    assert "CountSoftmax()" in repr(Trainer(net, reward="count-softmax").method)
    assert "CountSoftmax()" in repr(Trainer(net, reward=rewards.CountSoftmax).method)
    assert "Gamma(" in repr(Trainer(net, rule="gamma").method)
    assert Trainer(net, method="surrogate").method.name == "surrogate"
    assert Trainer(net, method="surrogate", loss="count").method.loss is methods.count_cross_entropy
    assert Trainer(models.mlp([4, 3, 2]), method="gradient").method.name == "gradient"
    assert Trainer(models.mlp([4, 3, 2]), method=methods.GradientDescent).method.name == "gradient"


def test_a_trainer_prints_a_small_table():
    text = repr(make(schedule=None, reward="count-softmax"))
    assert text.splitlines()[0] == "TemporalTrainer("
    assert "910 parameters on cpu" in text
    assert "CountSoftmax()" in text
    assert "Adam(lr=0.003, betas=(0.9, 0.99), eps=1e-08), schedule constant" in text
    assert "steps:      4, encoding constant" in text
    assert "0 epochs, 0 steps" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_inputs_come_in_the_dtype_of_the_network(dtype):
    torch.manual_seed(0)
    trainer = TemporalTrainer(models.lif_mlp([64, 12, 10]).to(dtype), steps=4, batch_size=30, device="cpu")
    trainer.fit((X.double(), Y), 2)
    trainer.fit(TensorDataset(X.half(), Y), 3)
    assert {p.dtype for p in trainer.net.parameters()} == {dtype}
    assert trainer.evaluate((X, Y)).accuracy == trainer.evaluate(TensorDataset(X.double(), Y)).accuracy


def test_random_parts_train():
    one, other = random_split(SPLITS.train, [0.2, 0.8], generator=torch.Generator().manual_seed(0))
    trainer = make()
    rows = trainer.fit(one, 1, validation=Subset(other, range(50)))
    assert 0 <= rows[0]["validation_accuracy"] <= 1
    assert np.isfinite(rows[0]["reward"])


def test_the_wrong_order_of_changes_leaves_no_trace():
    trainer = make()
    before = trainer.optimizer.state_dict()
    for wrong in ((X, Y + 1), (X, Y[:5]), None):
        with pytest.raises(UserError):
            trainer.fit(wrong, 1)
    assert trainer.optimizer.state_dict() == before
    assert trainer.position.step == 0
    with pytest.raises(CheckpointError):
        trainer.load("nowhere.pt")
