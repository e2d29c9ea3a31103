"""Tasks against slow versions from their formulas, and scikit-learn's scores."""

import numpy as np
import pytest
import torch
from references import task_scores as slow
from sklearn import metrics

from spikelfp import nn, rewards, rules, tasks
from spikelfp.data import TargetScale
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.methods import LFP, GradientDescent
from spikelfp.options import described
from spikelfp.tasks.base import step_weights
from spikelfp.training.arguments import check_task, resolve_task
from spikelfp.training.update import added

STEPS, SAMPLES = 6, 5
LENGTHS = torch.tensor([6, 1, 3, 6, 4])
MASK = torch.arange(STEPS).unsqueeze(1) < LENGTHS
HOLES = torch.tensor(
    [[1, 1, 0, 1, 0], [0, 1, 1, 1, 0], [1, 0, 1, 1, 1], [1, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 0, 1]]
)
MASKS = {"all": None, "ends": MASK, "holes": HOLES.bool()}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(mask):
    return torch.ones(STEPS, SAMPLES, dtype=torch.bool) if mask is None else mask


def weights_of(mask):
    return None if mask is None else step_weights(mask, torch.float64)


def case(name):
    """A task, outputs, targets, and the slow loss and reward for a mask."""
    outputs = random(STEPS, SAMPLES, 3)
    if name == "sequence-labels":
        y = torch.randint(0, 3, (SAMPLES, STEPS), generator=torch.Generator().manual_seed(1))
        return tasks.SequenceLabels(), outputs, y, lambda mask: slow.sequence_labels(outputs, y, whole(mask))
    if name.startswith("multi-label"):
        y, readout = (random(SAMPLES, 3, seed=1) > 0).long(), name.split()[1]
        return (
            tasks.MultiLabel(readout), outputs, y,
            lambda mask: slow.multi_label(outputs, y, whole(mask), readout),
        )  # fmt: skip
    _, readout, loss, delta = name.split()
    y = 2 * random(SAMPLES, 3, seed=1)
    options = {"delta": float(delta)} if loss == "huber" else {}
    return (
        tasks.Regression(readout, loss, **options), outputs, y,
        lambda mask: slow.regression(outputs, y, whole(mask), readout, loss, float(delta)),
    )  # fmt: skip


CASES = [
    "sequence-labels",
    *(f"multi-label {readout}" for readout in tasks.READOUTS),
    *(f"regression {readout} {loss} 1" for readout in tasks.READOUTS for loss in ("mse", "mae")),
    *(f"regression {readout} huber {delta}" for readout in tasks.READOUTS for delta in (1, 0.4)),
]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("name", CASES)
def test_loss_and_reward_are_those_of_the_formula(name, mask):
    task, outputs, y, slowly = case(name)
    loss, reward = slowly(mask)
    assert float(task.loss(outputs, y, weights_of(mask))) == pytest.approx(loss, rel=1e-9)
    found = tasks.TaskReward(task)(outputs, y, *([] if mask is None else [mask]))
    torch.testing.assert_close(found, reward, rtol=1e-9, atol=1e-12)
    judge = task.judge(y, mask, STEPS, SAMPLES, loss=True)
    judge.add(outputs, 0)
    sums = judge.sums()
    assert float(sums["loss"]) / float(sums["samples"]) == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("name", CASES)
def test_the_reward_is_minus_the_output_times_the_gradient(name, mask):
    """Gradient of the whole loss, by torch: Theorem 1 of LFP v3 through the readout."""
    task, outputs, y, _ = case(name)
    free = outputs.clone().requires_grad_()
    task.loss(free, y, weights_of(mask)).backward()
    found = tasks.TaskReward(task)(outputs, y, *([] if mask is None else [mask]))
    torch.testing.assert_close(found, -outputs * free.grad * SAMPLES, rtol=1e-12, atol=1e-14)


