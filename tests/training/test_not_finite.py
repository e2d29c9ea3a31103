"""Values that are not finite: the first one is named, and the advice fits the cause."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from spikelfp import data, methods, models, rules
from spikelfp.data.loader import Sequences
from spikelfp.errors import DataError, NonFiniteError
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.sources import checked_inputs


def trainer(**options):
    torch.manual_seed(0)
    net = models.lif_mlp([6, 8, 3])
    method = methods.GradientDescent(rules.Surrogate())
    known = {"steps": 4, "method": method, "device": "cpu", "batch_size": 8, "wake": False}
    return TemporalTrainer(net, **{**known, **options})


def batch():
    return torch.rand(16, 6), torch.arange(16) % 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_the_data_border_names_sample_and_place(call, value):
    """Spikes hide it: a membrane that is NaN does not fire."""
    x, y = batch()
    x[3, 5] = value
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    with pytest.raises(DataError, match=rf"sample 3 of a batch holds {value} at place \[5\]: inputs are finite"):
        getattr(trainer(), call)(loader, *((1,) if call == "fit" else ()))
    with pytest.raises(DataError, match="3"):
        data.arrays(x, y)


@pytest.mark.parametrize("sparse", [False, True])
def test_sequences_name_step_and_place(sparse):
    values = torch.rand(5, 4, 2, 3)
    values[2, 1, 0, 2] = math.nan
    given = Sequences(values.to_sparse().coalesce() if sparse else values)
    with pytest.raises(DataError, match=r"sample 1 of a batch holds nan at step 2, place \[0, 2\]"):
        checked_inputs(given, 4)


def test_large_numbers_are_finite():
    x = torch.full((8, 6), 3e38)
    assert checked_inputs(x, 8) is x


def caught(own, x, y):
    with pytest.raises(NonFiniteError) as error:
        own.train_step(x, y)
    return str(error.value)


def test_the_advice_fits_the_cause():
    x, y = batch()
    text = caught(trainer(), Sequences(torch.full((4, 16, 6), math.nan)), y)
    assert "the input is not finite" in text
    assert "data" in text
    assert "--lr" not in text
    own = trainer()
    with torch.no_grad():
        own.net[1].weight[0, 0] = math.nan
    text = caught(own, x, y)
    assert "the parameter 1.weight is not finite" in text
    assert "the network was started with it" in text
    own = Trainer(models.mlp([6, 8, 3]), method="gradient", device="cpu", batch_size=8)
    own.train_step(x * 3e38, y)  # updates that are finite, though their norm is not
    with torch.no_grad():
        own.net[1].weight.fill_(10)
    text = caught(own, x * 3e38, y)
    assert "the output of layer 1 (Linear) is not finite" in text
    assert "scale the inputs" in text

    def broken(outputs, labels):
        return (outputs.sum() - outputs.sum().detach()).sqrt() * 0 + outputs.mean()

    text = caught(trainer(method=methods.GradientDescent(rules.Surrogate(), loss=broken)), x, y)
    assert "the update of 1.weight is not finite" in text
    assert "if it was so from the first step on, look into them" in text
