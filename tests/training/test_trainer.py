"""The loop: it learns, it goes on bit for bit, it stops where it must."""

import math
import os
import resource
import signal

import pytest
import torch

import spikelfp
from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.errors import CheckpointError, NonFiniteError, SaveError, ShapeError, UserError
from spikelfp.training import TemporalTrainer, Trainer, checkpoint
from spikelfp.training.update import clip_adaptive_, predict


def digits(count=300):
    splits = data.load("digits")
    return splits.train.subset(range(count))


def make(seed=0, hidden=32, **options):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.LIF(), nn.Dropout(0.1), nn.Linear(hidden, 10), nn.LIF())
    return TemporalTrainer(net, steps=8, batch_size=32, **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "method",
    [
        methods.LFP(rewards.SpikeSequence()),
        methods.LFP(rewards.SpikeSequenceV1()),
        methods.GradientDescent(rules.Surrogate()),
    ],
    ids=["lfp", "lfp-v1", "surrogate"],
)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spiking_networks_learn(method, reset):
    splits = data.load("digits")
    trainer = TemporalTrainer(models.lif_mlp([64, 64, 10], reset=reset), steps=10, method=method, lr=5e-3)
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.85


@pytest.mark.parametrize("how", ["sample", "step"])
def test_normalised_rewards_train_though_they_do_not_fade(how):
    """A sample that is learned is rewarded as much as one that is not (A.6.4 per sample), so training ends earlier."""
    splits = data.load("digits")
    method = methods.LFP(rewards.SpikeSequence(), rules.Epsilon(normalize=how))
    trainer = TemporalTrainer(models.lif_mlp([64, 64, 10]), steps=10, method=method, lr=3e-3)
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.75


def test_plain_gradients_do_not_train_spikes():
    net = models.lif_mlp([64, 32, 10])
    with pytest.raises(UserError, match="spikes, whose derivative is 0: plain gradient descent changes no weight"):
        TemporalTrainer(net, steps=8, method=methods.GradientDescent())
    x, labels = next(iter(data.batches(digits(), 8, seed=0, epoch=0)))
    with rules.using(net, rules.Gradient()):
        methods.GradientDescent().backward(net(nn.constant(x, 8)), labels)
    assert not any(p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("method", [None, methods.GradientDescent()], ids=["lfp", "gradient"])
def test_relu_networks_learn_with_the_same_trainer(method):
    splits = data.load("digits")
    trainer = Trainer(models.mlp([64, 64, 10]), method=method, lr=5e-3)
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.9


def test_layers_with_and_without_spikes_mix():
    splits = data.load("digits")
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.LIF(), nn.Linear(64, 10), nn.LIF()
    )
    trainer = TemporalTrainer(net, steps=8)
    trainer.fit(splits.train, 15)
    assert trainer.evaluate(splits.test).accuracy > 0.85


@pytest.mark.parametrize("encoding", ["rate", "latency", "delta"])
def test_encodings_train(encoding):
    trainer = make(encoding=encoding, lr=1e-2)
    history = trainer.fit(digits(), 12)
    assert history[-1]["train_accuracy"] > history[0]["train_accuracy"] + 0.1


