"""A checkpoint goes on only in the network and the trainer that wrote it; the first difference is named."""

import copy
import shutil

import pytest
import torch
from reference import PAPER

from spikelfp import data, methods, nn, rewards, rules
from spikelfp.errors import CheckpointError
from spikelfp.options import described
from spikelfp.training import TemporalTrainer, Trainer, checkpoint
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train

TRAIN = data.load("digits").train.subset(torch.arange(64))


def network(**changed):
    torch.manual_seed(0)
    options = {"beta": 0.9, "threshold": 1.0, "alpha": 0.5, "p": 0.1, "slope": 0.1, "pad": 1, "eps": 1e-5} | changed
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=options["pad"]),
        nn.BatchNorm2d(4, eps=options["eps"]),
        nn.LIF(
            options["beta"],
            options["threshold"],
            options.get("reset", "subtract"),
            options.get("denominator", "inflow"),
            floor=options.get("floor", 1),
            margin=options.get("margin", 0.6),
        ),
        options.get("pool", nn.MaxPool2d)(2),
        nn.Flatten(),
        nn.Dropout(options["p"]),
        nn.Linear(64 if options["pad"] else 36, 10),
        nn.Synaptic(options["alpha"]),
    )


def make(net=None, **options):
    return TemporalTrainer(net or network(), **{"steps": 4, "batch_size": 32, "device": "cpu", "wake": False} | options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "c.pt"
    trainer = make()
    trainer.fit(TRAIN, 1)
    trainer.save(path)
    return path


def state(trainer):
    return copy.deepcopy(
        (trainer.net.state_dict(), trainer.optimizer.state_dict(), vars(trainer.position), trainer.history)
    )


def assert_refused(trainer, path, named):
    before = state(trainer)
    with pytest.raises(CheckpointError, match=named) as found:
        trainer.load(path)
    assert "\n" not in str(found.value)
    after = state(trainer)
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True))
    assert before[1]["state"] == after[1]["state"] == {}
    assert before[2:] == after[2:]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"threshold": 0.5}, r"layer 2 is LIF\(.*threshold=1\.0.* in the checkpoint, LIF\(.*threshold=0\.5.* here"),
        ({"beta": 0.8}, r"layer 2 .*beta=0\.9.*beta=0\.8"),
        ({"reset": "zero"}, r"layer 2 .*'subtract'.*'zero'"),
        ({"denominator": "increment"}, r"layer 2 .*'inflow'.*'increment'"),
        (
            {"floor": 0.5},
            r"layer 2 .*floor=1\.0, margin=0\.6\) in.*denominator='inflow', floor=0\.5, margin=0\.6\) here",
        ),
        (
            {"margin": 0.3},
            r"layer 2 .*floor=1\.0, margin=0\.6\) in.*denominator='inflow', floor=1\.0, margin=0\.3\) here",
        ),
        (PAPER, r"layer 2 .*floor=1\.0, margin=0\.6\) in.*denominator='inflow'\) here"),
        ({"alpha": 0.7}, r"layer 7 .*alpha=0\.5.*alpha=0\.7"),
        ({"p": 0.3}, r"layer 5 .*p=0\.1.*p=0\.3"),
        ({"eps": 1e-3}, r"layer 1 .*eps=1e-05.*eps=0\.001"),
        ({"pool": nn.AvgPool2d}, r"layer 3 .*MaxPool2d.*AvgPool2d"),
        ({"pad": 0}, "another model"),
    ],
)
def test_other_constants_are_refused(saved, changed, named):
    assert_refused(make(network(**changed)), saved, named)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 5}, "steps 4, this trainer has 5"),
        ({"encoding": "rate"}, "encoding constant, this trainer has rate"),
        ({"reward": "count-softmax"}, r"SpikeSequence\(\), this trainer has CountSoftmax\(\)"),
        ({"reward": rewards.SpikeSequenceV1(whole_steps=True)}, r"SpikeSequenceV1\(whole_steps=True\)"),
        ({"rule": "gamma"}, r"the rule of layer 0 is Epsilon\(.*\) in the checkpoint, Gamma\(.*\) here"),
        (
            {"rule": rules.Epsilon(0.1)},
            r"the rule of layer 0 is Epsilon\(constant_statistics=False\).*Epsilon\(eps=0\.1, constant_statist",
        ),
        ({"method": "surrogate"}, "method lfp, this trainer has surrogate"),
        ({"schedule": None}, "schedule_name one-cycle, this trainer has constant"),
        ({"lr": 0.1}, "'lr': 0.003"),
        ({"optimizer": "sgd"}, "optimizer_kind Adam, this trainer has SGD"),
        ({"max_weight": 2.0}, "max_weight None, this trainer has 2.0"),
        ({"clip": 0.1}, "clip 0.0, this trainer has 0.1"),
        ({"seed": 4}, "seed 0, this trainer has 4"),
        ({"batch_size": 16}, "batch_size 32, this trainer has 16"),
    ],
)
def test_other_settings_are_refused(saved, options, named):
    assert_refused(make(**options), saved, named)


def test_a_rule_of_a_layer_is_part_of_it(saved):
    net = network()
    net[6].rule = rules.Gamma(gamma=0.5)
    assert_refused(make(net), saved, r"the rule of layer 6 is Epsilon\(.*Gamma\(gamma=0\.5\)")


def test_what_changes_nothing_of_the_result_is_free(saved):
    for options in ({"accumulate": 2}, {"workers": 1}, {"progress": True}, {"wake": True}):
        make(**options).load(saved)


