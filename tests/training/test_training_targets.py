"""Targets and losses as people hand them in: what would be a wrong number is refused."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import TensorDataset

from spikelfp import TemporalTrainer, data, models, tasks
from spikelfp.errors import DataError, LearningWarning, UserError

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, 2, -1, 0])


def trainer(outputs=1, task="regression", **options):
    net = models.lif_mlp([4, 8, outputs], readout="li")
    return TemporalTrainer(net, steps=3, task=task, batch_size=16, **options)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X, Y.double() * 1e300, "targets up to .* beyond what float32 holds"),
        (X, Y.double() + 1e9, "targets around 1e.09 that differ by"),
        (X, Y.double().numpy() + 1e9, "targets around 1e.09 that differ by"),
        (X.double() * 1e300, Y, "inputs up to .* beyond what float32 holds"),
        (X.double() + 1.6e9, Y, "inputs around 1.6e.09 that differ by"),
        ((X * 10).long() + 1_600_000_000, Y, "inputs around 1.6e.09"),
        (((X * 10).long() + 1_600_000_000).numpy().astype(np.uint32), Y, "inputs around 1.6e.09"),
        (X, Y.long() - 9, r"label -\d+ at index 0 is below 0.*y.astype\(float\)"),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_refused(x, y, said):
    with pytest.raises(DataError, match=said):
        trainer().fit((x, y), 1)


def test_whole_numbers_and_narrow_floats_are_inputs():
    for x in ((X * 10).long(), (X * 10).int().numpy(), X.half(), X > 0, X.double(), X.double() + 1000):
        assert np.isfinite(trainer().fit((x, Y), 1)[-1]["train_rmse"])


def test_rows_of_labels_of_unequal_lengths():
    lengths = [2 + row % 4 for row in range(32)]
    x = [torch.randn(steps, 4) for steps in lengths]
    y = [torch.randint(0, 3, (steps,)) for steps in lengths]

    def fitted(targets):
        net = models.lif_mlp([4, 8, 3], readout="li")
        own = TemporalTrainer(net, task="sequence-labels", batch_size=32)
        own.fit((x, targets), 1)
        return own

    own = fitted(y)
    right = sum(int((own.predict([x[row]], sequences=True)[0] == y[row]).sum()) for row in range(32))
    assert own.evaluate((x, y)).score == pytest.approx(right / sum(lengths))
    with pytest.raises(DataError, match="sample 3 has 5 steps and 4 labels"):
        fitted([row[:4] if index == 3 else row for index, row in enumerate(y)])
    with pytest.raises(DataError, match="unequal lengths"):
        trainer(3, "sequence-labels").fit((torch.zeros(32, 5, 4), y), 1)
    with pytest.raises(DataError, match="say lengths="):
        data.arrays(torch.zeros(32, 5, 4), y, sequences=True)
    with pytest.raises(DataError, match="a gap is a class of its own"):
        data.arrays(torch.zeros(32, 5, 4), torch.full((32, 5), -100), sequences=True)


@pytest.mark.parametrize(
    ("targets", "loss"),
    [
        (TensorDataset(X, Y), mse_loss),
        (TensorDataset(X, Y), lambda o, y: (o.mean(0) - y).square().mean()),
        ((X, Y), lambda o, y: (o.mean(0)[:, 0] - y).square().mean()),
        ((X, Y), lambda o, y: (o.mean(0) - y).square().sum()),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_is_no_mean_over_the_samples_is_told(targets, loss):
    with pytest.warns(LearningWarning, match="is no mean over the samples"):
        trainer(method="surrogate", loss=loss).fit(targets, 1)


@pytest.mark.parametrize(
    ("targets", "loss", "outputs", "task"),
    [
        ((X, Y), lambda o, y: (o.mean(0) - y).square().mean(), 1, "regression"),
        ((X, (Y > 0).long()), lambda o, y: cross_entropy(o.sum(0), y, weight=torch.tensor([1.0, 2])), 2, None),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_loss_that_reads_outputs_as_it_should_is_left_alone(targets, loss, outputs, task):
    own = trainer(outputs, task, method="surrogate", loss=loss)
    own.fit(targets, 1)
    assert np.isfinite(own.evaluate(targets).loss)


def test_a_loss_that_fails_says_what_it_was_given():
    with pytest.raises(UserError, match=r"the loss CrossEntropyLoss fails for outputs \[3, 2, 2\] and targets \[2\]"):
        trainer(2, None, method="surrogate", loss=torch.nn.CrossEntropyLoss()).fit((X, (Y > 0).long()), 1)


@pytest.mark.parametrize("name", ["class_weight", "pos_weight", "sample_weight"])
def test_weights_of_classes_are_those_of_a_loss(name):
    with pytest.raises(UserError, match=f"no {name}: weigh classes or samples in a loss of your own"):
        trainer(**{name: [1.0, 2.0]})


def test_half_a_task_is_none():
    with pytest.raises(UserError, match="ReadOut is no task that can be trained: it lacks check"):
        trainer(task=tasks.ReadOut)
    assert tasks.Regression(loss="huber", delta=np.float32(2)).delta == 2