@pytest.mark.parametrize("stop_after", [1, 7, 13, 20])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd", "lr": 0.05, "clip": 0.02},
        {"encoding": "rate"},
        {"schedule": "constant"},
        {"workers": 1},
    ],
    ids=["adam", "sgd+clip", "rate", "constant", "workers"],
)
def test_resuming_anywhere_is_bit_for_bit_the_same(tmp_path, options, stop_after):
    whole = make(**options)
    rows = whole.fit(digits(), 2)

    stopping = make(**options)
    stopping.should_stop = lambda: stopping.position.step >= stop_after
    stopping.fit(digits(), 2)
    assert stopping.position.step == stop_after
    stopping.save(tmp_path / "c.pt")

    resumed = make(seed=99, **options)
    torch.rand(17)
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(digits(), 2) == rows
    assert same(whole, resumed)
    a, b = whole.optimizer.state_dict(), resumed.optimizer.state_dict()
    assert a["param_groups"] == b["param_groups"]
    for key, state in a["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(b["state"][key][k])) for k, v in state.items())


def test_a_checkpoint_from_before_the_first_step_starts_the_same_run(tmp_path):
    whole = make()
    whole.save(tmp_path / "c.pt")
    whole.fit(digits(), 1)
    resumed = make(seed=3)
    resumed.load(tmp_path / "c.pt")
    resumed.fit(digits(), 1)
    assert same(whole, resumed)


def test_two_runs_of_one_seed_are_the_same_and_of_two_seeds_are_not():
    runs = []
    for seed in (0, 0, 1):
        runs.append(make(seed=seed))
        runs[-1].fit(digits(), 1)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_evaluation_changes_nothing():
    trainer = make(encoding="rate")
    trainer.fit(digits(), 1)
    weights = [p.clone() for p in trainer.net.parameters()]
    state = torch.get_rng_state()
    next(trainer.net.children()).eval()  # a layer may be in another mode than the network, a frozen BatchNorm say
    modes = [layer.training for layer in trainer.net.modules()]
    first, second = trainer.evaluate(digits()), trainer.evaluate(digits())
    assert first == second
    assert modes == [layer.training for layer in trainer.net.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.net.parameters(), strict=True))


def test_prediction_is_the_class_with_most_spikes():
    spikes = torch.zeros(4, 2, 3)
    spikes[:2, 0, 1] = 1
    spikes[0, 0, 2] = spikes[3, 1, 2] = 1
    assert predict(spikes).tolist() == [1, 2]


def test_checkpoints_hold_tensors_and_plain_data_only(tmp_path):
    trainer = make()
    trainer.fit(digits(), 1)
    trainer.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    assert content["position"] == {"epoch": 1, "batch": 0, "step": 10}


