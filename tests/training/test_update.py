"""One update from a batch in parts; limits of its size."""

import pytest
import torch

from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.errors import CheckpointError, UserError
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.parallel import SINGLE_WORKER, World
from spikelfp.training.update import fill_gradients

METHODS = {
    "lfp": methods.LFP(rewards.SpikeSequence()),
    "z+z-": methods.LFP(rewards.SpikeSequence(), rules.ZPlusMinus()),
    "surrogate": methods.GradientDescent(rules.Surrogate(slope=5.0)),
}
TOLERANCE = {"rtol": 1e-6, "atol": 1e-14}


class InDoubles(TemporalTrainer):
    """Shows the network float64, unless it is of another kind."""

    def present(self, x):
        return super().present(x.to(next(self.net.parameters()).dtype))


def make(dtype=torch.float64, **options):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.LIF(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10), nn.LIF(threshold=0.5)
    ).to(dtype)
    return InDoubles(net, steps=6, **{"batch_size": 37, "lr": 1e-2, **options})


def digits(count=150):
    return data.load("digits").train.subset(range(count))


def gradients(method, parts, count):
    trainer = make(torch.float64, method=method)
    x, labels = digits().__getitems__(range(count))
    batch = trainer.batch(x, labels)
    seen = fill_gradients(trainer.net, trainer.net, method, batch, of=count, parts=parts, world=SINGLE_WORKER)
    return [p.grad for p in trainer.net.parameters()], seen


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("count", [7, 64])
def test_updates_of_the_parts_add_up_to_that_of_the_batch(method, parts, count):
    whole, seen = gradients(method, 1, count)
    added, seen_in_parts = gradients(method, parts, count)
    for a, b in zip(whole, added, strict=True):
        torch.testing.assert_close(b, a, **TOLERANCE)
    assert any(grad.any() for grad in whole)
    assert int(seen_in_parts.correct) == int(seen.correct)
    assert {k: float(v) for k, v in seen_in_parts.watched.items()} == pytest.approx(
        {k: float(v) for k, v in seen.watched.items()}
    )


def test_parts_without_samples_change_nothing():
    whole, seen = gradients(METHODS["lfp"], 1, 3)
    added, seen_in_parts = gradients(METHODS["lfp"], 5, 3)
    for a, b in zip(whole, added, strict=True):
        torch.testing.assert_close(b, a, **TOLERANCE)
    assert int(seen_in_parts.correct) == int(seen.correct)


def test_a_worker_without_samples_takes_part_and_changes_nothing():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    nothing, labels = torch.zeros(1, 0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)
    for method in (methods.LFP(rewards.Softmax()), methods.GradientDescent()):
        seen = fill_gradients(net, net, method, methods.Batch(nothing, labels), of=5, parts=1, world=World(0, 2))
        assert seen.correct == 0
        assert {float(value) for value in seen.watched.values()} == {0.0}
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("accumulate", [2, 5, 100])
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_a_run_in_parts_equals_one_of_whole_batches(accumulate, optimizer):
    whole, parts = make(optimizer=optimizer), make(optimizer=optimizer, accumulate=accumulate)
    rows, rows_in_parts = whole.fit(digits(), 2), parts.fit(digits(), 2)
    for a, b in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-12)
    for a, b in zip(rows, rows_in_parts, strict=True):
        assert b == pytest.approx(a, rel=1e-6)


def test_less_memory_is_needed_for_a_batch_in_parts():
    sizes = []
    for accumulate in (1, 8):
        trainer = make(accumulate=accumulate)
        held = 0

        def pack(tensor):
            nonlocal held
            held = max(held, len(tensor.flatten()) if tensor.dim() > 3 else 0)
            return tensor

        x, labels = digits().__getitems__(range(64))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.train_step(x, labels)
        sizes.append(held)
    assert sizes[0] == 8 * sizes[1]


def test_the_norm_of_all_updates_together_is_limited():
    x, labels = digits().__getitems__(range(64))
    free, limited = make(), make(clip_norm=1e-3)
    for trainer in (free, limited):
        trainer.train_step(x, labels)
    norm = torch.cat([p.grad.flatten() for p in free.net.parameters()]).norm()
    assert norm > 2e-3
    for a, b in zip(free.net.parameters(), limited.net.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad * (1e-3 / norm), rtol=1e-3, atol=0)
    loose = make(clip_norm=1e3)
    loose.train_step(x, labels)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(free.net.parameters(), loose.net.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "named"), [({"accumulate": 0}, "accumulate=0"), ({"clip_norm": -1.0}, r"norm to clip to.*-1\.0")]
)
def test_wrong_options_of_an_update_are_named(options, named):
    with pytest.raises(UserError, match=named):
        Trainer(models.mlp([4, 2]), **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clip_norm": 3.0}, r"clip_norm 0\.0, this trainer has 3\.0"),
        ({"lr": 5e-3}, r"optimizer_options .*'lr': 0\.01.*'lr': 0\.005"),
        ({"optimizer": "momentum"}, "optimizer_kind Adam, this trainer has Momentum"),
    ],
)
def test_a_checkpoint_goes_on_with_its_own_settings_only(tmp_path, options, named):
    make().save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=named):
        make(**options).load(tmp_path / "c.pt")


def test_checkpoints_from_before_these_settings_go_on(tmp_path):
    whole = make()
    rows = whole.fit(digits(), 2)
    stopping = make()
    stopping.should_stop = lambda: stopping.position.step >= 3
    stopping.fit(digits(), 2)
    stopping.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    for name in ("optimizer_options", "clip", "clip_norm", "schedule_kind"):
        del content[name]
    del content["tally"]["counts"]
    torch.save(content, tmp_path / "c.pt")
    resumed = make()
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(digits(), 2) == rows
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), resumed.net.parameters(), strict=True))
