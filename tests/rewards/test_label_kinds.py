"""Labels of every kind of integers give what int64 gives, in every reward, loss and metric; others are refused."""

import pytest
import torch

from spikelfp import methods, rewards
from spikelfp.errors import ShapeError, UserError
from spikelfp.rewards.edit_distance import edit_distance, edit_distance_counterfactuals
from spikelfp.rewards.metric import F1Score

KINDS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64]
CLASSES, SAMPLES, STEPS = 4, 12, 6
BY_CLASS = {
    **{name: rewards.rewards[name]() for name in rewards.rewards},
    "f1 of a class": rewards.F1(positive=1),
    "a metric": rewards.FromMetric(lambda predictions, labels: (predictions == labels.long()).double()),
    "a metric of a batch": rewards.FromMetric(lambda predictions, labels: float((predictions == labels.long()).sum())),
    "perturbed": rewards.Perturbation(
        lambda outputs, labels: outputs.sum(0).gather(1, labels.long().unsqueeze(1)).mean(),
        pairs=2,
        generator=torch.Generator(),
    ),
    "a callback": rewards.FromCallback(lambda outputs, labels: labels.double()),
}


def spikes(classes=CLASSES):
    return (torch.rand(STEPS, SAMPLES, classes, dtype=torch.float64) < 0.5).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reward", BY_CLASS)
def test_rewards_of_classes(reward, kind):
    reward, outputs, labels = BY_CLASS[reward], spikes(), torch.randint(CLASSES, (SAMPLES,))
    mask = torch.arange(STEPS).unsqueeze(1) < torch.randint(1, STEPS + 1, (SAMPLES,))
    for arguments in ((), (mask,)):
        found = []
        for given in (labels, labels.to(kind)):
            if getattr(reward, "generator", None) is not None:
                reward.generator.manual_seed(0)
            found.append(reward(outputs, given, *arguments))
        assert torch.equal(*found)


@pytest.mark.parametrize("kind", [*KINDS, torch.bool])
def test_rewards_of_two_classes(kind):
    labels = torch.randint(2, (SAMPLES,))
    outputs = torch.randn(STEPS, SAMPLES, 1)
    assert torch.equal(rewards.Binary()(outputs, labels.to(kind)), rewards.Binary()(outputs, labels))
    outputs = spikes(2)
    for name in rewards.rewards:
        reward = rewards.rewards[name]()
        assert torch.equal(reward(outputs, labels.to(kind)), reward(outputs, labels))


@pytest.mark.parametrize("kind", [*KINDS, torch.bool])
@pytest.mark.parametrize("loss", list(methods.losses))
def test_losses(loss, kind):
    outputs, labels = torch.randn(STEPS, SAMPLES, CLASSES), torch.randint(2, (SAMPLES,))
    weights = torch.rand(STEPS, SAMPLES)
    loss = methods.losses[loss]
    assert torch.equal(loss(outputs, labels.to(kind)), loss(outputs, labels))
    assert torch.equal(loss(outputs, labels.to(kind), weights), loss(outputs, labels, weights))


@pytest.mark.parametrize("kind", [torch.int8, torch.int16, torch.int32])
def test_rewards_and_distances_of_sequences(kind):
    outputs, targets = spikes(), torch.randint(1, CLASSES, (SAMPLES, 3))
    targets[::2, 2] = -1
    reward = rewards.Levenshtein(window=2, collapse=True, blank=0)
    assert torch.equal(reward(outputs, targets.to(kind)), reward(outputs, targets))
    assert torch.equal(reward.distance(outputs, targets.to(kind)), reward.distance(outputs, targets))
    said = reward.predictions(outputs)
    assert torch.equal(edit_distance(said, targets.to(kind)), edit_distance(said, targets))
    few = edit_distance_counterfactuals(said, targets.to(kind), CLASSES)
    assert torch.equal(few, edit_distance_counterfactuals(said, targets, CLASSES))


def test_targets_that_cannot_end_are_as_long_as_they_are():
    targets = torch.randint(1, CLASSES, (SAMPLES, 3))
    reward, outputs = rewards.Levenshtein(), spikes()
    assert torch.equal(reward(outputs, targets.to(torch.uint8)), reward(outputs, targets))


@pytest.mark.parametrize("kind", KINDS)
def test_scores(kind):
    predictions, labels = torch.randint(CLASSES, (SAMPLES,)), torch.randint(CLASSES, (SAMPLES,))
    score = F1Score()
    assert torch.equal(score(predictions, labels.to(kind)), score(predictions, labels))
    few = score.counterfactuals(predictions, labels.to(kind), CLASSES)
    assert torch.equal(few, score.counterfactuals(predictions, labels, CLASSES))