def test_checkpoints_that_do_not_fit_are_refused_and_change_nothing(tmp_path):
    trainer = make()
    trainer.fit(digits(), 1)
    trainer.save(tmp_path / "c.pt")
    other = make(hidden=33)
    before = [p.clone() for p in other.net.parameters()]
    with pytest.raises(CheckpointError, match=r"another model: 1\.weight is \(32, 64\) .* \(33, 64\)"):
        other.load(tmp_path / "c.pt")
    assert all(torch.equal(a, b) for a, b in zip(before, other.net.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="seed 0"):
        TemporalTrainer(trainer.net, steps=8, batch_size=32, seed=5).load(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="optimizer_kind Adam, this trainer has SGD"):
        make(optimizer="sgd").load(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        make().load(tmp_path / "missing.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"PK\x03\x04 nothing", whole[:-1]):
        (tmp_path / "broken.pt").write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"broken\.pt"):
            make().load(tmp_path / "broken.pt")
    torch.save({"some": "thing"}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="format None"):
        make().load(tmp_path / "foreign.pt")


@pytest.mark.parametrize("room", [0, 5_000, 10_000])
def test_a_full_disk_while_saving_keeps_the_previous_checkpoint(tmp_path, room):
    trainer = make()
    trainer.save(tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    assert len(before) > 2 * room
    trainer.fit(digits(), 1)
    # The system itself refuses what goes beyond `room` bytes of a file, as a full disk does.
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(SaveError, match=r"cannot write .*c\.pt: .*what was there before is unchanged"):
            trainer.save(tmp_path / "c.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "c.pt").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["c.pt"]
    make().load(tmp_path / "c.pt")


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_disk_that_fails_late_keeps_the_previous_checkpoint(tmp_path, monkeypatch, fault):
    trainer = make()
    trainer.save(tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    trainer.fit(digits(), 1)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, fault, fail)
    with pytest.raises(SaveError, match="Input/output error"):
        trainer.save(tmp_path / "c.pt")
    monkeypatch.undo()
    assert (tmp_path / "c.pt").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["c.pt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="file"):
        make().save(tmp_path / "file" / "c.pt")


def test_the_first_value_that_is_not_finite_is_named():
    x, y = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    trainer = make()
    trainer.train_step(x, y)
    with torch.no_grad():
        trainer.net[4].weight[3, 5] = math.nan
    with pytest.raises(NonFiniteError, match=r"step 1: the parameter 4\.weight"):
        trainer.train_step(x, y)
    trainer = make()
    with torch.no_grad():
        trainer.net[1].weight.fill_(3e38)
    with pytest.raises(NonFiniteError, match=r"step 0: the output of layer 1 \(Linear\)"):
        trainer.train_step(x, y)
    bad = x.clone()
    bad[2, 0, 3, 4] = math.inf
    with pytest.raises((NonFiniteError, UserError), match=r"inf|finite"):
        make().train_step(bad, y)


def test_wrong_labels_and_images_are_named():
    with pytest.raises(ShapeError, match="label 10"):
        make().train_step(torch.rand(2, 1, 8, 8), torch.tensor([1, 10]))
    with pytest.raises(ShapeError, match="64 input features, got 81"):
        make().train_step(torch.rand(2, 1, 9, 9), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps=0"),
        ({"encoding": "rat"}, "did you mean 'rate'"),
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"schedule": "onecycle"}, "did you mean 'one-cycle'"),
        ({"batch_size": 0}, "batch size"),
        ({"lr": -1.0}, "learning rate"),
        ({"clip": -0.1}, "clipping"),
        ({"device": "gpu"}, "'gpu'"),
        ({"device": "cuda:99"}, "cannot be used here"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(UserError, match=named):
        TemporalTrainer(models.lif_mlp([64, 10]), **options)


def test_reward_and_method_exclude_each_other():
    with pytest.raises(UserError, match="not both"):
        TemporalTrainer(models.lif_mlp([4, 2]), reward=rewards.SpikeSequence(), method=methods.GradientDescent())


def test_any_torch_optimiser_and_schedule_will_do():
    trainer = make(
        optimizer=lambda parameters, lr: torch.optim.RMSprop(parameters, lr),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        lr=1e-3,
    )
    trainer.fit(digits(), 1)
    assert trainer.optimizer.param_groups[0]["lr"] < 1e-4


def test_adaptive_clipping_equals_the_formula():
    weight = torch.nn.Parameter(torch.randn(5, 3, 2))
    weight.grad = torch.randn(5, 3, 2) * torch.tensor([1e-4, 1e-2, 1.0, 10.0, 100.0]).view(5, 1, 1)
    expected = []
    for w, g in zip(weight.detach(), weight.grad, strict=True):
        limit = 0.01 * max(float(w.norm()), 1e-3)
        expected.append(g * (limit / float(g.norm())) if float(g.norm()) > limit else g.clone())
    clip_adaptive_([weight], 0.01)
    torch.testing.assert_close(weight.grad, torch.stack(expected))


def test_public_names_of_the_readme():
    net = models.lif_mlp([64, 32, 10], beta=0.9, threshold=1.0, reset="subtract")
    images, labels = digits().__getitems__(range(16))
    spikes = net(nn.constant(images, steps=25))
    reward = rewards.SpikeSequence()(spikes, labels)
    assert reward.shape == spikes.shape == (25, 16, 10)
    spikelfp.propagate(spikes, reward)
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_checkpoint_errors_are_user_errors():
    assert issubclass(CheckpointError, UserError)
    assert issubclass(SaveError, UserError)
    assert checkpoint.FORMAT == 1


def test_a_number_of_workers_that_would_bring_the_machine_down_is_refused():
    from spikelfp.data.loader import MOST_WORKERS

    net = nn.Sequential(nn.Linear(4, 3), nn.LIF())
    TemporalTrainer(net, workers=MOST_WORKERS)
    with pytest.raises(UserError, match=f"at most {MOST_WORKERS}"):
        TemporalTrainer(net, workers=MOST_WORKERS + 1)
