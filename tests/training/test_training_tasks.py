"""Every place that shows a score or a loss follows the task: rows, best epoch, stopping, summary, command, report."""

import csv
import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from parallel_workers import finish, start
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from task_data import KINDS, STEPS, make, samples, splits
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Subset, TensorDataset

from spikelfp import data, models, nn, rewards, rules, tasks
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import TargetScale, datasets
from spikelfp.errors import CheckpointError, ShapeError, UserError
from spikelfp.methods import GradientDescent
from spikelfp.report import write_report
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training import evaluation as early
from spikelfp.training.config import RunConfig
from spikelfp.training.optim import is_best, plateau_metric, ran_out
from spikelfp.training.run import load_run, read_metrics, train
from spikelfp.training.run_folder import RunFolder
from spikelfp.training.update import Tally


def typed(*words):
    """Exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        run_app(app, "spikelfp", list(words))
    return ended.value.code


SCALE = TargetScale((3.0, -1.0), (10.0, 0.25))
SCORES = {name: tasks.tasks[name].score for name in KINDS}


@pytest.mark.parametrize("method", ["lfp", "surrogate"])
@pytest.mark.parametrize("task", KINDS)
def test_it_learns_and_every_row_has_score_and_loss(task, method):
    trainer, own = make(task, method=method), samples(task)
    before = trainer.evaluate(own)
    rows = trainer.fit(own, 6, validation=samples(task, 30, seed=2))
    score = SCORES[task]
    assert {"loss", f"train_{score}", f"validation_{score}", "validation_loss"} <= rows[0].keys()
    assert not any("accuracy" in name for name in rows[0] if score != "step_accuracy" and score != "subset_accuracy")
    after = trainer.evaluate(own)
    assert trainer.task.better(after.score, before.score)
    assert after.loss < before.loss
    assert after.score == after.metrics[score]
    assert rows[-1][f"validation_{score}"] == trainer.evaluate(samples(task, 30, seed=2)).score
    with pytest.raises(UserError, match=f"there is no accuracy without classes: this task has {score}"):
        _ = after.accuracy


def test_evaluation_is_that_of_scikit_learn_in_the_units_of_the_data():
    own = samples("regression", scale=SCALE)
    trainer = make("regression")
    trainer.fit(own, 1)
    read, y = trainer.predict(own), own.labels
    assert trainer.predict(own.images).equal(read)
    assert trainer.predict(own, scores=True).equal(read)
    found = trainer.evaluate(own)
    wanted, predicted = (SCALE.values(each).numpy() for each in (y, read))
    assert found.score == found.metrics["rmse"] == pytest.approx(math.sqrt(mean_squared_error(wanted, predicted)))
    assert found.metrics["mae"] == pytest.approx(mean_absolute_error(wanted, predicted), rel=1e-5)
    assert found.metrics["r2"] == pytest.approx(r2_score(wanted, predicted), rel=1e-5)
    assert found.loss == pytest.approx(mean_squared_error(y.numpy(), read.numpy()), rel=1e-5)
    assert trainer.evaluate(Subset(own, range(90))) == found
    assert trainer.evaluate(DataLoader(own, batch_size=16)) == found
    plain = trainer.evaluate((own.images, y))
    assert plain.metrics["rmse"] == pytest.approx(math.sqrt(mean_squared_error(y.numpy(), read.numpy())), rel=1e-5)


def test_the_rows_of_training_are_in_the_units_of_the_data_too():
    row, own = {}, {}
    for scale, into in ((SCALE, own), (None, row)):
        into |= make("regression", lr=1e-12, schedule=None).fit(samples("regression", scale=scale), 1)[0]
    assert own["loss"] == row["loss"]
    per_output = (samples("regression").labels - make("regression").predict(samples("regression"))).square().mean(0)
    assert row["train_rmse"] == pytest.approx(float(per_output.mean().sqrt()), rel=1e-4)
    assert own["train_rmse"] == pytest.approx(float((per_output * torch.tensor([100, 0.0625])).mean().sqrt()), rel=1e-4)


def test_predictions_by_task():
    labels = make("multi-label").predict(samples("multi-label", 5))
    assert (labels.dtype, labels.shape) == (torch.bool, (5, 3))
    own = samples("sequence-labels", 40)
    trainer = make("sequence-labels")
    steps = trainer.predict(own)
    assert (steps.dtype, steps.shape) == (torch.int64, (40, STEPS))
    counting = torch.arange(STEPS) < own.lengths.unsqueeze(1)
    assert (steps >= 0).equal(counting)
    assert trainer.predict(own, scores=True).argmax(-1)[counting].equal(steps[counting])
    right = (steps == own.labels)[counting].double().mean().item()
    assert trainer.evaluate(own).score == pytest.approx(right)


@pytest.mark.parametrize("readout", tasks.READOUTS)
def test_readout_of_a_trainer_is_that_of_the_outputs(readout):
    own, trainer = samples("regression", 20), make("regression", task=tasks.Regression(readout))
    with torch.no_grad():
        outputs = trainer.net(nn.constant(own.images, STEPS))
    shares = {"mean": torch.full((STEPS,), 1 / STEPS), "last": torch.eye(STEPS)[-1]}
    shares["decay"] = 0.9 ** torch.arange(STEPS - 1, -1, -1.0)
    share = shares[readout] / shares[readout].sum()
    torch.testing.assert_close(trainer.predict(own), (share.view(-1, 1, 1) * outputs).sum(0))


@pytest.mark.parametrize("task", ["regression", "multi-label", "sequence-labels"])
@pytest.mark.parametrize("method", ["lfp", "surrogate"])
def test_parts_of_a_batch_add_up_and_chunks_evaluate_as_the_whole(task, method):
    whole, parts = make(task, method=method), make(task, method=method, accumulate=3)
    own = samples(task)
    x, y = own.__getitems__(range(10))
    seen, seen_in_parts = whole.train_step(x, y), parts.train_step(x, y)
    for name, value in seen.score.items():
        torch.testing.assert_close(seen_in_parts.score[name].double(), value.double(), rtol=1e-5, atol=1e-6)
    for p, other in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-4, atol=1e-7)
    chunked = make(task, method=method, chunk=2)
    found, expected = chunked.evaluate(own), make(task, method=method).evaluate(own)
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_a_chunk_is_rewarded_as_its_steps_weigh():
    """Two chunks of one sequence whose state does not matter: the sum of their updates is a weighted one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2))
    x, y = torch.randn(1, 5, 3), torch.randn(1, 2)
    own = data.SequenceArrays(x, y, kind="values")
    grads = []
    for method in ("lfp", "gradient"):
        trainer = TemporalTrainer(
            net, task="regression", method=method, chunk=2, steps=None, device="cpu", schedule=None, lr=1e-12
        )
        trainer.train_step(*own.__getitems__([0]))
        grads.append([p.grad.clone() for p in net.parameters()])
        expected = [torch.zeros_like(p) for p in net.parameters()]
        for begin, share in ((0, 2 / 5), (2, 2 / 5), (4, 1 / 5)):
            net.zero_grad()
            with rules.lending(net, rules.Gradient()):
                read = net(x[0, begin : begin + 2].unsqueeze(1)).mean(0)
                ((read - y).square().mean() * share).backward()
            expected = [total + p.grad for total, p in zip(expected, net.parameters(), strict=True)]
        factor = [p.detach().abs() if method == "lfp" else 1 for p in net.parameters()]
        for found, total, size in zip(grads[-1], expected, factor, strict=True):
            torch.testing.assert_close(found, total * size, rtol=1e-4, atol=1e-6)


