"""Training with recomputation over time: the weights of a plain run, by any trainer; among workers: test_parallel."""

import os
import signal

import pytest
import torch

from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.errors import UserError
from spikelfp.training import TemporalTrainer
from spikelfp.training.config import RunConfig
from spikelfp.training.run import Interrupted, train

METHODS = {
    "lfp": methods.LFP(rewards.SpikeSequence()),
    "z+z-": methods.LFP(rewards.SpikeSequence(), rules.ZPlusMinus()),
    "surrogate": methods.GradientDescent(rules.Surrogate(slope=5.0)),
}


class InDoubles(TemporalTrainer):
    """Shows the network float64, unless it is of another kind."""

    def present(self, x):
        kind = next(self.net.parameters()).dtype
        return super().present(x.to(kind)).to(kind)  # random encodings make float32


def recurrent():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.RecurrentLIF(20), nn.Linear(20, 10), nn.LIF(threshold=0.5))


def make(net=recurrent, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return InDoubles(net().to(dtype), steps=8, batch_size=32, **{"lr": 1e-2, "device": "cpu", **options})


def digits(count=100):
    return data.load("digits").train.subset(range(count))


def assert_same(a, b, tolerance=1e-6):
    before = make().net.state_dict()
    assert any(not torch.equal(w.to(before[name].dtype), before[name]) for name, w in a.net.state_dict().items())
    for name, weight in a.net.state_dict().items():
        torch.testing.assert_close(b.net.state_dict()[name], weight, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("encoding", ["constant", "latency", "rate"])
@pytest.mark.parametrize("method", METHODS)
def test_one_step_of_training_is_that_of_the_plain_run(method, encoding):
    results = []
    for recompute in (0, 3):
        trainer = make(method=METHODS[method], encoding=encoding, recompute=recompute)
        torch.manual_seed(1)
        seen = trainer.train_step(*digits().__getitems__(range(32)))
        results.append(([p.grad for p in trainer.net.parameters()], seen))
    (expected, seen), (found, seen_in_parts) = results
    assert any(grad.any() for grad in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * b.abs().max().item())
    assert int(seen_in_parts.correct) == int(seen.correct)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_ends_with_the_weights_of_the_plain_run(accumulate):
    plain, parts = make(), make(recompute=3, accumulate=accumulate)
    rows, rows_in_parts = plain.fit(digits(), 2), parts.fit(digits(), 2)
    assert_same(plain, parts)
    for a, b in zip(rows, rows_in_parts, strict=True):
        assert b == pytest.approx(a, rel=1e-6)
    found, whole = parts.evaluate(digits()), plain.evaluate(digits())
    assert found.metrics == pytest.approx(whole.metrics)
    assert (found.loss, found.mean_output) == pytest.approx((whole.loss, whole.mean_output))


def test_training_runs_in_parts_and_evaluation_as_a_whole():
    lengths = []

    class Watched(nn.Layer):
        def forward(self, x):
            lengths.append(len(x))
            return x

    trainer = make(
        lambda: nn.Sequential(nn.Flatten(), Watched(), nn.Linear(64, 10), nn.LIF()), encoding="rate", recompute=3
    )
    trainer.train_step(*digits().__getitems__(range(4)))
    assert lengths == [2, 3, 3, 3, 2]  # forward, and backward all but the last part, whose graph was kept
    trainer.evaluate(digits(8))
    assert lengths[5:] == [8]


def test_a_checkpoint_knows_nothing_of_it_and_training_goes_on_bit_for_bit(tmp_path):
    whole = make(recompute=3)
    rows = whole.fit(digits(), 2)
    stopping = make(recompute=3)
    stopping.should_stop = lambda: stopping.position.step >= 3
    stopping.fit(digits(), 2)
    stopping.save(tmp_path / "c.pt")
    resumed = make(recompute=3)
    resumed.load(tmp_path / "c.pt")
    assert resumed.fit(digits(), 2) == rows
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), resumed.net.parameters(), strict=True))
    without = make()
    without.load(tmp_path / "c.pt")
    without.fit(digits(), 2)
    assert_same(without, whole)


@pytest.mark.parametrize("recompute", [0, 3])
def test_silent_layers_are_woken_as_ever(recompute):
    trainer = make(lambda: models.lif_mlp([64, 20, 10]), encoding="latency", recompute=recompute)
    trainer.fit(digits(32), 1)
    assert list(trainer.woken) == ["1"]


def with_batch_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10), nn.LIF())


@pytest.mark.parametrize(
    ("net", "options", "named"),
    [
        (recurrent, {"recompute": -1}, "0 .off. or more, got -1"),
        (recurrent, {"recompute": 8}, "recompute=8 leaves a sequence of 8 steps in one part"),
        (with_batch_norm, {"recompute": 3}, r"layer 2 \(BatchNorm1d\).*recomputed in parts"),
        (
            recurrent,
            {"recompute": 3, "method": methods.LFP(rewards.SpikeSequence(), rules.Epsilon(normalize=True))},
            "follows a rule that divides rewards by the largest one of all steps",
        ),
        (
            lambda: torch.nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LIF()),
            {"recompute": 3},
            "only layers of this package run in parts",
        ),
    ],
)
def test_what_recomputation_cannot_serve_is_refused_before_training(net, options, named):
    with pytest.raises(UserError, match=named):
        make(net, **options)


def test_a_network_that_is_shown_one_step_has_no_parts():
    with pytest.raises(UserError, match="recompute=1 leaves a sequence of 1 step"):
        TemporalTrainer(models.mlp([64, 10]), steps=1, recompute=1)


def test_none_is_off():
    trainer = make(recompute=None)
    assert trainer.runs() is trainer.net


CONFIG = RunConfig(hidden=(16,), steps=9, epochs=2, device="cpu", recompute=3)


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["weights"]


def test_a_run_trains_in_parts_and_goes_on_bit_for_bit(tmp_path):
    train(CONFIG, tmp_path / "whole", progress=False)
    assert "recompute: 3\n" in (tmp_path / "whole" / "config.yaml").read_text()

    def stop(line):
        if line.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(CONFIG, tmp_path / "resumed", progress=False, echo=stop)
    stopped = weights(tmp_path / "resumed")
    train(CONFIG, tmp_path / "resumed", progress=False, resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert any(not torch.equal(stopped[name], weight) for name, weight in whole.items())
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """``spikelfp train`` in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", *options])
        return stop.value.code, *capsys.readouterr()

    return run


def test_the_command_has_the_option(command, tmp_path):
    quick = ["--hidden", "8", "--steps", "5", "--epochs", "1", "--no-report", "--quiet", "--out", "a"]
    assert command(*quick, "--recompute", "2") == (0, "", "")
    assert "recompute: 2\n" in (tmp_path / "a" / "config.yaml").read_text()
    _, text, _ = command("--help")
    assert "--recompute" in text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "9", "--recompute", "9"], "recompute=9 leaves a sequence of 9 steps in one part"),
        (["--recompute", "-1"], "recompute must be 0 or more, got -1"),
        (["--recompute", "some"], "recompute takes a whole number, got 'some'"),
        (["--recompute", "3", "--normalize-reward"], "divides rewards by the largest one of all steps"),
        (["--recompute", "3", "--model", "lif-vit"], "(TokenNorm) measures mean and variance over all steps"),
        (["--recompute", "3", "--model", "mlp"], "--recompute 3 belongs to sequences of more than one step"),
    ],
)
def test_the_command_names_what_it_cannot_do_in_one_line(options, named, command, tmp_path):
    code, _, errors = command(*options)
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert named in errors
    assert not (tmp_path / "runs").exists()
