"""Rewards of padded batches against those of every sample alone, cut to the steps that count."""

import pytest
import torch

from spikelfp import methods, nn, rewards, rules
from spikelfp.errors import ShapeError, UserError
from spikelfp.methods.base import mean_over_steps
from spikelfp.rewards.base import Reward
from spikelfp.rewards.metric import F1Score
from spikelfp.training.update import predict

T, B, C = 8, 7, 4


class Margin(Reward):
    """A user's reward that knows nothing of masks."""

    def reward(self, outputs, target):
        return outputs * target - outputs.mean(-1, keepdim=True)


class PerStep(rewards.FromCallback):
    def __init__(self):
        super().__init__(lambda outputs, labels: (outputs.cumsum(0) > 2).float() - 0.5, convergence="spike-count")


def lengths():
    return torch.tensor([8, 3, 1, 5, 8, 2, 6])


def spikes():
    return (torch.rand(T, B, C, dtype=torch.float64) < 0.5).double()


def ending(steps):
    return torch.arange(T).unsqueeze(1) < steps


def last(steps, count):
    return ending(steps) & (torch.arange(T).unsqueeze(1) >= steps - count)


def scattered():
    mask = torch.rand(T, B) < 0.5
    mask[0] = True
    return mask


MASKS = {"lengths": lambda: ending(lengths()), "last": lambda: last(lengths(), 3), "scattered": scattered}