def test_the_last_step_in_chunks_is_the_last_of_the_sequence():
    own = samples("regression", 16)
    for method in ("lfp", "surrogate"):
        trainer = make("regression", method=method, task=tasks.Regression("last"), chunk=5)
        seen = trainer.train_step(own.images, own.labels)
        read = make("regression").net(nn.constant(own.images, STEPS))[-1].detach()
        assert float(seen.score["squares"].sum()) == pytest.approx(float((read - own.labels).square().sum()), rel=1e-4)
    with pytest.raises(UserError, match="train without chunks"):
        make("regression", task=tasks.Regression("decay"), chunk=2)


def test_the_smallest_error_is_the_best_epoch():
    rows = [{"validation_rmse": value} for value in (3.0, 2.0, 2.5, 2.0, 2.2)]
    best = [is_best(rows[: n + 1], tasks.Regression()) for n in range(5)]
    assert best == [True, True, False, True, False]
    accuracies = [{"validation_accuracy": value} for value in (0.3, 0.2, 0.25)]
    assert [is_best(accuracies[: n + 1], tasks.Classification()) for n in range(3)] == [True, False, False]
    assert not is_best([{"train_rmse": math.nan}], tasks.Regression())
    assert is_best([{"train_rmse": 2.0}, {"train_rmse": 1.0}], tasks.Regression())
    assert not ran_out(rows[:3], 2, tasks.Regression())
    assert ran_out(rows[:4], 2, tasks.Regression())  # an equal one is no better
    assert not ran_out(rows[:2], 1, tasks.Regression())
    with pytest.raises(UserError, match="looks at a validation rmse"):
        ran_out([{"train_rmse": 1.0}], 1, tasks.Regression())


