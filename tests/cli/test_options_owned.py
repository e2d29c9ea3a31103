"""Options that belong to something that was not chosen are refused; made from what the fields say about themselves."""

import re
from dataclasses import asdict, fields

import pytest
import torch
import yaml

from spikelfp import models, nn, rules
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import encodings
from spikelfp.errors import KeywordError, UserError
from spikelfp.models import ModelSpec
from spikelfp.training.config import GROUPS, RunConfig
from spikelfp.training.mapping import from_mapping
from spikelfp.training.optimizer import optimizers
from spikelfp.training.owners import flag, owner_of
from spikelfp.training.schedule import schedules

EVERY_RUN = {
    "data", "validation", "model", "weight_bits", "method", "reduction", "epochs", "batch_size", "accumulate",
    "optimizer", "weight_decay", "max_weight", "lr", "schedule", "clip", "clip_norm", "seed", "device", "workers",
    "checkpoint_every", "data_dir",
}  # fmt: skip
"""Options that every run uses."""

OWNED = {f.name: f for f in fields(RunConfig) if owner_of(f) is not None}

CHOICES = [
    {},
    {"data": "nmnist"},
    {"weight_bits": 4},
    {"validation": 0.2},
    {"warm_up_steps": 3},
    {"normalize_reward": True},
    {"model": "mlp", "activation": "heaviside"},
    {"model": "mlp", "encoding": "rate", "steps": 4},
    {"model": "mlp", "method": "surrogate"},
    *({"method": name} for name in ("surrogate", "gradient")),
    *({"model": name} for name in models.models),
    *({"rule": name} for name in rules.rules),
    *({"encoding": name} for name in encodings),
    *({"optimizer": name} for name in optimizers),
    *({"schedule": name} for name in schedules),
]
"""Runs, some of which have what an option belongs to and some have not."""


def values(f):
    """Some values of an option that are not its default."""
    kind = str(f.type).split(" | ")[0]
    if f.metadata["names"] is not None:
        found = list(f.metadata["names"])
    elif kind == "str":
        found = ["none"]
    else:
        found = {"bool": [True, False], "int": [2, 3], "float": [0.5, 0.25], "tuple[int, ...]": [(7,)]}[kind]
        found = [3.5] if f.name == "alpha" else found
    return [value for value in found if value != f.default]


def runs(f, having):
    """Runs that choose the option and have, or have not, what it belongs to."""
    for choice in CHOICES:
        if f.name in choice:
            continue
        for value in values(f):
            config = RunConfig(**choice)
            object.__setattr__(config, f.name, value)
            if owner_of(f).holds(config) is having:
                yield choice, value


def test_every_option_has_an_owner_or_is_used_by_every_run():
    assert {f.name for f in fields(RunConfig)} - OWNED.keys() == EVERY_RUN
    assert all(f.metadata["group"] in GROUPS for f in fields(RunConfig))


@pytest.mark.parametrize("name", OWNED)
def test_without_its_owner_an_option_is_refused(name):
    f = OWNED[name]
    found = list(runs(f, having=False))
    assert found, f"no run lacks {owner_of(f).name}"
    for choice, value in found:
        with pytest.raises(UserError) as refused:
            RunConfig(**choice, **{name: value})
        line = str(refused.value)
        lacking = RunConfig(**choice)
        object.__setattr__(lacking, name, value)
        missing = owner_of(f).missing(lacking)
        assert line.startswith((flag(name), f"--no-{flag(name)[2:]}"))
        assert f"belongs to {missing.name}, but this run has " in line
        assert all(flag(decides) in line or f"--no-{flag(decides)[2:]}" in line for decides in missing.decides)
        assert "\n" not in line


@pytest.mark.parametrize("name", OWNED)
def test_with_its_owner_it_is_taken(name):
    f = OWNED[name]
    taken = 0
    for choice, value in runs(f, having=True):
        if f"{name}={value}" == "warm_up=gradient":
            continue  # which spiking networks have not
        assert getattr(RunConfig(**choice, **{name: value}), name) == value
        taken += 1
    assert taken or name == "warm_up"
    if name == "warm_up":
        assert RunConfig(model="mlp", warm_up="gradient", warm_up_steps=2).warm_up == "gradient"


@pytest.mark.parametrize("name", OWNED)
def test_also_at_its_default_if_it_was_given(name):
    f = OWNED[name]
    for choice in CHOICES:
        config = RunConfig(**choice)
        if name in choice or getattr(config, name) is None or owner_of(f).holds(config):
            continue
        written = {**choice, name: f.default}
        assert from_mapping(written, "a file") == config  # nobody said it
        with pytest.raises(UserError, match=f"{flag(name)[2:]}.* belongs to "):
            from_mapping(written, "a file", given={name})


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", ["train", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_command_line_and_files_tell_what_was_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "--gamma 0.25 belongs to --rule gamma, but this run has --rule epsilon" in refused(capsys, "--gamma", "0.25")
    assert "--wake belongs to " in refused(capsys, "--model", "mlp", "--wake")
    (tmp_path / "c.yaml").write_text("loss: rate\n")
    assert "--loss rate belongs to --method surrogate or gradient" in refused(capsys, "--config", "c.yaml")
    assert not (tmp_path / "runs").exists()