PER_SAMPLE = {
    "spike-sequence": rewards.SpikeSequence(),
    "v1": rewards.SpikeSequenceV1(),
    "v1-whole": rewards.SpikeSequenceV1(whole_steps=True),
    "softmax": rewards.Softmax(),
    "sigmoid": rewards.Sigmoid(),
    "sign": rewards.Sign(),
    "correct-class": rewards.CorrectClass("spike-count"),
    "false-positive": rewards.FalsePositive("softmax"),
    "callback": rewards.FromCallback(lambda outputs, labels: outputs.sum(0).argmax(-1) == labels),
    "metric-of-scores": rewards.FromMetric(lambda p, y: (p == y).double()),
    "callback-of-steps": PerStep(),
    "user": Margin(),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", PER_SAMPLE)
def test_the_reward_is_that_of_the_steps_that_count_alone(name, kind):
    reward, mask = PER_SAMPLE[name], MASKS[kind]()
    outputs = spikes() if name not in ("softmax", "sigmoid", "false-positive") else torch.randn(T, B, C).double()
    labels = torch.randint(C, (B,))
    found = reward(outputs, labels, mask)
    assert not found[~mask].any()
    for b in range(B):
        alone = reward(outputs[mask[:, b], b : b + 1], labels[b : b + 1])
        torch.testing.assert_close(found[mask[:, b], b], alone[:, 0], rtol=1e-14, atol=1e-15)
    assert found[mask].any()


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_mask_of_all_steps_changes_nothing(name):
    outputs, labels = spikes(), torch.randint(C, (B,))
    everything = torch.ones(T, B, dtype=torch.bool)
    assert torch.equal(PER_SAMPLE[name](outputs, labels, everything), PER_SAMPLE[name](outputs, labels))


@pytest.mark.parametrize("reward", [rewards.SquaredError(), rewards.Huber(0.5), rewards.AbsoluteError()])
def test_regression_is_of_single_steps(reward):
    outputs, targets, mask = torch.randn(T, B, C), torch.rand(B, C), ending(lengths())
    expected = reward(outputs, targets) * mask.unsqueeze(-1)
    assert torch.equal(reward(outputs, targets, mask), expected)


def test_rates_are_of_the_own_steps():
    outputs, rates, mask = spikes(), torch.rand(B, C).double(), ending(lengths())
    found = rewards.SpikeRate()(outputs, rates, mask)
    for b, steps in enumerate(lengths().tolist()):
        expected = rates[b] - outputs[:steps, b].mean(0)
        torch.testing.assert_close(found[:steps, b], expected.expand(steps, C))
        assert not found[steps:, b].any()


def test_a_single_output_is_judged_by_its_own_steps():
    outputs, labels, mask = torch.randn(T, B, 1), torch.randint(2, (B,)), scattered()
    assert torch.equal(rewards.Binary()(outputs, labels, mask), rewards.Binary()(outputs, labels) * mask.unsqueeze(-1))


def test_metrics_of_the_batch_judge_the_predictions_of_the_steps_that_count():
    outputs, labels, mask = spikes(), torch.randint(C, (B,)), ending(lengths())
    own = [outputs[mask[:, b], b].sum(0).argmax(-1) for b in range(B)]
    seen = []

    class Spied(F1Score):
        def counterfactuals(self, predictions, labels, classes):
            seen.append(predictions)
            return super().counterfactuals(predictions, labels, classes)

    found = rewards.FromMetric(Spied())(outputs, labels, mask)
    assert torch.equal(seen[0], torch.stack(own))
    assert torch.equal(found, rewards.F1()(outputs, labels, mask))
    # Spikes at their own steps as before, and none elsewhere: with as many steps for all the rest is a plain reward.
    judged = rewards.F1().global_reward(outputs * mask.unsqueeze(-1), labels)
    count, half = (outputs * mask.unsqueeze(-1)).sum(0), lengths().unsqueeze(-1) / 2
    on = (count - half).sigmoid()
    expected = judged * torch.where(judged > 0, 1 - on, on)
    torch.testing.assert_close(found, expected.expand(T, B, C) * mask.unsqueeze(-1))


LEVENSHTEIN = [
    {"window": 1},
    {"window": 1, "collapse": True},
    {"window": 1, "collapse": True, "blank": 0},
    {"window": 2, "blank": 0},
    {"window": 2, "convergence": "none", "magnitude": False},
]


@pytest.mark.parametrize("options", LEVENSHTEIN)
@pytest.mark.parametrize("kind", ["lengths", "last"])
def test_sequences_of_symbols_end_where_the_steps_end(options, kind):
    window = options["window"]
    reward = rewards.Levenshtein(**options)
    steps = torch.tensor([8, 4, 2, 6, 8, 2, 6])
    mask = ending(steps) if kind == "lengths" else last(steps, 4)
    for outputs in (spikes(), torch.randn(T, B, C).double()):
        targets = torch.randint(1, C, (B, 4))
        for b, length in enumerate([4, 0, 1, 2, 3, 4, 2]):
            targets[b, length:] = -1
        found, decoded = reward(outputs, targets, mask), reward.decode(outputs, mask)
        distances = reward.distance(outputs, targets, mask)
        assert not found[~mask].any()
        for b in range(B):
            own, target = outputs[mask[:, b], b : b + 1], targets[b : b + 1]
            alone = reward(own, target)
            torch.testing.assert_close(found[mask[:, b], b], alone[:, 0], rtol=1e-12, atol=1e-12)
            assert decoded[b] == reward.decode(own)[0]
            assert distances[b] == reward.distance(own, target)[0]
        assert found.any()
    assert window == reward.window


@pytest.mark.parametrize("single", [True, False])
def test_any_metric_of_windows_finds_no_symbol_behind_the_end(single):
    steps = torch.tensor([8, 4, 2, 6, 8, 2, 6])
    mask, outputs, labels = ending(steps), torch.randn(T, B, C).double(), torch.randint(C, (B,))
    seen = []

    def metric(predictions, labels):
        seen.append(predictions)
        right = (predictions == labels) / (steps / 2)
        return right.sum() / B if single else right.sum(0)

    found = rewards.FromMetric(metric, window=2)(outputs, labels, mask)
    ends = torch.arange(T // 2).unsqueeze(1) >= steps // 2
    assert all(torch.equal(predictions < 0, ends) for predictions in seen)
    for b in range(B):
        alone = rewards.FromMetric(lambda p, y: (p == y).double().mean(0), window=2)
        expected = alone(outputs[: steps[b], b : b + 1], labels[b : b + 1])
        torch.testing.assert_close(found[: steps[b], b], expected[:, 0])


def test_a_sequence_that_does_not_divide_into_windows_is_named():
    with pytest.raises(ShapeError, match="the 3 steps of sample 1 do not divide into windows of 2 steps"):
        rewards.Levenshtein(window=2)(spikes(), torch.zeros(B, 2, dtype=torch.int64), ending(lengths() // 2 * 2 + 1))


def test_outputs_are_shaken_only_where_they_count():
    mask, outputs = ending(lengths()), torch.randn(T, B, C)
    seen = []

    def metric(outputs, labels):
        seen.append(outputs)
        return -outputs.square().sum((0, 2))

    found = rewards.Perturbation(metric, sigma=0.1, pairs=2)(outputs, torch.zeros(B), mask)
    assert len(seen) == 4
    assert not any(shaken[~mask].any() for shaken in seen)
    assert not found[~mask].any()
    assert found[mask].all()


@pytest.mark.parametrize(
    "mask", [torch.ones(T, B), torch.ones(B, T, dtype=torch.bool), torch.ones(T, dtype=torch.bool)]
)
def test_masks_that_do_not_fit_are_named(mask):
    with pytest.raises(ShapeError, match=r"a mask is boolean \[T, B\]"):
        rewards.SpikeSequence()(spikes(), torch.zeros(B, dtype=torch.int64), mask)


def test_predictions_are_of_the_steps_that_count():
    outputs, mask = spikes(), ending(lengths())
    expected = [outputs[: lengths()[b], b].sum(0).argmax() for b in range(B)]
    assert torch.equal(predict(outputs, mask), torch.stack(expected))
    assert not torch.equal(predict(outputs), predict(outputs, mask))
    outputs[~mask] = float("nan")
    assert torch.equal(predict(outputs, mask), torch.stack(expected))


class TestLosses:
    def test_the_loss_is_the_mean_over_own_steps_then_over_the_batch(self):
        outputs, labels, mask = torch.randn(T, B, C).double(), torch.randint(C, (B,)), ending(lengths())
        expected = [
            torch.nn.functional.cross_entropy(outputs[: lengths()[b], b], labels[b].repeat(lengths()[b]))
            for b in range(B)
        ]
        found = self.loss(outputs, labels, mask)
        torch.testing.assert_close(found, torch.stack(expected).mean())

    def loss(self, outputs, labels, mask=None, steps=None, loss=methods.rate_cross_entropy):
        outputs = outputs.clone().requires_grad_()
        method = methods.GradientDescent(loss=loss)
        options = {"mask": mask, "steps": steps} if mask is not None else {}
        return method.backward(outputs * 1, labels, **options)["loss"]

    def test_parts_of_a_sequence_add_up(self):
        outputs, labels, mask = torch.randn(T, B, C).double(), torch.randint(C, (B,)), ending(lengths())
        whole = self.loss(outputs, labels, mask)
        parts = [self.loss(outputs[steps], labels, mask[steps], mask.sum(0)) for steps in (slice(0, 3), slice(3, 8))]
        torch.testing.assert_close(sum(parts), whole)

    def test_a_loss_without_weights_is_refused_by_name(self):
        def own_loss(outputs, labels):
            return outputs.square().mean()

        with pytest.raises(UserError, match=r"the loss own_loss takes no weights \[T, B\]"):
            self.loss(torch.randn(T, B, C), torch.randint(C, (B,)), ending(lengths()), loss=own_loss)
        assert self.loss(torch.randn(T, B, C), torch.randint(C, (B,)), loss=own_loss) > 0


def test_what_lfp_watches_is_a_mean_over_own_steps():
    torch.manual_seed(1)
    net, mask = nn.Sequential(nn.Linear(5, C), nn.LIF()), ending(lengths())
    labels, reward = torch.randint(C, (B,)), rewards.SpikeSequence()
    outputs = net(torch.rand(T, B, 5) * 3)
    seen = methods.LFP(reward).backward(outputs, labels, mask=mask)
    own = [reward(outputs[: lengths()[b], b : b + 1], labels[b : b + 1]) for b in range(B)]
    assert float(seen["reward"]) == pytest.approx(float(torch.stack([r.mean() for r in own]).mean()))
    assert float(seen["reward_magnitude"]) == pytest.approx(float(torch.stack([r.abs().mean() for r in own]).mean()))


def test_means_over_all_steps_are_plain_means():
    values = torch.randn(T, B, C)
    assert torch.equal(mean_over_steps(values), values.mean())
    torch.testing.assert_close(mean_over_steps(values, torch.ones(T, B, dtype=torch.bool)), values.mean())
    torch.testing.assert_close(mean_over_steps(values[:2], None, T), values[:2].mean() * 2 / T)


def test_rules_keep_silent_steps_silent():
    """A reward of 0 behind the end reaches no weight, under every rule."""
    for rule in (rules.Epsilon(), rules.ZPlusMinus(), rules.AlphaBeta(), rules.Gamma()):
        net = nn.Sequential(nn.Linear(5, 6), nn.LIF(), nn.Linear(6, C), nn.LIF())
        x, labels = torch.rand(T, B, 5) * 3, torch.randint(C, (B,))
        grads = []
        for steps in (4, T):
            net.zero_grad()
            with rules.using(net, rule):
                outputs = net(x[:steps])
            mask = (torch.arange(steps) < 4).unsqueeze(1).expand(steps, B)
            methods.LFP(rewards.SpikeSequence(), rule).backward(outputs, labels, mask=mask)
            grads.append([p.grad.clone() for p in net.parameters()])
        for short, long in zip(*grads, strict=True):
            torch.testing.assert_close(long, short, rtol=1e-4, atol=1e-6)
        assert grads[0][0].any()
