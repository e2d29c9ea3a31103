"""Predictions of tasks, what they should be, and the slopes of the losses: against the formulas and autograd."""

import functools

import pytest
import torch
from references import task_scores as slow
from torch.nn.functional import binary_cross_entropy, huber_loss, l1_loss, mse_loss

from spikelfp import Trainer, methods, models, tasks
from spikelfp.data import TargetScale
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.methods import losses
from spikelfp.training.arguments import task_judged_by

T, B, C = 6, 4, 3
LENGTHS = torch.tensor([6, 1, 3, 4])
MASKS = {"all": None, "ends": torch.arange(T).unsqueeze(1) < LENGTHS}
LABELS = torch.tensor([2, 0, 1, 2])
VALUES = [tasks.Regression(readout, loss) for readout in tasks.READOUTS for loss in ("mse", "mae", "huber")]


@pytest.fixture
def outputs():
    return 2 * torch.randn(T, B, C, dtype=torch.float64)


def steps_of(mask, b):
    return T if mask is None else int(mask[:, b].sum())


def check_slope(task, predicted, expected, loss):
    """Check a slope against autograd of the loss of each sample, also when the batch is another one."""
    free = predicted.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(sum(loss(free[b], expected[b]) for b in range(len(free))), free)
    slope = task.slope(predicted, expected)
    torch.testing.assert_close(slope, -gradient)
    torch.testing.assert_close(task.slope(predicted[:1], expected[:1]), slope[:1])
    assert not slope.requires_grad


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_expected_classes_are_one_hot(outputs, kind, dtype):
    found = tasks.Classification("bce").expected(LABELS.to(kind), outputs.to(dtype))
    assert found.dtype == dtype
    assert found.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_expected_values_and_labels_have_the_form_of_the_reading(outputs):
    y = torch.randn(B)
    task = tasks.Regression()
    one = task.expected(y, outputs[..., :1])
    assert one.dtype == torch.float64
    torch.testing.assert_close(one, y.double().unsqueeze(1))
    several = torch.randn(B, C)
    torch.testing.assert_close(task.expected(several, outputs), several.double())
    sets = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]])
    for given in (sets, sets.bool(), sets.to(torch.uint8)):
        found = tasks.MultiLabel().expected(given, outputs)
        assert found.dtype == torch.float64
        assert found.tolist() == sets.tolist()


def test_expected_values_are_in_the_scale_that_the_network_is_trained_in():
    scale = TargetScale((3.0,), (10.0,))
    y = torch.tensor([-1.0, 0.5])
    assert tasks.Regression().expected(y, torch.zeros(T, 2, 1)).flatten().tolist() == y.tolist()
    assert scale.values(y.unsqueeze(1)).flatten().tolist() == [-7.0, 8.0]


@pytest.mark.parametrize("mask", list(MASKS))
@pytest.mark.parametrize("loss", ["rate", "bce", "count"])
def test_predicted_classes(outputs, loss, mask):
    mask = MASKS[mask]
    found = tasks.Classification(loss).predicted(outputs, mask)
    for b in range(B):
        own = outputs[: steps_of(mask, b), b]
        wanted = {
            "rate": lambda own=own: (own.exp() / own.exp().sum(-1, keepdim=True)).mean(0),
            "bce": lambda own=own: (1 / (1 + (-own).exp())).mean(0),
            "count": lambda own=own: own.sum(0).exp() / own.sum(0).exp().sum(),
        }[loss]()
        torch.testing.assert_close(found[b], wanted)


@pytest.mark.parametrize("mask", list(MASKS))
@pytest.mark.parametrize("readout", tasks.READOUTS)
def test_predicted_values_and_labels(outputs, readout, mask):
    mask = MASKS[mask]
    whole = torch.ones(T, B, dtype=torch.bool) if mask is None else mask
    wanted = slow.reading(outputs, readout, whole)
    torch.testing.assert_close(tasks.Regression(readout).predicted(outputs, mask), wanted)
    torch.testing.assert_close(tasks.MultiLabel(readout).predicted(outputs, mask), 1 / (1 + (-wanted).exp()))


