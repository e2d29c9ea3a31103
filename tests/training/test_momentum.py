"""Momentum as the paper has it (v3, eq. 5), and the other settings of the named optimisers."""

import pytest
import torch

from spikelfp import data, models
from spikelfp.errors import UserError
from spikelfp.training import Momentum, TemporalTrainer
from spikelfp.training.optim import optimizers, schedules

UPDATES = [[0.5, -1.0], [2.0, 0.25], [0.0, 3.0], [-1.5, 0.0]]


def by_the_formula(weights, updates, lr, alpha, weight_decay=0.0):
    """Eq. 5, weight by weight in plain floats; ``d_lfp`` is what the optimiser finds as ``−grad``."""
    weights, old = list(weights), [0.0] * len(weights)
    for update in updates:
        for i, lfp in enumerate(update):
            d = alpha * old[i] + (1 - alpha) * (lfp - weight_decay * weights[i])
            weights[i] += lr * d
            old[i] = d
    return weights


def run(optimizer, parameter, updates):
    for update in updates:
        parameter.grad = -torch.tensor(update, dtype=parameter.dtype)
        optimizer.step()


def parameter():
    return torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_momentum_equals_equation_5_from_the_first_step_on(steps, alpha, weight_decay):
    w = parameter()
    expected = by_the_formula(w.tolist(), UPDATES[:steps], 0.3, alpha, weight_decay)
    run(Momentum([w], lr=0.3, alpha=alpha, weight_decay=weight_decay), w, UPDATES[:steps])
    assert w.tolist() == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_torchs_dampening_alone_differs_in_the_first_step():
    w = parameter()
    run(torch.optim.SGD([w], lr=0.3, momentum=0.9, dampening=0.9), w, UPDATES[:1])
    assert w.tolist() != pytest.approx(by_the_formula([1.0, -2.0], UPDATES[:1], 0.3, 0.9))


def test_parameters_added_later_start_from_rest_as_well():
    first, later = parameter(), parameter()
    optimizer = Momentum([first], lr=0.3, alpha=0.9)
    optimizer.add_param_group({"params": [later]})
    run(optimizer, later, UPDATES)
    assert later.tolist() == pytest.approx(by_the_formula([1.0, -2.0], UPDATES, 0.3, 0.9))


def make(**options):
    torch.manual_seed(0)
    return TemporalTrainer(
        models.lif_mlp([64, 20, 10]), steps=5, batch_size=50, optimizer="momentum", lr=0.5, **options
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.parameters(), b.net.parameters(), strict=True))


@pytest.mark.parametrize("stop_after", [0, 1, 5])
def test_momentum_goes_on_bit_for_bit(tmp_path, stop_after):
    train = data.load("digits").train.subset(range(200))
    whole, stopping, resumed = make(), make(), make()
    whole.fit(train, 2)
    if stop_after:
        stopping.should_stop = lambda: stopping.position.step >= stop_after
        stopping.fit(train, 2)
    stopping.save(tmp_path / "c.pt")
    resumed.load(tmp_path / "c.pt")
    resumed.fit(train, 2)
    assert same(whole, resumed)


@pytest.mark.parametrize("schedule", list(schedules))
def test_no_schedule_moves_the_momentum_of_equation_5(schedule):
    trainer = make(schedule=schedule)
    seen = set()

    def look(position):
        group = trainer.optimizer.param_groups[0]
        seen.add((group["momentum"], group["dampening"]))

    trainer.fit(data.load("digits").train.subset(range(200)), 2, after_step=look)
    assert seen == {(0.9, 0.9)}


@pytest.mark.parametrize(
    ("optimizer", "moves"),
    [
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), True),
        (lambda p: torch.optim.SGD(p, 0.1), False),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.9), False),
        (lambda p: torch.optim.RMSprop(p, 0.1), False),
        (lambda p: torch.optim.Adagrad(p, 0.1), False),
    ],
    ids=["momentum", "plain", "dampened", "rmsprop", "adagrad"],
)
def test_one_cycle_moves_a_momentum_that_sums_and_gives_none_to_others(optimizer, moves):
    w = parameter()
    made = optimizer([w])
    before = made.param_groups[0].get("momentum")
    schedule = schedules["one-cycle"](made, 10)
    for _ in range(5):
        run(made, w, UPDATES[:1])
        schedule.step()
    assert (made.param_groups[0].get("momentum") != before) is moves


@pytest.mark.parametrize("name", list(optimizers))
def test_weight_decay_shrinks_weights_that_get_no_update(name):
    weights = {}
    for decay in (0.0, 0.1):
        w = parameter()
        run(optimizers[name]([w], 0.1, weight_decay=decay), w, [[0.0, 0.0]])
        weights[decay] = w.detach().abs()
    assert torch.equal(weights[0.0], parameter().detach().abs())
    assert (weights[0.1] < weights[0.0]).all()


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_momentum_is_an_option_of_those_that_have_one(name):
    assert optimizers[name]([parameter()], 0.1, momentum=0.95).param_groups[0]["momentum"] == 0.95


@pytest.mark.parametrize("name", list(optimizers))
def test_settings_out_of_range_are_named(name):
    with pytest.raises(UserError, match="weight decay"):
        optimizers[name]([parameter()], 0.1, weight_decay=-1e-4)
    with pytest.raises(UserError, match="learning rate"):
        optimizers[name]([parameter()], 0.0)
    if name not in ("adam", "adamw"):
        with pytest.raises(UserError, match=r"momentum.*1\.0"):
            optimizers[name]([parameter()], 0.1, momentum=1.0)