def test_a_record_of_a_run_loads_whatever_did_nothing_in_it():
    record = {**asdict(RunConfig(method="surrogate", hidden=(9,))), "reward": "spike-sequence", "rule": "alphabeta"}
    record |= {"alpha": 3.0, "noise": 0.5, "decay_every": 7, "input_levels": 16}  # of other choices
    config = from_mapping(record, "config.yaml", recorded=True)
    assert config == RunConfig(method="surrogate", hidden=(9,))
    with pytest.raises(UserError, match=r"--noise 0\.5 belongs to --model"):
        from_mapping(record, "config.yaml")
    with pytest.raises(UserError, match=r"--alpha 3\.0 belongs to --method lfp"):
        from_mapping(record, "config.yaml", given={"alpha"}, recorded=True)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_what_a_run_chooses_by_itself_is_never_refused(choice):
    config = RunConfig(**choice).resolved(1000, 16)
    assert from_mapping(yaml.safe_load(config.to_yaml()), "config.yaml") == config


@pytest.mark.parametrize("name", models.models)
def test_models_use_what_they_say(name):
    read = set()

    class Spec(ModelSpec):
        def __getattribute__(self, attribute):
            read.add(attribute)
            return super().__getattribute__(attribute)

    spec = Spec(name, (1, 32, 32), 10, hidden=(8,), width=6, heads=2, depth=1)
    read.clear()
    with torch.device("meta"):
        net = models.models[name](spec)
    optional = {f.name for f in fields(ModelSpec)[3:]}
    assert read & optional == {field for field in optional if models.uses(name, field)}
    assert any(isinstance(layer, nn.Neurons) for layer in net.modules()) is models.is_spiking(name)
    assert ("Norm" in repr(net)) is models.normalizes(name)


def test_models_and_rules_of_ones_own():
    @models.models.register("own-spikes", uses=("hidden", "neuron"), spiking=True, normalizes=False)
    def spikes(spec):
        return models.lif_mlp([4, *spec.hidden, spec.classes], **spec.neuron)

    @models.models.register("own-silent")
    def silent(spec):
        return models.mlp([4, 2])

    @rules.rules.register("own-rule")
    def rule(options):
        return rules.Gamma(gamma=options.gamma)

    try:
        config = RunConfig(model="own-spikes", hidden=(3,), beta=0.5, rule="own-rule", gamma=0.1).resolved(100)
        assert (config.steps, config.build((4,), 2)[2].beta) == (25, 0.5)
        for wrong in ({"pool": "avg"}, {"bias": False}, {"rule": "own-rule", "eps": 1e-3}):
            with pytest.raises(UserError, match="belongs to"):
                RunConfig(model="own-spikes", **wrong)
        assert RunConfig(model="own-silent", pool="avg").pool == "avg"  # it does not say what it uses
        with pytest.raises(UserError, match="--steps 5 belongs to"):
            RunConfig(model="own-silent", steps=5)
    finally:
        for registry, name in ((models.models, "own-spikes"), (models.models, "own-silent"), (rules.rules, "own-rule")):
            del registry._entries[name], registry._facts[name]


def test_help_has_sections_owners_and_examples(capsys):
    with pytest.raises(SystemExit):
        run_app(app, "spikelfp", ["train", "--help"])
    text = capsys.readouterr().out
    assert re.findall(r"^Options: (.*):$", text, re.MULTILINE) == list(GROUPS)
    assert "spikelfp train --out runs/mnist --resume" in text
    words = re.sub(r"[-\s]", "", text)
    for f in OWNED.values():
        assert re.sub(r"[-\s]", "", f"; belongs to {owner_of(f).name}") in words


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": float("nan")}, "lr takes a finite number, got nan"),
        ({"clip_norm": float("inf")}, "clip-norm takes a finite number, got inf"),
        ({"hidden": 1.5}, "hidden takes whole numbers, such as 1000,1000, got 1.5"),
        ({"hidden": (3, 0)}, "hidden must be at least 1, got 0"),
        ({"steps": 2.5}, "steps takes a whole number, got 2.5"),
        ({"steps": True}, "steps takes a whole number, got True"),
        ({"learn_beta": 1}, "learn-beta is true or false, got 1"),
        ({"beta": None}, "beta takes a finite number, got None"),
        ({"rule": "alphabeta", "alpha": 0.5}, "alpha must be at least 1, got 0.5"),
        ({"method": "surrogate", "slope": 0}, "slope must be above 0, got 0.0"),
        ({"validation": 1}, "validation must lie in [0, 1), got 1.0"),
        ({"tresh": 1}, "RunConfig has no argument 'tresh': did you mean 'threshold'?"),
    ],
)
def test_absurd_values_are_one_line(options, named):
    with pytest.raises(UserError) as error:
        RunConfig(**options)
    assert str(error.value) == named
    assert isinstance(error.value, KeywordError) is ("tresh" in options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"warm_up_steps": 36}, "--warm-up-steps 36 leaves no update to --method lfp: this run has 36 of them"),
        ({"steps": 9, "chunk": 9}, "--chunk 9 would do nothing: sequences have 9 steps"),
        ({"readout_steps": 40}, "--readout-steps 40 would do nothing: sequences have 25 steps"),
    ],
)
def test_parts_as_long_as_the_whole_are_refused(options, named):
    with pytest.raises(UserError, match=re.escape(named)):
        RunConfig(epochs=3, **options).resolved(1437)