def test_a_mean_gives_each_step_its_share():
    outputs, y = random(4, 1, 1), torch.tensor([[3.0]], dtype=torch.float64)
    reward = tasks.TaskReward(tasks.Regression())(outputs, y)
    torch.testing.assert_close(reward, outputs * 2 * (3 - outputs.mean(0)) / 4)
    assert tasks.TaskReward(tasks.Regression())(torch.zeros(4, 1, 1), y.float()).count_nonzero() == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_chunks_and_batches_add_up(name, mask):
    task, outputs, y, _ = case(name)
    together = task.judge(y, mask, STEPS, SAMPLES, loss=True)
    together.add(outputs, 0)
    sums = {}
    for some in (slice(0, 2), slice(2, 5)):
        own = None if mask is None else mask[:, some]
        judge = task.judge(y[some], own, STEPS, own.shape[1] if own is not None else len(y[some]), loss=True)
        for start in (0, 2, 4):
            judge.add(outputs[start : start + 2, some], start)
        sums = added(sums, judge.sums())
    expected = together.sums()
    assert sums.keys() == expected.keys()
    for each in sums:
        torch.testing.assert_close(sums[each].double(), expected[each].double(), rtol=1e-12, atol=1e-12)
    assert task.metrics(sums) == pytest.approx(task.metrics(expected))


def test_scores_of_values_are_those_of_scikit_learn():
    outputs, y = random(7, 40, 3), 100 + 5 * random(40, 3, seed=3)
    outputs = outputs + y
    task = tasks.Regression()
    judge = task.judge(y, None, 7, 40)
    judge.add(outputs, 0)
    found, read = task.metrics(judge.sums()), outputs.mean(0).numpy()
    assert found["rmse"] == pytest.approx(metrics.mean_squared_error(y.numpy(), read) ** 0.5, rel=1e-9)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y.numpy(), read), rel=1e-9)
    assert found["r2"] == pytest.approx(metrics.r2_score(y.numpy(), read), rel=1e-9)
    scale = TargetScale((1.0, 2.0, 3.0), (10.0, 0.5, 2.0))
    own = task.metrics(judge.sums(), scale)
    in_units = [scale.values(each).numpy() for each in (y, outputs.mean(0))]
    assert own["rmse"] == pytest.approx(metrics.mean_squared_error(*in_units) ** 0.5, rel=1e-9)
    assert own["mae"] == pytest.approx(metrics.mean_absolute_error(*in_units), rel=1e-9)
    assert own["r2"] == pytest.approx(metrics.r2_score(*in_units), rel=1e-9)
    torch.testing.assert_close(task.readout(outputs), outputs.mean(0))


@pytest.mark.parametrize("y", [torch.full((4, 1), 2.5), torch.ones(1, 1)])
def test_targets_without_spread_have_no_r2(y):
    task = tasks.Regression()
    judge = task.judge(y, None, 2, len(y))
    judge.add(torch.zeros(2, len(y), 1), 0)
    assert set(task.metrics(judge.sums())) == {"rmse", "mae"}


def test_scores_of_label_sets_are_those_of_scikit_learn():
    outputs, y = random(4, 60, 5), (random(60, 5, seed=2) > 0.3).long()
    task = tasks.MultiLabel()
    judge = task.judge(y, None, 4, 60)
    judge.add(outputs, 0)
    found, read = task.metrics(judge.sums()), task.readout(outputs).numpy()
    assert read.dtype == np.bool_
    assert found["subset_accuracy"] == pytest.approx(metrics.accuracy_score(y.numpy(), read))
    assert found["f1"] == pytest.approx(metrics.f1_score(y.numpy(), read, average="micro"))
    judge = task.judge(torch.zeros(60, 5, dtype=torch.int64), None, 4, 60)
    judge.add(-outputs.abs(), 0)
    assert task.metrics(judge.sums()) == {"subset_accuracy": 1.0}


def test_scores_of_steps_count_the_steps_that_exist():
    outputs = random(STEPS, SAMPLES, 3)
    y = torch.randint(0, 3, (SAMPLES, STEPS))
    y[~MASK.T] = -7  # nobody's class
    task = tasks.SequenceLabels()
    judge = task.judge(y, MASK, STEPS, SAMPLES)
    judge.add(outputs, 0)
    found = task.readout(outputs, MASK)
    assert found[~MASK.T].eq(-1).all()
    expected = metrics.accuracy_score(y[MASK.T].numpy(), found[MASK.T].numpy())
    assert task.metrics(judge.sums()) == {"step_accuracy": pytest.approx(expected)}
    with pytest.raises(ShapeError, match="outside the classes"):
        task.loss(outputs, y)