@pytest.mark.parametrize(
    "task",
    [*VALUES, tasks.MultiLabel(), *(tasks.Classification(name) for name in ("rate", "count", "bce"))],
    ids=repr,
)
def test_padding_does_not_count_whatever_stands_there(task, outputs):
    mask = MASKS["ends"]
    spoilt = outputs.masked_fill(~mask.unsqueeze(-1), float("nan")).requires_grad_()
    found = task.predicted(spoilt, mask)
    torch.testing.assert_close(found.detach(), task.predicted(outputs, mask))
    for b, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(found[b].detach(), task.predicted(outputs[:length, b : b + 1])[0])


@pytest.mark.parametrize("loss", ["rate", "count"])
def test_slope_of_cross_entropy(outputs, loss):
    task = tasks.Classification(loss)
    predicted = task.predicted(outputs)
    check_slope(task, predicted, task.expected(LABELS, outputs), lambda p, y: -(y * p.log()).sum())
    soft = torch.rand(B, C, dtype=torch.float64)
    check_slope(task, predicted, soft, lambda p, y: -(y * p.log()).sum())


@pytest.mark.parametrize("task", [tasks.Classification("bce"), tasks.MultiLabel()], ids=repr)
def test_slope_of_binary_cross_entropy(outputs, task):
    targets = LABELS if task.has_classes else torch.nn.functional.one_hot(LABELS, C)
    predicted, expected = task.predicted(outputs), task.expected(targets, outputs)
    check_slope(task, predicted, expected, lambda p, y: -(y * p.log() + (1 - y) * (1 - p).log()).sum() / C)
    check_slope(task, predicted, expected, binary_cross_entropy)
    ends = torch.tensor([[0.0, 0, 1, 1, 0.5, 1e-15, 1 - 1e-15]], dtype=torch.float64)
    wanted = torch.tensor([[0.0, 1, 0, 1, 1, 1, 0]], dtype=torch.float64)
    check_slope(task, ends, wanted, binary_cross_entropy)  # torch's own clamp


@pytest.mark.parametrize("task", VALUES, ids=repr)
def test_slope_of_values(outputs, task):
    predicted = task.predicted(outputs)
    expected = task.expected(torch.randn(B, C), outputs)
    expected[0, 0] = predicted[0, 0]  # no error, where the absolute one has a corner
    check_slope(task, predicted, expected, {"mse": mse_loss, "mae": l1_loss, "huber": huber_loss}[task.loss_name])
    error, slope = expected - predicted, task.slope(predicted, expected)
    if task.loss_name == "mse":
        torch.testing.assert_close(slope, 2 * error / C)
    elif task.loss_name == "mae":
        torch.testing.assert_close(slope, error.sign() / C)
    else:
        torch.testing.assert_close(slope, error.clamp(-1, 1) / C)


def test_slope_needs_no_gradients_switched_on_and_gives_none(outputs):
    task = tasks.Regression()
    predicted = task.predicted(outputs.requires_grad_())
    with torch.no_grad():
        quiet = task.slope(predicted, torch.zeros(B, C, dtype=torch.float64))
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, -2 * predicted.detach() / C)


@pytest.mark.parametrize(
    "task", [tasks.MultiLabel("last"), tasks.Regression("decay", "huber", delta=0.3), tasks.Regression("mean", "mae")]
)
def test_slope_and_prediction_together_are_the_gradient_of_the_loss(outputs, task):
    """The chain rule gives the gradient of the loss of the task; so it does for classes of one step."""
    outputs.requires_grad_()
    mask = MASKS["ends"]
    y = torch.randn(B, C) if task.name == "regression" else torch.randint(2, (B, C))
    check_chain(task, outputs, y, mask)


@pytest.mark.parametrize("loss", ["rate", "count", "bce"])
def test_of_one_step_slope_and_prediction_are_the_gradient_of_the_loss_of_classes(outputs, loss):
    check_chain(tasks.Classification(loss), outputs[:1].clone().requires_grad_(), LABELS, None)


def test_over_many_steps_so_they_are_for_the_count(outputs):
    check_chain(tasks.Classification("count"), outputs.requires_grad_(), LABELS, MASKS["ends"])


