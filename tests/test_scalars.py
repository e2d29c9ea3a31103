"""One answer to "is it a number?": numbers of numpy count everywhere, true and false, NaN and texts nowhere."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from spikelfp import (
    TemporalTrainer,
    Trainer,
    checks,
    data,
    interop,
    methods,
    models,
    nn,
    propagate,
    rewards,
    rules,
    tasks,
)
from spikelfp.data.events.augmentation.kinds import Shift
from spikelfp.data.events.binning import Binning
from spikelfp.data.events.slicing import Slicing
from spikelfp.data.events.transforms.filters import Denoise
from spikelfp.errors import UserError
from spikelfp.functional.lif import check_floor
from spikelfp.methods.error_table import ErrorTable
from spikelfp.scalars import as_number, as_python, as_whole

IMAGES = torch.rand(4, 3)


def trainer(**options):
    return Trainer(nn.Sequential(nn.Linear(3, 2)), **options)


def temporal(**options):
    return TemporalTrainer(nn.Sequential(nn.Linear(3, 2), nn.LIF()), **{"steps": 4, **options})


def fitted(epochs=1, **options):
    made = trainer(batch_size=2)
    made.fit((IMAGES, torch.tensor([0, 1, 0, 1])), epochs, **options)
    return made.position.epoch


def sent(**options):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    out = net(IMAGES[None])
    propagate(out, torch.ones_like(out), **options)
    return net.weight.grad


WHOLE = {
    "batch_size": lambda n: trainer(batch_size=n).batch_size,
    "accumulate": lambda n: trainer(accumulate=n).accumulate,
    "seed": lambda n: trainer(seed=n).seed,
    "steps": lambda n: temporal(steps=n).steps,
    "chunk": lambda n: temporal(chunk=n).chunk,
    "readout_steps": lambda n: temporal(readout_steps=n).readout_steps,
    "epochs": fitted,
    "nn.constant": lambda n: len(nn.constant(IMAGES, n)),
    "nn.RecurrentLIF": lambda n: nn.RecurrentLIF(n).recurrent.in_features,
    "nn.Delay": lambda n: int(nn.Delay(n).delays),
    "nn.Taps": lambda n: nn.Taps((0, n)).delays[1],
    "models": lambda n: int(models.lif_mlp([3, n, 2])[1].out_features),
    "ErrorTable": lambda n: ErrorTable("hash", buckets=n).buckets,
    "Binning": lambda n: Binning(bins=n).bins,
    "Slicing": lambda n: Slicing(count=n).count,
    "Denoise": lambda n: Denoise(n).window_us,
    "Shift": lambda n: Shift(n).pixels,
    "draw": lambda n: data.toy._checked(n),
    "checks.whole": lambda n: checks.whole("it", n),
    "checks.count": lambda n: checks.count("it", n),
}
REAL = {
    "clip": lambda x: trainer(clip=x).clip,
    "clip_norm": lambda x: trainer(clip_norm=x).clip_norm,
    "max_weight": lambda x: trainer(max_weight=x).max_weight,
    "eps of propagate": lambda x: sent(eps=x),
    "weight of propagate": lambda x: sent(weight=x),
    "nn.Dropout": lambda x: nn.Dropout(x).p,
    "nn.Noise": lambda x: nn.Noise(x).sigma,
    "beta": lambda x: nn.LIF(beta=x).beta,
    "floor": check_floor,
    "rules.Epsilon": lambda x: rules.Epsilon(x).eps,
    "rules.Gamma": lambda x: rules.Gamma(gamma=x).gamma,
    "label_smoothing": lambda x: rewards.CountSoftmax(label_smoothing=x).label_smoothing,
    "delta": lambda x: tasks.Regression(loss="huber", delta=x).delta,
    "strength": lambda x: methods.PEPITA(strength=x).strength,
    "damping": lambda x: methods.EProp(damping=x).damping,
    "rate": lambda x: ErrorTable("class", rate=x).rate,
    "dt": lambda x: (
        dict(interop.to_norse(nn.Sequential(nn.Linear(3, 2), nn.LIF(reset="zero")), dt=x).named_modules()) and x
    ),
    "overlap": lambda x: Slicing(count=5, overlap=x).overlap,
    "checks.share": lambda x: checks.share("it", x),
    "checks.number": lambda x: checks.number("it", x),
}


@pytest.mark.parametrize("make", [np.int64, np.uint8, np.array], ids=["int64", "uint8", "array"])
@pytest.mark.parametrize("entry", WHOLE)
def test_whole_numbers_of_numpy_are_taken(entry, make):
    found = WHOLE[entry](make(2))
    assert found == WHOLE[entry](2)
    assert type(found) is int


@pytest.mark.parametrize("make", [np.float32, np.float64, np.array], ids=["float32", "float64", "array"])
@pytest.mark.parametrize("entry", REAL)
def test_floats_of_numpy_are_taken(entry, make):
    found, expected = REAL[entry](make(0.5)), REAL[entry](0.5)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize(
    "wrong", [True, np.True_, "2", None, 2.5, np.float64(2.0), math.nan, [2], np.array([2, 3])], ids=repr
)
@pytest.mark.parametrize("entry", WHOLE)
def test_what_is_no_whole_number_is_refused(entry, wrong):
    if wrong is None and entry in ("chunk", "readout_steps", "steps"):
        pytest.skip("None has a meaning of its own there")
    with pytest.raises(UserError):
        WHOLE[entry](wrong)


@pytest.mark.parametrize(
    "wrong", [True, np.True_, "0.5", math.nan, np.float32("nan"), 1j, [0.5], np.array([0.5, 0.5])], ids=repr
)
@pytest.mark.parametrize("entry", REAL)
def test_what_is_no_number_is_refused(entry, wrong):
    with pytest.raises(UserError):
        REAL[entry](wrong)


def test_numbers_are_of_python():
    assert [type(as_python(each)) for each in (np.int8(1), np.float16(1), 1, 1.0, Fraction(1, 2))] == [
        int,
        float,
        int,
        float,
        float,
    ]
    assert as_number(10**400) is None
    assert as_whole(10**400) == 10**400
    for none in (
        True,
        np.bool_(0),
        "1",
        b"1",
        None,
        math.nan,
        1j,
        torch.tensor(1),
        np.timedelta64(1, "s"),
        np.zeros(1),
    ):
        assert as_number(none) is None
        assert as_whole(none) is None


def test_objects_write_them_as_pythons_own():
    assert repr(rules.Gamma(eps=np.float64(0.5), gamma=np.int64(1))) == repr(rules.Gamma(eps=0.5, gamma=1))
    assert repr(Binning(bins=np.int64(4))) == repr(Binning(bins=4))
    assert repr(temporal(steps=np.int64(4), batch_size=np.int64(8))) == repr(temporal(steps=4, batch_size=8))


def test_arrays_in_place_of_epochs_are_told_apart_from_numbers():
    with pytest.raises(UserError, match="data and labels go together"):
        trainer().fit((IMAGES, torch.tensor([0, 1, 0, 1])), torch.zeros(4))
    assert fitted(np.int64(1)) == 1
    assert fitted(1) == 1
    with pytest.raises(UserError, match="patience is a whole number"):
        fitted(1, patience=np.float64(2.0), validation=(IMAGES, torch.tensor([0, 1, 0, 1])))
