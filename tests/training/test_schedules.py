"""Learning rates over a run equal their formulas, and go on where they were stopped."""

import math

import pytest
import torch

from spikelfp import data, models
from spikelfp.errors import CheckpointError, UserError
from spikelfp.training import TemporalTrainer
from spikelfp.training.optim import schedules

TOTAL, LR = 100, 0.2


def rates(make, total=TOTAL):
    """The learning rate of every step."""
    w = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([w], LR)
    schedule, seen = make(optimizer, total), []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("constant", lambda k: LR),
        ("step", lambda k: LR * 0.1 ** (k // 40)),
        ("cosine", lambda k: LR * (1 + math.cos(math.pi * k / TOTAL)) / 2),
        ("linear", lambda k: LR * (1 - k / TOTAL)),
    ],
)
def test_schedules_equal_their_formulas(name, formula):
    assert rates(schedules[name]) == pytest.approx([formula(k) for k in range(TOTAL)], rel=1e-9, abs=1e-12)


def test_the_step_decay_takes_its_step_and_factor():
    seen = rates(lambda optimizer, total: schedules["step"](optimizer, total, step_size=7, gamma=0.5))
    assert seen == pytest.approx([LR * 0.5 ** (k // 7) for k in range(TOTAL)])
    with pytest.raises(UserError, match="step_size"):
        rates(lambda optimizer, total: schedules["step"](optimizer, total, step_size=0))
    with pytest.raises(UserError, match="gamma"):
        rates(lambda optimizer, total: schedules["step"](optimizer, total, gamma=1.5))


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_almost_nothing():
    seen = rates(schedules["one-cycle"])
    top = seen.index(max(seen))
    assert max(seen) == pytest.approx(LR, rel=1e-3)
    assert 0.28 * TOTAL <= top <= 0.32 * TOTAL
    assert seen[-1] < 1e-3 * LR


@pytest.mark.parametrize("name", list(schedules))
def test_a_run_of_one_step_has_a_schedule_too(name):
    assert len(rates(schedules[name], 1)) == 1


def make(schedule):
    torch.manual_seed(0)
    return TemporalTrainer(models.lif_mlp([64, 12, 10]), steps=4, batch_size=50, schedule=schedule)


@pytest.mark.parametrize("name", list(schedules))
def test_schedules_go_on_bit_for_bit(tmp_path, name):
    train = data.load("digits").train.subset(range(200))
    whole, stopping, resumed = make(name), make(name), make(name)
    rows = whole.fit(train, 2)
    stopping.should_stop = lambda: stopping.position.step >= 5
    stopping.fit(train, 2)
    stopping.save(tmp_path / "c.pt")
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(train, 2) == rows
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), resumed.net.parameters(), strict=True))


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    train = data.load("digits").train.subset(range(100))
    trainer = make("cosine")
    trainer.fit(train, 1)
    trainer.save(tmp_path / "c.pt")
    other = make("linear")
    with pytest.raises(CheckpointError, match="schedule_name cosine, this trainer has linear"):
        other.load(tmp_path / "c.pt")
