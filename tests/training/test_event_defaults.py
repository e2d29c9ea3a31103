"""Defaults of event data: what is chosen where nothing is said, what stays as it was said, and what does not fit."""

import numpy as np
import pytest
import yaml

from spikelfp.data.events import EVENT
from spikelfp.errors import UserError
from spikelfp.models import models
from spikelfp.training import event_defaults as module
from spikelfp.training.config import OPTIONS, RunConfig, from_mapping
from spikelfp.training.memory import estimate
from spikelfp.training.run import load_sequences, train


def chosen(**options):
    config = RunConfig(**options).resolved(1000, 2)
    return (config.model.name, config.neuron.beta, config.neuron.reset, config.training.batch_size,
            config.training.lr, config.method.reward.name, config.events.levels)  # fmt: skip


def test_events_have_defaults_of_their_own_and_others_keep_theirs():
    assert chosen(data="nmnist") == ("lif-conv", 0.8, "zero", 32, 5e-3, "count-softmax", 2)
    assert chosen(data="folder:x") == chosen(data="nmnist")
    assert chosen(data="braille", beta=0.8) == ("lif-rnn", 0.8, "subtract", 32, 5e-3, "count-softmax", None)
    assert RunConfig(data="shd").model.options["hidden"] == (512,)
    assert RunConfig(data="nmnist").model.options["pool"] == "avg"
    assert chosen(data="mnist") == ("lif-mlp", 0.9, "subtract", 128, 3e-3, "spike-sequence", None)


def test_what_is_said_stays():
    said = {"beta": 0.9, "reset": "subtract", "batch_size": 128, "lr": 1e-3, "reward": "spike-sequence", "levels": 1}
    assert chosen(data="nmnist", **said) == ("lif-conv", 0.9, "subtract", 128, 1e-3, "spike-sequence", 1)
    assert chosen(data="nmnist", hidden=(30,))[0] == "lif-mlp"
    assert chosen(data="nmnist", model="lif-mlp")[:2] == ("lif-mlp", 0.8)
    assert chosen(data="nmnist", method="f3")[0] == "lif-mlp"
    assert RunConfig(data="nmnist", model="mlp").training.batch_size == 32
    changed = RunConfig(data="mnist").changed(data="nmnist")
    assert (changed.model.name, changed.neuron.beta) == ("lif-mlp", 0.9)


def decays(**options):
    neuron = RunConfig(**options).neuron
    return neuron.beta_start.name, neuron.beta_start.options, neuron.beta


def test_recurrent_networks_on_lines_have_many_time_scales():
    drawn = ("log-uniform", {"beta_low": 0.3, "beta_high": 0.95}, 0.9)
    for options in ({}, {"hidden": (64,), "model": "lif-rnn"}, {"learn_beta": True}, {"method": "surrogate"}):
        assert decays(data="braille", **options) == drawn
    assert decays(data="hdf5:x.h5") == drawn
    assert decays(data="braille", beta=0.9) == ("shared", {}, 0.9)
    assert decays(data="braille", beta_start="shared") == ("shared", {}, 0.8)
    assert decays(data="braille", beta_start="uniform")[1] == {"beta_low": 0.5, "beta_high": 0.99}
    assert decays(data="braille", model="lif-mlp") == ("shared", {}, 0.8)
    assert decays(data="nmnist", model="lif-rnn") == ("shared", {}, 0.8)
    config = RunConfig(data="shd")
    assert from_mapping(OPTIONS.nested(config), "config.yaml", recorded=True) == config
    with pytest.raises(UserError, match=r"--beta 0\.7 belongs to --beta-start shared, equal or gamma"):
        config.changed(beta=0.7)
    assert decays(data="braille", model="lif-rnn", output="li") == (*drawn[:2], 0.8)  # that of the integrators


def test_a_surrogate_gradient_keeps_its_learning_rate():
    config = RunConfig(data="nmnist", method="surrogate").resolved(1000, 2)
    assert (config.model.name, config.neuron.beta, config.training.lr) == ("lif-conv", 0.8, 2e-3)


def test_a_record_is_read_as_it_was_written():
    """Also one of before these defaults, whose values are the general ones."""
    before = OPTIONS.nested(RunConfig(data="mnist"))
    before["data"]["name"] = "nmnist"
    again = from_mapping(before, "config.yaml", recorded=True)
    assert (again.model.name, again.neuron.beta, again.training.batch_size) == ("lif-mlp", 0.9, 128)
    assert not again.model_is_open
    now = RunConfig(data="nmnist")
    assert from_mapping(OPTIONS.nested(now), "config.yaml", recorded=True) == now