def test_a_decay_that_learns_is_no_constant(tmp_path):
    def learning(beta=0.9):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LIF(beta, learn_beta=True))
        return make(net)

    trainer = learning()
    trainer.fit(TRAIN, 1)
    assert float(trainer.net[2].decay.detach()) != pytest.approx(0.9, abs=1e-6)
    trainer.save(tmp_path / "c.pt")
    learning().load(tmp_path / "c.pt")
    fixed = make(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LIF()))
    assert_refused(fixed, tmp_path / "c.pt", "2.decay")


def test_older_checkpoints_still_load(saved, tmp_path):
    content = torch.load(saved, weights_only=True)
    known = (
        "format", "weights", "optimizer", "schedule", "schedule_kind", "method", "optimizer_kind", "optimizer_options",
        "clip", "clip_norm", "seed", "batch_size", "quantization", "chunk", "readout_steps", "total_steps", "position",
        "history", "random",
    )  # fmt: skip
    old = {name: content[name] for name in known}
    old["tally"] = {name: value for name, value in content["tally"].items() if name != "classified"}
    torch.save(old, tmp_path / "old.pt")
    trainer = make()
    trainer.load(tmp_path / "old.pt")
    assert trainer.position.epoch == 1
    trainer.fit(TRAIN, 2)
    assert trainer.position.epoch == 2


def test_checkpoints_that_counted_right_classes_still_load(saved, tmp_path):
    """Checkpoints of the end of an epoch have seen no samples of the next one, those within it have."""
    content = torch.load(saved, weights_only=True)
    assert not content["tally"]["samples"]
    kept = ("samples", "batches", "sums", "counts", "density", "density_looks")
    known = {name: content["tally"][name] for name in kept}
    for samples, score in ((0, {}), (8, {"samples": 8, "correct": 3})):
        content["tally"] = {**known, "samples": samples, "correct": 3 if samples else 0, "classified": True}
        torch.save(content, tmp_path / "old.pt")
        trainer = make()
        trainer.load(tmp_path / "old.pt")
        assert trainer.tally.score == score


def test_weights_alone_are_no_state_of_training(tmp_path):
    checkpoint.write(tmp_path / "w.pt", {"weights": network().state_dict()})
    assert_refused(make(), tmp_path / "w.pt", "weights alone")
    checkpoint.load_weights(tmp_path / "w.pt", network())


def test_methods_are_compared_by_what_they_were_made_with(tmp_path):
    def trainer(slope=25.0, steps=2):
        warm = methods.GradientDescent(rules.Surrogate(slope=slope))
        return make(method=methods.WarmUp(warm, methods.LFP(rewards.SpikeSequence()), steps))

    trainer().save(tmp_path / "c.pt")
    trainer().load(tmp_path / "c.pt")
    assert_refused(trainer(slope=5.0), tmp_path / "c.pt", r"first .*Surrogate\(\).*Surrogate\(slope=5\.0\)")
    assert_refused(trainer(steps=3), tmp_path / "c.pt", "method surrogate for 2 steps, then lfp")


def test_a_static_trainer_compares_as_well(tmp_path):
    def trainer(**options):
        torch.manual_seed(0)
        return Trainer(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), device="cpu", **options)

    trainer().save(tmp_path / "c.pt")
    assert_refused(trainer(reward="sigmoid"), tmp_path / "c.pt", r"Softmax\(\), this trainer has Sigmoid\(\)")


CONFIG = {"data": "digits", "hidden": (8,), "steps": 3, "epochs": 1, "batch_size": 500, "device": "cpu"}


def test_a_run_is_extended_and_its_constants_are_checked(tmp_path):
    said = []
    train(RunConfig(**CONFIG), tmp_path / "run", progress=False)
    summary = train(
        RunConfig(**CONFIG | {"epochs": 3}), tmp_path / "run", resume=True, progress=False, echo=said.append
    )
    assert summary["epochs"] == 3
    assert any("a new one follows over the 6 steps" in line for line in said)
    assert "epochs: 3\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 4
    with pytest.raises(Exception, match="epochs 3 → 2"):
        train(RunConfig(**CONFIG | {"epochs": 2}), tmp_path / "run", resume=True, progress=False)
    for change, named in (
        (("threshold: 1.0", "threshold: 0.5"), r"threshold=1\.0.*threshold=0\.5"),
        (("beta: 0.9", "beta: 0.7"), r"beta=0\.9.*beta=0\.7"),
        (("steps: 3\n", "steps: 9\n"), r"steps 3, .*config\.yaml has 9"),
    ):
        other = tmp_path / "other"
        shutil.copytree(tmp_path / "run", other)
        text = (other / "config.yaml").read_text()
        assert change[0] in text
        (other / "config.yaml").write_text(text.replace(*change))
        with pytest.raises(CheckpointError, match=named):
            load_run(other)
        shutil.rmtree(other)
    assert load_run(tmp_path / "run").config.epochs == 3


def test_a_refused_extension_leaves_the_folder_as_it_was(tmp_path):
    config = RunConfig(**CONFIG | {"epochs": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikelfp.training.trainer.add_up", lambda seen, stop, world, device: True)
        with pytest.raises(Exception, match="stopped after 1 steps"):
            train(config, tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match="cannot be stretched"):
        train(RunConfig(**CONFIG | {"epochs": 4}), tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_warm_up_is_told_as_in_earlier_versions():
    """Checkpoints compare it: it was plain gradient descent by a surrogate then, which is the same."""
    first = RunConfig(warm_up_steps=2).resolved(1000).make_method().first
    assert described(first) == described(methods.GradientDescent(rules.Surrogate()))
    assert described(first) == "GradientDescent(rule=Surrogate())"