@pytest.mark.parametrize("readout", tasks.READOUTS)
def test_the_last_step_is_that_which_counts(readout):
    task, outputs = tasks.Regression(readout), random(STEPS, SAMPLES, 2)
    counting = task.counting(MASK, STEPS, SAMPLES, outputs.device)
    if readout == "last":
        assert counting.sum(0).tolist() == [1] * SAMPLES
        assert counting.nonzero()[:, 0][counting.nonzero()[:, 1].argsort()].tolist() == (LENGTHS - 1).tolist()
    else:
        assert counting is MASK
    torch.testing.assert_close(task.readout(outputs, counting), slow.reading(outputs, readout, MASK))
    if readout == "last":
        torch.testing.assert_close(task.readout(outputs), outputs[-1])


def test_what_does_not_count_may_hold_anything():
    task, outputs, y, _ = case("regression mean mse 1")
    torn = outputs.masked_fill(~MASK.unsqueeze(-1), float("nan"))
    assert torch.equal(task.readout(torn, MASK), task.readout(outputs, MASK))
    assert task.loss(torn, y, weights_of(MASK)) == task.loss(outputs, y, weights_of(MASK))


class TestRefused:
    OUTPUTS = torch.zeros(3, 4, 2)

    @pytest.mark.parametrize(
        ("task", "targets", "outputs", "named"),
        [
            ("regression", torch.zeros(4, 2, dtype=torch.int64), OUTPUTS, r"y\.float\(\), or task=.classification"),
            ("regression", torch.zeros(4), OUTPUTS, r"targets \[B, 2\] for a network with 2 outputs.*have 1"),
            ("regression", torch.zeros(4, 3), OUTPUTS, "let the network have 3"),
            ("regression", torch.zeros(4, 1, 2), OUTPUTS, r"y\.flatten\(1\)"),
            ("regression", torch.tensor([[0.0, 0], [0, torch.nan], [0, 0], [0, 0]]), OUTPUTS, "nan of sample 1"),
            ("regression", torch.zeros(4, 2), torch.zeros(3, 4, 2, 5), r"reads outputs \[T, B, C\]"),
            ("classification", torch.zeros(4), OUTPUTS, 'y.long.. if they are classes, task="regression"'),
            ("classification", torch.zeros(4, 2), OUTPUTS, r'y\.argmax\(1\).*task="multi-label".*task="regression"'),
            ("classification", torch.tensor([0, 1, 2, 0]), OUTPUTS, "label 2 of sample 2 is outside 0 to 1"),
            ("multi-label", torch.zeros(4, dtype=torch.int64), OUTPUTS, 'task="classification"'),
            ("multi-label", torch.zeros(4, 3), OUTPUTS, r"\[B, 2\] of 0 or 1"),
            ("multi-label", torch.full((4, 2), 0.5), OUTPUTS, 'got 0.5 in sample 0.*task="regression"'),
            ("multi-label", torch.full((4, 2), 2), OUTPUTS, "got 2 in sample 0"),
            ("sequence-labels", torch.zeros(4, dtype=torch.int64), OUTPUTS, 'task="classification"'),
            ("sequence-labels", torch.zeros(4, 2, dtype=torch.int64), OUTPUTS, "for sequences of 3 steps"),
            ("sequence-labels", torch.zeros(4, 3), OUTPUTS, "got torch.float32"),
            ("sequence-labels", torch.full((4, 3), 2), OUTPUTS, "label 2 is outside 0 to 1"),
            ("sequence-labels", torch.zeros(4, 3, dtype=torch.int64), torch.zeros(3, 4, 1), "two outputs or more"),
        ],
    )  # fmt: skip
    def test_targets_that_do_not_fit_say_what_to_do(self, task, targets, outputs, named):
        with pytest.raises(ShapeError, match=named) as found:
            tasks.tasks[task]().check(targets, outputs)
        assert "\n" not in str(found.value)

    def test_options(self):
        with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
            tasks.Regression("men")
        with pytest.raises(UnknownNameError, match="choose from huber, mae, mse"):
            tasks.Regression(loss="l3")
        with pytest.raises(UserError, match='belongs to loss="huber"'):
            tasks.Regression(delta=2.0)
        for delta in (0, -1.0, float("nan"), True, "1"):
            with pytest.raises(UserError, match="a finite number above 0"):
                tasks.Regression(loss="huber", delta=delta)

    @pytest.mark.parametrize("name", ["multi-label", "sequence-labels"])
    def test_spikes_where_real_values_are_read(self, name):
        with pytest.raises(UserError, match=r"let it end in nn\.LI\(\)"):
            tasks.tasks[name]().reward(True)

    def test_rates_of_spikes(self):
        assert isinstance(tasks.Regression().reward(True), rewards.SpikeRate)
        for task in (tasks.Regression("last"), tasks.Regression(loss="mae")):
            with pytest.raises(UserError, match=r"nn\.LI\(\)"):
                task.reward(True)
        with pytest.raises(ShapeError, match=r"targets go from -1 to 0\.5"):
            tasks.Regression().check(torch.tensor([[-1.0, 0.5]]), torch.zeros(3, 1, 2), spikes=True)