def test_help_tells_the_defaults_of_events():
    shown = {slot.option.name: slot.option.automatic for path, slot in OPTIONS.slots().items() if len(path) < 3}
    told = {
        "beta": "0.8 for events",
        "beta_start": "log-uniform, 0.3 to 0.95, for lif-rnn on lines",
        "batch_size": "32 for events",
        "lr": "5e-3 for events",
        "reward": "count-softmax for events",
        "reset": "zero for the events of cameras",
        "model": "lif-conv for cameras and lif-rnn for lines",
        "levels": "2 for cameras",
    }
    for name, words in told.items():
        assert words in shown[name], name
    assert (module.EVENT_BETA, module.EVENT_BATCH, module.EVENT_LR, module.EVENT_LEVELS) == (0.8, 32, 5e-3, 2)


def recordings(folder, width, height):
    random = np.random.default_rng(0)
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        for number in range(4):
            events = np.zeros(120, EVENT)
            events["t"] = np.sort(random.integers(0, 50_000, 120))
            events["x"], events["y"] = random.integers(0, width, 120), random.integers(0, height, 120)
            events["p"] = random.integers(0, 2, 120)
            events["x"][0], events["y"][0] = width - 1, height - 1
            names = ["t", "x"] if height == 1 else ["t", "x", "y", "p"]
            np.savez(folder / kind / f"{number}.npz", **{name: events[name] for name in names})
    return f"folder:{folder}"


@pytest.mark.parametrize(("width", "height", "model"), [(20, 18, "lif-conv"), (12, 20, "lif-mlp"), (30, 1, "lif-rnn")])
def test_the_network_of_a_folder_suits_its_sensor(tmp_path, monkeypatch, width, height, model):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    name = recordings(tmp_path / "mine", width, height)
    _, config = load_sequences(RunConfig(data=name))
    assert config.model.name == model
    _, said = load_sequences(RunConfig(data=name, model="lif-mlp"))
    assert said.model.name == "lif-mlp"


def test_a_folder_of_lines_has_many_time_scales_too(tmp_path, monkeypatch):
    """The sensor of a folder is known when its recordings are read, after the other defaults."""
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    line, camera = (recordings(tmp_path / name, *sides) for name, sides in (("line", (30, 1)), ("camera", (20, 18))))

    def found(name, **options):
        neuron = load_sequences(RunConfig(data=name, **options))[1].neuron
        return neuron.beta_start.name, neuron.beta_start.options, neuron.beta

    drawn = ("log-uniform", {"beta_low": 0.3, "beta_high": 0.95})
    assert (
        found(line)[:2]
        == found(line, model="lif-rnn")[:2]
        == found(line, method="surrogate", hidden=(9,), model="lif-rnn")[:2]
        == drawn
    )
    assert found(line, model="lif-rnn", output="li") == (*drawn, 0.8)
    for name, options in ((line, {"beta": 0.7}), (line, {"model": "lif-mlp"}), (camera, {"model": "lif-rnn"})):
        assert found(name, **options) == ("shared", {}, options.get("beta", 0.8))
    assert found(line, beta_start="uniform")[0] == "uniform"
    assert found(line, beta_start="shared") == ("shared", {}, 0.8)
    said = RunConfig(data=line, beta=0.7)
    assert not said.decays_are_open
    recorded = from_mapping(OPTIONS.nested(RunConfig(data=line)), "config.yaml", recorded=True)
    assert recorded.fitted(True, ()) is recorded


def test_a_run_by_defaults_writes_them_down(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    name = recordings(tmp_path / "mine", 18, 16)
    train(RunConfig(data=name, epochs=1, steps=3, device="cpu"), tmp_path / "run", progress=False)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["model"]["name"] == "lif-conv"
    assert (written["neuron"]["beta"], written["training"]["lr"], written["events"]["levels"]) == (0.8, 5e-3, 2)
    assert written["method"]["reward"] == "count-softmax"


@pytest.mark.parametrize("name", [each for each in models if each not in ("vit", "lif-vit")])
def test_the_memory_of_all_steps_is_counted_for_every_network(name):
    """Also for those without spikes, which see each step as a sample."""
    spec = RunConfig(data="nmnist", model=name).spec((2, 32, 32), 10)
    one, many = (estimate(spec, steps=steps, samples=8).outputs for steps in (1, 300))
    assert many == pytest.approx(300 * one, rel=1e-4)
    assert one > 0


def test_a_network_that_is_too_large_for_its_steps_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    name = recordings(tmp_path / "mine", 34, 34)
    config = RunConfig(data=name, model="resnet18", events_per_step=1, batch_size=6, device="cpu")
    monkeypatch.setattr("spikelfp.training.memory.available", lambda device: 4 << 30)
    with pytest.raises(UserError, match=r"sequences of up to 120 steps would need about \S+ GiB of memory"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
