"""More epochs than were planned: the same as if the new schedule had been there, and resumable bit for bit."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, StepLR

from spikelfp import data, models
from spikelfp.errors import CheckpointError, UserError
from spikelfp.training import TemporalTrainer
from spikelfp.training.optim import schedules

TRAIN = data.load("digits").train.subset(torch.arange(120))
STEPS = 4  # of an epoch


def make(**options):
    torch.manual_seed(0)
    return TemporalTrainer(models.lif_mlp([64, 12, 10]), steps=4, batch_size=30, device="cpu", **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.parameters(), b.net.parameters(), strict=True))


def rates(trainer, epochs, **options):
    seen = []
    trainer.fit(TRAIN, epochs, after_step=lambda _: seen.append(trainer.optimizer.param_groups[0]["lr"]), **options)
    return seen


@pytest.mark.parametrize("name", list(schedules))
def test_a_finished_training_goes_on(name):
    """After the end: as the schedule says for those steps alone, or, where it has no end, as if planned at once."""
    extended, whole, first = make(schedule=name), make(schedule=name), make(schedule=name)
    begun, added, at_once = rates(extended, 1), rates(extended, 3), rates(whole, 3)
    assert len(added) == 2 * STEPS
    assert extended.position.epoch == 3
    if name in ("constant", "step"):
        assert begun + added == at_once
        assert same(extended, whole)
    else:
        assert added == pytest.approx(rates(first, 2), rel=1e-9, abs=1e-15)
        assert begun + added != at_once


@pytest.mark.parametrize("name", list(schedules))
@pytest.mark.parametrize("stop", [STEPS, STEPS + 1, 2 * STEPS, 3 * STEPS - 1])
def test_an_extended_training_resumes_bit_for_bit(tmp_path, name, stop):
    whole = make(schedule=name)
    whole.fit(TRAIN, 1)
    whole.fit(TRAIN, 3)

    cut = make(schedule=name)
    cut.fit(TRAIN, 1)
    cut.should_stop = lambda: cut.position.step >= stop
    if stop > STEPS:
        cut.fit(TRAIN, 3)
    cut.save(tmp_path / "c.pt")
    assert cut.position.step == stop
    resumed = make(schedule=name)
    torch.rand(3)
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(TRAIN, 3) == whole.history
    assert same(whole, resumed)


def test_momenta_that_one_cycle_moved_start_anew():
    trainer, fresh = make(), make()
    trainer.fit(TRAIN, 1)
    betas = []
    trainer.fit(TRAIN, 2, after_step=lambda _: betas.append(trainer.optimizer.param_groups[0]["betas"]))
    expected = []
    fresh.fit(TRAIN, 1, after_step=lambda _: expected.append(fresh.optimizer.param_groups[0]["betas"]))
    assert len(betas) == STEPS
    assert betas == expected


def test_a_schedule_with_an_end_is_not_stretched_in_the_middle():
    trainer = make()
    trainer.should_stop = lambda: trainer.position.step >= 5
    trainer.fit(TRAIN, 2)
    weights = [p.clone() for p in trainer.net.parameters()]
    with pytest.raises(
        CheckpointError, match=r"scheduled for 8 steps \(one-cycle\), now for 12.*finish it first \(epochs=2\)"
    ):
        trainer.fit(TRAIN, 3)
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.net.parameters(), strict=True))
    trainer.should_stop = lambda: False
    trainer.fit(TRAIN, 2)
    trainer.fit(TRAIN, 3)
    assert trainer.position.step == 12


def test_a_constant_rate_is_extended_in_the_middle():
    trainer, whole = make(schedule=None), make(schedule=None)
    trainer.should_stop = lambda: trainer.position.step >= 5
    trainer.fit(TRAIN, 2)
    trainer.should_stop = lambda: False
    assert trainer.fit(TRAIN, 3) == whole.fit(TRAIN, 3)
    assert same(trainer, whole)


@pytest.mark.parametrize(
    ("schedule", "open_end"),
    [
        (None, True),
        ("step", True),
        ("one-cycle", False),
        ("linear", False),
        (lambda optimizer, steps: StepLR(optimizer, 3), True),
        (lambda optimizer: StepLR(optimizer, 3), True),
        (lambda optimizer, steps: StepLR(optimizer, steps // 3), False),
        (lambda optimizer, steps: LambdaLR(optimizer, lambda k: 1 - k / steps), False),
        (CosineAnnealingLR, False),
    ],
)
def test_which_schedules_have_no_end_is_found_by_making_them(schedule, open_end):
    trainer = make(schedule=schedule)
    assert trainer.schedule.goes_on(trainer.optimizer) is open_end


def test_the_plan_is_told():
    trainer = make()
    trainer.fit(TRAIN, 1)
    assert trainer.plan(TRAIN, 1) == ""
    assert "a new one follows over the 8 steps" in trainer.plan(TRAIN, 3)
    constant = make(schedule="constant")
    constant.fit(TRAIN, 1)
    assert "goes on for 8 steps" in constant.plan(TRAIN, 3)


def test_other_data_may_follow_but_not_within_an_epoch():
    trainer = make()
    trainer.fit(TRAIN, 1)
    trainer.fit(TRAIN.subset(torch.arange(60)), 2)
    assert trainer.position.step == STEPS + 2
    trainer.should_stop = lambda: True
    trainer.fit(TRAIN, 3)
    with pytest.raises(CheckpointError, match="batch 1 of 4 of an epoch, and this data has 2"):
        trainer.fit(TRAIN.subset(torch.arange(60)), 3)


def test_fewer_epochs_than_are_done_are_refused():
    trainer = make()
    trainer.fit(TRAIN, 2)
    with pytest.raises(UserError, match="2 epochs are done and 1 were asked for"):
        trainer.fit(TRAIN, 1)
    assert len(trainer.fit(TRAIN, 2)) == 2