class TestChosen:
    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({}, "Classification()"),
            ({"loss": "count"}, "Classification(loss='count')"),
            ({"reward": "softmax"}, "Classification()"),
            ({"reward": rewards.SquaredError()}, "Regression()"),
            ({"reward": rewards.Huber}, "Regression()"),
            ({"reward": rewards.SpikeRate()}, "Regression()"),
            ({"reward": tasks.TaskReward(tasks.MultiLabel("last"))}, "MultiLabel(readout='last')"),
            ({"method": GradientDescent(loss=tasks.Regression("last").loss)}, "Regression(readout='last')"),
            ({"method": LFP(rewards.AbsoluteError())}, "Regression()"),
            ({"task": "regression", "loss": "mae"}, "Regression(loss='mae')"),
            ({"task": tasks.Regression, "loss": "huber"}, "Regression(loss='huber')"),
            ({"task": tasks.Regression("decay")}, "Regression(readout='decay')"),
            ({"task": "sequence-labels"}, "SequenceLabels()"),
        ],
    )
    def test_by_name_by_object_or_by_what_it_is_for(self, given, text):
        assert described(resolve_task(**{"task": None, **given})) == text

    @pytest.mark.parametrize(
        ("given", "error", "named"),
        [
            ({"task": "regresion"}, UnknownNameError, "did you mean 'regression'"),
            ({"task": 3}, UserError, "a task is a name"),
            ({"task": tasks.Regression("last"), "loss": "mae"}, UserError, "say the loss once"),
            ({"task": "multi-label", "loss": "mae"}, UserError, "leave out loss='mae'"),
            ({"loss": "mae"}, UnknownNameError, "unknown loss 'mae'"),
        ],
    )
    def test_what_is_none(self, given, error, named):
        with pytest.raises(error, match=named):
            resolve_task(**{"task": None, **given})

    def test_methods_for_another_task(self):
        for method, named in (
            (LFP(rewards.Softmax()), r'Softmax\(\) is for classification, and the task is regression.*say task="class'),
            (GradientDescent(), r"loss=spikelfp\.tasks\.Regression\(\)\.loss"),
            (LFP(tasks.TaskReward(tasks.Regression("last"))), "say one"),
            (GradientDescent(loss=tasks.Regression("last").loss), "say one of them"),
        ):
            with pytest.raises(UserError, match=named):
                check_task(tasks.Regression(), method)
        check_task(tasks.Regression(), LFP(rewards.FromCallback(print)))  # does not say what it takes

    def test_a_network_of_lif_and_li_takes_the_gradient_step_times_the_weight(self):
        """LFP by the reward of a task is |w| times its gradient in the last, linear layers."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.LI(0.7)).double()
        task, x, y = tasks.Regression(), random(5, 6, 4), random(6, 3, seed=2)
        with rules.lending(net, rules.Gradient()):
            task.loss(net(x), y).backward()
        expected = [(p.grad * p.abs()).clone() for p in net.parameters()]
        net.zero_grad()
        LFP(task.reward(False)).backward(net(x), y)
        for p, own in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, own, rtol=1e-4, atol=1e-8)