def test_training_stops_when_the_error_has_not_fallen():
    trainer = make("regression", lr=1e-12, schedule=None)
    rows = trainer.fit(samples("regression"), 9, validation=samples("regression", 20), patience=2)
    assert trainer.stopped_early
    assert len(rows) < 9
    with pytest.raises(UserError, match="looks at a validation rmse"):
        make("regression").fit(samples("regression"), 2, patience=1)


def test_a_plateau_looks_at_the_score():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    falls, rises = ReduceLROnPlateau(optimizer), ReduceLROnPlateau(optimizer, mode="max")
    row, regression = {"validation_rmse": 3.0, "train_rmse": 2.0, "loss": 9.0}, tasks.Regression()
    assert (plateau_metric(falls, row, regression), plateau_metric(rises, row, regression)) == (3.0, -3.0)
    assert plateau_metric(falls, {"train_rmse": 2.0, "loss": 9.0}, regression) == 9.0
    accuracy = {"validation_accuracy": 0.75}
    assert plateau_metric(falls, accuracy, tasks.Classification()) == 0.25
    with pytest.raises(UserError, match="looks at the rmse or a falling loss"):
        plateau_metric(rises, {"loss": 1.0}, regression)


@pytest.mark.parametrize("task", KINDS)
def test_it_goes_on_from_the_middle_of_an_epoch(task, tmp_path):
    own = samples(task)
    whole = make(task)
    rows = whole.fit(own, 2)
    stopped = make(task, should_stop=lambda: stopped.position.step == 3)
    stopped.fit(own, 2)
    stopped.save(tmp_path / "c.pt")
    other = make(task)
    other.load(tmp_path / "c.pt")
    assert other.fit(own, 2) == rows
    for p, expected in zip(other.net.parameters(), whole.net.parameters(), strict=True):
        assert p.equal(expected)
    changed = make(task, task=tasks.Regression("last")) if task == "regression" else make("regression")
    with pytest.raises(CheckpointError):
        changed.load(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    first = next(name for name in content["tally"]["score"] if name != "samples")
    del content["tally"]["score"][first]
    torch.save(content, tmp_path / "torn.pt")
    with pytest.raises(CheckpointError, match="holds sums"):
        make(task).load(tmp_path / "torn.pt")


def test_sums_of_the_first_versions_are_read():
    old = {"samples": 20, "batches": 2, "correct": 5, "sums": {"reward": 3.0}, "density": 0.0, "density_looks": 0}
    assert Tally.of(old).means(tasks.Classification()) == {"reward": 1.5, "train_accuracy": 0.25}
    assert Tally.of(old | {"classified": False}).means(tasks.Classification()) == {"reward": 1.5}


WORKER = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from task_data import KINDS, make, samples
from spikelfp.training import joined

torch.set_num_threads(1)
with joined("cpu") as world:
    for task in KINDS:
        trainer = make(task, torch.float64, world=world)
        rows = trainer.fit(samples(task, 49), 2, validation=samples(task, 21, seed=3))  # the last batch has one sample
        found = trainer.evaluate(samples(task, 50))
        left = {"weights": trainer.net.state_dict(), "rows": rows, "metrics": found.metrics, "loss": found.loss}
        torch.save(left, f"{sys.argv[2]}/{task}-{world.rank}.pt")
"""


@pytest.mark.slow
def test_two_workers_count_as_one(tmp_path):
    here = os.path.dirname(__file__)
    for code, _, errors in finish(start(2, "-c", WORKER, here, str(tmp_path))):
        assert code == 0, errors
    for task in KINDS:
        first, second = (torch.load(tmp_path / f"{task}-{rank}.pt", weights_only=True) for rank in (0, 1))
        assert {name: first[name] for name in ("rows", "metrics", "loss")} == {
            name: second[name] for name in ("rows", "metrics", "loss")
        }
        one = make(task, torch.float64)
        rows = one.fit(samples(task, 49), 2, validation=samples(task, 21, seed=3))
        for row, other in zip(rows, first["rows"], strict=True):
            assert other == pytest.approx(row, rel=1e-6)
        found = one.evaluate(samples(task, 50))
        assert first["metrics"] == pytest.approx(found.metrics, rel=1e-6)
        assert first["loss"] == pytest.approx(found.loss, rel=1e-6)


class TestMistakes:
    X, Y = torch.randn(20, 4), torch.randn(20, 1)

    @staticmethod
    def trainer(outputs=1, readout="li", **options):
        net = models.lif_mlp([4, 8, outputs], readout=readout)
        return TemporalTrainer(net, steps=3, device="cpu", **{"task": "regression", **options})

    @pytest.mark.parametrize(
        ("mistake", "error", "named"),
        [
            (lambda t: t(task=None).fit((t.X, t.Y), 1), ShapeError, 'task="regression" for real values'),
            (lambda t: t().fit((t.X, torch.arange(20) % 2), 1), ShapeError, r'y\.float\(\), or task="classification"'),
            (lambda t: t(2).fit((t.X, t.Y), 1), ShapeError, "let the network have 1"),
            (lambda t: t(readout=None).fit((t.X, t.Y), 1), ShapeError, r"let the network end in nn\.LI\(\)"),
            (lambda t: t(readout=None, loss="mae"), UserError, r"nn\.LI\(\)"),
            (lambda t: t(readout=None, task="multi-label"), UserError, r"reads real values.*nn\.LI\(\)"),
            (lambda t: t(reward="softmax"), UserError, r"Softmax\(\) is for classification"),
            (lambda t: t(method=GradientDescent(rules.Surrogate())), UserError, "a loss of classification"),
            (lambda t: t().evaluate((t.X, torch.arange(20))), ShapeError, "takes real targets"),
            (lambda t: t().evaluate((t.X, torch.randn(20, 2))), ShapeError, "let the network have 2"),
            (lambda t: early.early_readout(t(), (t.X, t.Y)), UserError, "early readout is of classes"),
            (lambda t: t().fit((t.X, t.Y), 1, validation=(t.X, torch.ones(20, 3))), ShapeError, "have 3"),
        ],
    )  # fmt: skip
    def test_are_one_line_with_what_to_do(self, mistake, error, named):
        def make_one(*args, **options):
            return self.trainer(*args, **options)

        make_one.X, make_one.Y = self.X, self.Y
        with pytest.raises(error, match=named) as found:
            mistake(make_one)
        assert "\n" not in str(found.value)

    def test_a_reward_of_values_makes_it_regression(self):
        trainer = self.trainer(task=None, reward=rewards.SquaredError())
        assert trainer.task.name == "regression"
        row = trainer.fit((self.X, self.Y[:, 0]), 1)[0]
        assert {"reward", "train_rmse"} <= row.keys()

    def test_targets_without_columns_in_a_data_set_of_ones_own(self):
        row = self.trainer().fit(TensorDataset(self.X, self.Y[:, 0]), 1, validation=TensorDataset(self.X, self.Y))[0]
        assert {"train_rmse", "validation_rmse"} <= row.keys()


@pytest.fixture(scope="module")
def made():
    """Data sets by name, one for each task."""
    names = []
    for task in KINDS:
        name = f"made-{task}"
        if name not in datasets:
            scale = SCALE if task == "regression" else None
            datasets.register(name, task=task)(lambda data_dir=None, task=task, scale=scale: splits(task, scale))
        names.append(name)
    return names


@pytest.fixture(scope="module")
def runs(made, tmp_path_factory):
    """A run folder of each task."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for task in KINDS:
        steps = {} if task == "sequence-labels" else {"steps": 4}
        config = RunConfig(
            data=f"made-{task}", hidden=(12,), epochs=3, batch_size=32, device="cpu", validation=0.2, lr=0.01, **steps
        )
        train(config, folder / task, progress=False)
        found[task] = folder / task
    return found


class TestRun:
    @pytest.mark.parametrize("task", KINDS)
    def test_files_follow_the_task(self, runs, task):
        folder, score = RunFolder(runs[task]), SCORES[task]
        summary = json.loads(folder.summary.read_text())
        config = yaml.safe_load(folder.config.read_text())
        assert (summary["task"], summary["score"]["name"]) == (task, score)
        assert config["task"]["name"] == task
        assert (config["outputs"], "classes" in config) == (KINDS[task], False)
        assert summary.keys() >= {
            "test_loss",
            f"train_{score}",
            f"validation_{score}",
            "validation_loss",
            "spike_rates",
        }
        assert "test_accuracy" not in summary
        loaded = load_run(runs[task])
        tested = loaded.trainer().evaluate(loaded.splits().test)
        assert summary["score"]["value"] == tested.score
        assert summary["test_loss"] == tested.loss
        assert ("rmse" in summary) == (task == "regression")
        with open(folder.metrics) as file:
            columns = next(csv.reader(file))
        assert {"loss", f"train_{score}", f"validation_{score}", "validation_loss"} <= set(columns)

    @pytest.mark.parametrize("task", KINDS)
    def test_the_best_checkpoint_is_that_of_the_best_score(self, runs, task):
        rows, score = read_metrics(RunFolder(runs[task])), f"validation_{SCORES[task]}"
        values = [row[score] for row in rows]
        best = min(values) if task == "regression" else max(values)
        loaded = load_run(runs[task], "best")
        assert loaded.trainer().evaluate(loaded.splits().validation).score == pytest.approx(best, rel=1e-6)

    @pytest.mark.parametrize("task", KINDS)
    def test_the_command_line_says_the_score(self, runs, task, capsys):
        assert typed("eval", str(runs[task]), "--json") == 0
        out = capsys.readouterr().out
        found, summary = json.loads(out.splitlines()[-1]), json.loads(RunFolder(runs[task]).summary.read_text())
        assert found["score"] == summary["score"]
        assert f"test {tasks.tasks[task].title} {summary['score']['value']:.4f}" in out
        assert "accuracy" not in out or "accuracy" in tasks.tasks[task].title
        assert typed("eval", str(runs[task]), "--early") == 2
        assert "early readout is of classes" in capsys.readouterr().err

    @pytest.mark.parametrize("task", KINDS)
    def test_the_report_speaks_of_the_score(self, runs, task, tmp_path):
        shutil.copytree(runs[task], tmp_path / "r")
        page = write_report(tmp_path / "r").read_text()
        title = tasks.tasks[task].title
        assert f"test {title}, 40 samples" in page
        assert "<h2>Confusion matrix</h2>" not in page
        seen = {
            "regression": ("Predicted against true", "Furthest off", "predicted output 1", "mean squared error"),
            "multi-label": ("Label by label", "binary cross-entropy"),
            "sequence-labels": ("Confusion matrix", "softmax cross-entropy of each step"),
        }
        for text in seen[task]:
            assert text in page
        RunFolder(tmp_path / "r").summary.unlink()
        assert f"validation {title} after epoch 3" in write_report(tmp_path / "r").read_text()

    def test_the_report_counts_in_the_units_of_the_data(self, runs, tmp_path):
        shutil.copytree(runs["regression"], tmp_path / "r")
        page = write_report(tmp_path / "r").read_text()
        loaded = load_run(runs["regression"])
        test = loaded.splits().test
        read = SCALE.values(loaded.trainer().predict(test)).numpy()
        wanted = SCALE.values(test.labels).numpy()
        error = np.sqrt(((read - wanted) ** 2).mean(0))
        assert f"RMSE: output 0 {error[0]:.3g}, output 1 " in page
        worst = int(((((read - wanted) / wanted.std(0)) ** 2).sum(1)).argmax())
        assert f"<td>{worst:,}</td><td>{wanted[worst, 0]:.4g}</td><td>{read[worst, 0]:.4g}</td>" in page

    def test_exports_are_of_classes(self, runs):
        with pytest.raises(UserError, match="was trained for regression, and exports are compared by the classes"):
            load_run(runs["regression"]).check_classes()

    def test_a_run_goes_on(self, runs, tmp_path, made):
        shutil.copytree(runs["regression"], tmp_path / "r")
        config = load_run(tmp_path / "r").config
        summary = train(config.changed(epochs=5), tmp_path / "r", resume=True, progress=False)
        assert summary["epochs"] == 5
        assert len(read_metrics(RunFolder(tmp_path / "r"))) == 5

    def test_another_task_than_that_of_the_data(self, made, tmp_path, capsys):
        for task, named in (("classification", "say --task regression"), ("multi-label", "say --task regression")):
            words = ["train", "--data", "made-regression", "--task", task, "--out", str(tmp_path / "r"), "--quiet"]
            assert typed(*words) == 2
            assert named in capsys.readouterr().err
        words = ["train", "--task", "regression", "--out", str(tmp_path / "r"), "--quiet"]
        assert typed(*words) == 2
        assert "the targets of digits are classes" in capsys.readouterr().err

    def test_options_of_a_task_belong_to_it(self, made, tmp_path, capsys):
        words = ["train", "--data", "made-regression", "--steps", "3", "--hidden", "4", "--epochs", "1", "--quiet"]
        words += ["--out", str(tmp_path / "r"), "--no-report", "--json"]
        more = ["--readout", "last", "--error", "huber", "--delta", "0.5", "--method", "surrogate"]
        assert typed(*words, *more) == 0
        assert (
            load_run(tmp_path / "r").trainer().task.__repr__() == "Regression(readout='last', loss='huber', delta=0.5)"
        )
        capsys.readouterr()
        assert typed("train", "--readout", "last", "--out", str(tmp_path / "s")) == 2
        assert "--task" in capsys.readouterr().err
        assert typed(*words, "--overwrite", "--output", "lif") == 2
        assert "the outputs of this network are spikes" in capsys.readouterr().err
        assert typed(*words, "--overwrite", "--loss", "count") == 2


class OwnTask(tasks.Regression):
    """How many of the values are within half a unit."""

    score, title, rises, share = "within", "share within 0.5", True, True

    def sums_of(self, reading, targets):
        return {"near": ((reading - targets).abs() < 0.5).all(-1).sum(), **super().sums_of(reading, targets)}

    def metrics(self, sums, scale=None):
        return {"within": float(sums["near"]) / float(sums["samples"]), **super().metrics(sums, scale)} if sums else {}


def test_a_task_of_ones_own():
    trainer = make("regression", task=OwnTask)
    rows = trainer.fit(samples("regression"), 4, validation=samples("regression", 30))
    assert rows[-1]["validation_within"] > rows[0]["validation_within"]
    read = trainer.predict(samples("regression"))
    near = ((read - samples("regression").labels).abs() < 0.5).all(1).double().mean()
    assert trainer.evaluate(samples("regression")).score == pytest.approx(float(near))
    assert "OwnTask()" in repr(trainer)


def test_classification_has_score_loss_and_accuracy():
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    net = models.lif_mlp([4, 8, 3])
    trainer = Trainer(net, device="cpu")
    found = trainer.evaluate((x, y))
    with torch.no_grad():
        outputs = net(x.unsqueeze(0))
    assert found.loss == pytest.approx(float(torch.nn.functional.cross_entropy(outputs[0], y)), rel=1e-5)
    assert found.accuracy == found.score == found.metrics["accuracy"]
    row = trainer.fit((x, y), 1, validation=(x, y))[0]
    assert {"train_accuracy", "validation_accuracy", "validation_loss"} <= row.keys()


@pytest.mark.parametrize("loss", ["rate", "count", "own"])
def test_the_loss_of_a_gradient_method_is_the_one_that_is_told(loss):
    def own(outputs, labels, weights=None):
        return outputs.square().mean() + labels.float().mean()

    x, y = torch.randn(60, 4), torch.arange(60) % 3
    trainer = TemporalTrainer(
        models.lif_mlp([4, 8, 3]), steps=5, method="surrogate", loss=own if loss == "own" else loss, device="cpu"
    )
    with torch.no_grad():
        outputs = trainer.net(nn.constant(x, 5))
    expected = {
        "rate": tasks.classification.rate_cross_entropy,
        "count": tasks.classification.count_cross_entropy,
        "own": own,
    }
    assert trainer.evaluate((x, y)).loss == pytest.approx(float(expected[loss](outputs, y)), rel=1e-5)