def check_chain(task, outputs, targets, mask):
    weights = None if mask is None else tasks.base.step_weights(mask, torch.float64)
    (gradient,) = torch.autograd.grad(task.loss(outputs, targets, weights) * B, outputs)
    predicted = task.predicted(outputs, mask)
    slope = task.slope(predicted.detach(), task.expected(targets, outputs))
    (found,) = torch.autograd.grad(predicted, outputs, -slope)
    torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", [tasks.Classification("bce"), tasks.MultiLabel(), tasks.Classification()], ids=repr)
def test_slopes_are_finite_for_sure_predictions(task, dtype):
    outputs = torch.tensor([[[-1e4, 1e4, 0], [1e4, -1e4, 0]]], dtype=dtype)
    predicted = task.predicted(outputs)
    assert {0.0, 1.0} <= set(predicted.flatten().tolist())
    for expected in (predicted.round(), 1 - predicted.round()):
        slope = task.slope(predicted, expected)
        assert slope.dtype == dtype
        assert torch.isfinite(slope).all()
        assert bool((slope[expected != predicted].sign() * (expected - predicted)[expected != predicted] >= 0).all())


@pytest.mark.parametrize("task", [tasks.Classification("bce"), tasks.Regression(), tasks.MultiLabel()], ids=repr)
def test_one_output_one_sample_and_none(task):
    targets = {"classes": torch.zeros(1).long(), "values": torch.ones(1), "labels": torch.ones(1, 1)}[task.kind]
    one = torch.full((2, 1, 1), 0.5)
    predicted, expected = task.predicted(one), task.expected(targets, one)
    assert predicted.shape == expected.shape == task.slope(predicted, expected).shape == (1, 1)
    assert float(expected) == 1
    assert float(task.slope(predicted, expected)) > 0
    none = one[:, :0]
    predicted, expected = task.predicted(none), task.expected(targets[:0], none)
    assert predicted.shape == expected.shape == task.slope(predicted, expected).shape == (0, 1)


@pytest.mark.parametrize("task", [tasks.Classification("bce"), tasks.Regression(), tasks.MultiLabel()], ids=repr)
def test_shapes_that_do_not_fit_are_refused(task, outputs):
    target = {"classes": LABELS, "values": torch.randn(B, C), "labels": torch.zeros(B, C)}[task.kind]
    with pytest.raises(ShapeError, match="a target for each of the 4 samples"):
        task.expected(target[:1], outputs)
    with pytest.raises(ShapeError, match=r"reads outputs \[T, B, C\]"):
        task.expected(target, outputs[0])
    with pytest.raises(ShapeError, match="one shape"):
        task.slope(task.predicted(outputs), task.expected(target, outputs)[:1])


def test_labels_outside_the_classes_are_refused(outputs):
    with pytest.raises(ShapeError, match="label 3 at position 1"):
        tasks.Classification("bce").expected(torch.tensor([0, 3, 1, 1]), outputs)


class Alone(tasks.ReadOut):
    """A task of one's own that says nothing of predictions."""

    name = "alone"
    loss_of = decided = sums_of = check = metrics = reward = lambda self, *given: None

    def fitted(self, targets, outputs):
        return targets


@pytest.mark.parametrize("task", [tasks.SequenceLabels(), Alone()], ids=["steps", "own"])
def test_tasks_without_an_error_of_each_sample_say_so(task, outputs):
    match = "sequence-labels has a target for every step" if task.name != "alone" else r"task alone .* give Alone the"
    asked = [lambda: task.predicted(outputs), lambda: task.slope(outputs[0], outputs[0])]
    if task.name != "alone":
        asked.append(lambda: task.expected(torch.zeros(B, T).long(), outputs))
    for ask in asked:
        with pytest.raises(UserError, match=match):
            ask()


def test_a_reading_that_is_the_prediction_has_the_slope_of_its_loss(outputs):
    class Cubed(tasks.Regression):
        name = "cubed"

        def loss_of(self, reading, targets):
            return (reading - targets).abs().pow(3).mean(-1)

    check_slope(Cubed(), outputs[0], outputs[1], lambda p, y: (p - y).abs().pow(3).mean())