@pytest.mark.parametrize("classes", [200, 300, 70_000])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16])
def test_more_classes_than_the_kind_has_numbers(kind, classes):
    labels = torch.tensor([0, 99, 127])
    outputs = torch.randn(2, 3, classes)
    for reward in (rewards.Softmax(), rewards.SpikeSequence()):
        assert torch.equal(reward(outputs, labels.to(kind)), reward(outputs, labels))
    assert torch.equal(*(methods.losses["rate"](outputs, each) for each in (labels, labels.to(kind))))


@pytest.mark.parametrize(
    ("kind", "wrong"), [(torch.uint8, 255), (torch.int8, -1), (torch.int32, 4), (torch.uint16, 65535)]
)
@pytest.mark.parametrize("reward", [name for name in BY_CLASS if name in rewards.rewards])
def test_a_label_outside_the_classes_is_named(reward, kind, wrong):
    labels = torch.tensor([0, 1, wrong, *[0] * (SAMPLES - 3)]).to(kind)
    with pytest.raises(ShapeError, match=rf"label {wrong} at position 2 is outside the classes 0\.\.3"):
        BY_CLASS[reward](spikes(), labels)
    for name in methods.losses:
        with pytest.raises(ShapeError, match=f"label {wrong} at position 2"):
            methods.losses[name](spikes(), labels)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_labels_that_are_no_integers_are_refused_though_they_are_whole(kind):
    """They may be the targets of a regression, and the reward the wrong one."""
    labels = torch.ones(SAMPLES).to(kind)
    for reward in (rewards.Softmax(), rewards.SpikeSequence(), rewards.F1(), rewards.Binary()):
        with pytest.raises(ShapeError, match=r"integers.*labels\.long\(\) if they are classes"):
            reward(spikes(1 if isinstance(reward, rewards.Binary) else CLASSES), labels)
    with pytest.raises(ShapeError, match="integers"):
        methods.losses["rate"](spikes(), labels)


@pytest.mark.parametrize("reward", BY_CLASS.values(), ids=BY_CLASS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.int64, torch.complex64])
def test_outputs_that_are_no_floats_are_refused(reward, kind):
    """In uint8, 0 − 1 is 255."""
    with pytest.raises(ShapeError, match=f"takes dense outputs of floating-point numbers, got {kind}"):
        reward(spikes().to(kind), torch.zeros(SAMPLES, dtype=torch.int64))


def test_sparse_outputs_are_refused():
    with pytest.raises(ShapeError, match=r"got torch.float64, sparse_coo: outputs.to_dense\(\)"):
        rewards.SpikeSequence()(spikes().to_sparse(), torch.zeros(SAMPLES, dtype=torch.int64))


@pytest.mark.parametrize("name", sorted(methods.losses))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.zeros(SAMPLES, CLASSES, dtype=torch.int64)}, r"labels \[B\], got"),
        ({"labels": torch.zeros(SAMPLES - 1, dtype=torch.int64)}, r"labels \[B\], got"),
        ({"labels": [0] * SAMPLES}, "labels as a tensor"),
        ({"outputs": torch.zeros(SAMPLES, CLASSES)}, r"outputs \[T, B, C\], got"),
        ({"outputs": torch.zeros(STEPS, SAMPLES, CLASSES, dtype=torch.int64)}, "floating-point numbers"),
        ({"weights": torch.ones(SAMPLES)}, r"weights of the loss \w+ are those of steps and samples, .* got \[12\]"),
        ({"weights": torch.ones(CLASSES)}, r"a tensor \[6, 12\] here, got \[4\]; classes have no weights"),
        ({"weights": [1.0]}, "got list"),
    ],
)
def test_losses_refuse_other_shapes(name, change, message):
    """Weights ``[B]`` would be broadcast."""
    given = {"outputs": spikes().float(), "labels": torch.zeros(SAMPLES, dtype=torch.int64)} | change
    with pytest.raises(ShapeError, match=message):
        methods.losses[name](**given)


def test_a_sequence_without_steps_has_no_outcome():
    with pytest.raises(ShapeError, match=r"F1 takes outputs"):
        rewards.F1()(spikes()[:0], torch.zeros(SAMPLES, dtype=torch.int64))


@pytest.mark.parametrize("make", [lambda: rewards.F1("no"), lambda: rewards.FromMetric(float, window=1.5)])
def test_numbers_that_are_none(make):
    with pytest.raises(UserError, match="is a whole number"):
        make()