def test_derived_tasks_with_another_loss_are_refused_where_their_slope_is_not_known(outputs):
    class Sets(tasks.MultiLabel):
        name = "sets"

        def loss_of(self, reading, targets):
            return reading.square().mean(-1)

    class Classes(tasks.Classification):
        name = "own-classes"

        def loss(self, outputs, targets, weights=None):
            return outputs.square().mean()

    for task in (Sets(), Classes()):
        for ask in (lambda task=task: task.predicted(outputs), lambda task=task: task.slope(outputs[0], outputs[0])):
            with pytest.raises(UserError, match=f"the task {task.name} does not state an error"):
                ask()


def smooth(outputs, labels, weights=None, *, smoothing=0.1):
    return torch.nn.functional.cross_entropy(
        outputs.flatten(0, 1), labels.repeat(len(outputs)), label_smoothing=smoothing
    )


@pytest.fixture
def register(request):
    def add(**facts):
        request.addfinalizer(lambda: losses.remove("mine"))
        losses.register("mine", **facts)(smooth)
        return tasks.Classification("mine")

    return add


def test_a_registered_loss_tells_its_link(register, outputs):
    task = register(link="sigmoid")
    torch.testing.assert_close(task.predicted(outputs), outputs.sigmoid().mean(0))
    with pytest.raises(UserError, match=r'loss mine does not tell its slope.*losses\.register\("…", link=…, slope='):
        task.slope(task.predicted(outputs), outputs[0])


def test_a_registered_loss_without_a_link_is_refused(register, outputs):
    with pytest.raises(UserError, match=r'loss mine does not tell its link.*link="softmax"'):
        register().predicted(outputs)


def test_an_unknown_link_is_refused(register, outputs):
    with pytest.raises(UnknownNameError, match="link of the loss mine 'sigmoidal': did you mean 'sigmoid'"):
        register(link="sigmoidal").predicted(outputs)


def test_a_registered_loss_of_the_sum_with_its_slope_and_options(register, outputs):
    task = register(link="softmax", reads="sum", slope=lambda p, y, smoothing=0.1: (1 - smoothing) * y - p)
    predicted = task.predicted(outputs, MASKS["ends"])
    torch.testing.assert_close(predicted, tasks.Classification("count").predicted(outputs, MASKS["ends"]))
    expected = task.expected(LABELS, outputs)
    torch.testing.assert_close(task.slope(predicted, expected), 0.9 * expected - predicted)
    chosen = task.of_loss(functools.partial(smooth, smoothing=0.5))
    torch.testing.assert_close(chosen.slope(predicted, expected), 0.5 * expected - predicted)


def test_a_slope_that_does_not_know_the_options_of_its_loss_is_refused(register, outputs):
    task = register(link="softmax", slope=lambda p, y: y - p).of_loss(functools.partial(smooth, smoothing=0.5))
    with pytest.raises(UserError, match="slope of the loss mine has no argument for its smoothing"):
        task.slope(outputs[0], outputs[0])


def test_a_function_as_the_loss_of_the_method_is_not_taken_for_that_of_the_task(outputs):
    net = models.lif_mlp([4, 8, 3])
    trainer = Trainer(net, method="surrogate", loss=smooth, device="cpu")
    task = task_judged_by(trainer.task, trainer.method)
    for ask in (lambda: task.predicted(outputs), lambda: task.slope(outputs[0], outputs[0])):
        with pytest.raises(UserError, match="loss smooth is a function that does not tell its"):
            ask()
    for loss in ("bce", methods.binary_cross_entropy, tasks.Classification("bce").loss):
        trainer = Trainer(net, method="surrogate", loss=loss, device="cpu")
        found = task_judged_by(trainer.task, trainer.method).predicted(outputs)
        torch.testing.assert_close(found, outputs.sigmoid().mean(0))


def test_classes_that_the_reward_chooses_leave_predictions_as_they_are(outputs):
    own = tasks.Classification("bce").by(None)
    torch.testing.assert_close(own.predicted(outputs), outputs.sigmoid().mean(0))
