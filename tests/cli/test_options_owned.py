"""Options that belong to something that was not chosen are refused; made from what the fields say about themselves."""

import contextlib
import dataclasses
import functools
import inspect
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
import yaml

from spikelfp import models, nn, rules
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import datasets, encodings, load
from spikelfp.errors import KeywordError, RunFolderError, UserError
from spikelfp.methods import LFP, losses, methods
from spikelfp.models import decay_starts
from spikelfp.options import flag, options_in
from spikelfp.rewards import Reward, rewards
from spikelfp.tasks import tasks
from spikelfp.training.config import OPTIONS, RunConfig, from_mapping, task_of
from spikelfp.training.optim import optimizers, schedules
from spikelfp.training.run import train
from spikelfp.training.run_folder import RunFolder, read_config

EVERY_RUN = {
    "data", "task", "validation", "model", "weight_bits", "method", "reduction", "epochs", "batch_size", "accumulate",
    "optimizer", "weight_decay", "max_weight", "lr", "schedule", "clip", "clip_norm", "seed", "device", "workers",
    "checkpoint_every", "data_dir", "weights",
}  # fmt: skip
"""Options that every run uses."""

ALL = {option.name: option for option, _ in OPTIONS.options()}
OWNED = {name: option for name, option in ALL.items() if option.owner is not None}


def view(choice):
    """Options by their names, whether or not they belong to anything."""
    task = {"task": task_of(choice.get("data", "digits"), {})}  # as a run has it where nothing is said
    return OPTIONS.view(OPTIONS.stated({**task, **choice}, "RunConfig"))


CHOICES = [
    {},
    {"data": "blobs"},
    {"data": "nmnist"},
    {"data": "nmnist", "slice": 50.0},
    {"data": "folder:recordings"},
    {"weight_bits": 4},
    {"validation": 0.2},
    {"warm_up_steps": 3},
    {"normalize_reward": True},
    {"rate_target": 0.1},
    {"dropout": 0.25},
    {"model": "lif-conv", "dropout": 0.25},
    {"model": "lif-lenet", "dropout": 0.25},
    {"model": "lif-rnn", "dropout": 0.25},
    {"recompute": 2},
    {"adapt": 0.1},
    {"delays": (0, 2)},
    *({"beta_start": name} for name in decay_starts),
    {"model": "mlp", "activation": "heaviside"},
    {"model": "mlp", "encoding": "rate", "steps": 4},
    {"model": "mlp", "method": "surrogate"},
    *({"method": name} for name in methods),
    *({"method": "f3", "error_memory": memory} for memory in ("class", "hash")),
    {"method": "f3", "model": "mlp"},
    {"method": "dfa", "credit": "surrogate"},
    {"method": "e-prop", "feedback": "adaptive"},
    *({"model": name} for name in models.models),
    *({"rule": name} for name in rules.rules),
    {"data": "csv:table.csv"},
    *({"task": name} for name in tasks),
    {"task": "regression", "error": "huber"},
    *({"encoding": name} for name in encodings),
    *({"reward": name} for name in rewards),
    *({"optimizer": name} for name in optimizers),
    *({"schedule": name} for name in schedules),
]
"""Runs, some of which have what an option belongs to and some have not."""


def values(f):
    """Some values of an option that are not its default."""
    if f.names is not None:
        found = list(f.names)
    elif f.kind in ("str", "path"):
        found = [{"sensor": "346x260", "columns": "x,y,t,p"}.get(f.name, "none")]
    else:
        found = {"bool": [True, False], "int": [2, 3], "float": [0.5, 0.25], "tuple[int, ...]": [(7,)]}[f.kind]
        found = {"alpha": [3.5], "beta_high": [0.75], "first_pixel": [0, 1]}.get(f.name, found)
    return [value for value in found if value != f.default]


def runs(f, having):
    """Runs that choose the option and have, or have not, what it belongs to."""
    for choice in CHOICES:
        if f.name in choice:
            continue
        for value in values(f):
            if f.owner.holds(view({**choice, f.name: value})) is having:
                yield choice, value


def test_every_option_has_an_owner_or_is_used_by_every_run():
    assert ALL.keys() - OWNED.keys() == EVERY_RUN
    assert all(option.help for option in ALL.values()), [name for name, option in ALL.items() if not option.help]


@pytest.mark.parametrize("name", OWNED)
def test_without_its_owner_an_option_is_refused(name):
    f = OWNED[name]
    found = list(runs(f, having=False))
    assert found, f"no run lacks {f.owner.name}"
    for choice, value in found:
        with pytest.raises(UserError) as refused:
            RunConfig(**choice, **{name: value})
        line = str(refused.value)
        missing = f.owner.missing(view({**choice, name: value}))
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
        if name == "credit" and choice.get("method", "lfp") == "lfp" and value not in ("scan", "step", "online"):
            continue  # lfp has those alone
        if choice.get("error_memory") == "hash" and name in ("augment", "encoding"):
            continue  # inputs that are drawn anew are never found again
        if "rate_target" in choice and (name in ("normalize_reward", "recompute") or value == "online"):
            continue  # each refuses the other
        assert getattr(RunConfig(**choice, **{name: value}), name) == value
        taken += 1
    assert taken or name == "warm_up"
    if name == "warm_up":
        assert RunConfig(model="mlp", warm_up="gradient", warm_up_steps=2).warm_up == "gradient"


@functools.cache
def made():
    """The configurations of the choices, each also with a network that is named where none was."""
    configs = [RunConfig(**choice) for choice in CHOICES]
    return [
        (config, RunConfig(**choice, model="lif-mlp") if config.model_is_open else None)
        for choice, config in zip(CHOICES, configs, strict=True)
    ]


@pytest.mark.parametrize("name", OWNED)
def test_also_at_its_default_if_it_was_given(name):
    f = OWNED[name]
    for choice, (config, with_model) in zip(CHOICES, made(), strict=True):
        if name in choice or f.default is None or f.owner.holds(config.flat):
            continue
        if with_model is not None and f.owner.holds(with_model.flat):
            continue  # an option of lif-mlp, where no network was named, chooses it
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
    assert (
        "--loss rate belongs to losses (--method decolle, e-prop, gradient, ottt, pepita or surrogate, or "
        in refused(capsys, "--config", "c.yaml")
    )
    assert not (tmp_path / "runs").exists()


def flat(config):
    """The options as files of earlier versions held them: all of them, side by side."""
    return {name: getattr(config.flat, name) for name in ALL}


def test_a_record_of_a_run_loads_whatever_did_nothing_in_it():
    record = {**flat(RunConfig(method="surrogate", hidden=(9,))), "reward": "spike-sequence", "rule": "alphabeta"}
    record |= {"alpha": 3.0, "noise": 0.5, "decay_every": 7, "input_levels": 16}  # of other choices
    config = from_mapping(record, "config.yaml", recorded=True)
    assert config == RunConfig(method="surrogate", hidden=(9,))
    with pytest.raises(UserError, match=r"--noise 0\.5 belongs to --model"):
        from_mapping(record, "config.yaml")
    with pytest.raises(UserError, match=r"--alpha 3\.0 belongs to rules of LFP \(--method lfp, or "):
        from_mapping(record, "config.yaml", given={"alpha"}, recorded=True)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_what_a_run_chooses_by_itself_is_never_refused(choice):
    config = RunConfig(**choice).resolved(1000, 16)
    assert from_mapping(yaml.safe_load(config.to_yaml()), "config.yaml") == config


@pytest.mark.parametrize("name", models.models)
def test_models_are_what_they_say(name):
    with torch.device("meta"):
        net = models.models[name]((1, 32, 32), 10)
    assert any(isinstance(layer, nn.Neurons) for layer in net.modules()) is models.is_spiking(name)
    assert any(isinstance(layer, nn.Neurons) for layer in net.modules()) is models.takes_neuron(name)
    assert ("Norm" in repr(net)) is models.normalizes(name)


@pytest.mark.parametrize(
    "registry", [models.models, rules.rules, rewards, losses, methods, tasks, optimizers, schedules]
)
def test_every_built_in_thing_can_be_made_with_its_options(registry):
    """Parameters that are no options are what it is called with."""
    for name in registry:
        entry, own = registry[name], options_in(registry, name)
        needed = {
            p.name
            for p in inspect.signature(entry).parameters.values()
            if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        }
        assert needed <= registry.takes | {"reward", "rule"}, name
        assert all(option.help and option.read(option.default) == option.default for option in own.values())


@contextlib.contextmanager
def registered(registry, name, entry, **facts):
    registry.register(name, **facts)(entry)
    try:
        yield
    finally:
        del registry._entries[name], registry._facts[name]


def test_a_model_of_ones_own():
    def spikes(shape, classes, *, hidden: tuple[int, ...] = (5,), leak: float = 0.5, **neuron):
        """Spikes.

        Args:
            leak: what is lost.
        """
        return models.lif_mlp([*shape, *hidden, classes], **neuron)

    def silent(shape, classes, *, pool: str = "max"):
        return models.mlp([4, 2])

    with registered(models.models, "own-spikes", spikes), registered(models.models, "own-silent", silent):
        config = RunConfig(model="own-spikes", hidden=(3,), beta=0.5, leak=0.25).resolved(100)
        assert (config.data.steps, config.build((4,), 2)[2].beta) == (25, 0.5)
        assert config.model.options == {"hidden": (3,), "leak": 0.25}
        assert RunConfig(model="own-spikes").model.options["hidden"] == (5,)
        assert RunConfig().model.options["hidden"] == (1000,)
        for wrong in ({"pool": "avg"}, {"bias": False}):
            with pytest.raises(UserError, match="belongs to"):
                RunConfig(model="own-spikes", **wrong)
        assert RunConfig(model="own-silent", pool="avg").pool == "avg"
        with pytest.raises(UserError, match="--steps 5 belongs to"):
            RunConfig(model="own-silent", steps=5)  # it is built to see whether it spikes
        with pytest.raises(
            UserError, match=r"--leak 0\.25 belongs to --model own-spikes, but this run has --model lif-mlp"
        ):
            RunConfig(leak=0.25)


@dataclass(frozen=True)
class Mine(rules.Feedback):
    """A rule of one's own.

    Args:
        kappa: how much stays.
    """

    kappa: float = 0.5


class Scaled(Reward):
    """A reward of one's own.

    Args:
        kappa: its size.
        shape: of it.
    """

    def __init__(self, kappa: float = 2.0, shape: Literal["flat", "steep"] = "flat") -> None:
        self.kappa, self.shape = kappa, shape

    def reward(self, outputs, target):
        return (self.kappa * target).to(outputs.dtype).expand_as(outputs)


class Own(LFP):
    """A method of one's own.

    Args:
        mixing: of something.
    """

    name = "own"

    def __init__(self, reward, rule=None, *, mixing: int = 3, **more) -> None:
        super().__init__(reward, rule, **more)
        self.mixing = mixing


def own_loss(outputs, labels, weights=None, *, smoothing: float = 0.1):
    """A loss.

    smoothing: of the labels.
    """
    return outputs.sum()


def own_schedule(optimizer, total_steps, *, ramp: int = 10):
    """A schedule.

    Args:
        ramp: steps of the way up.
    """
    return schedules["constant"](optimizer, total_steps)


def own_optimizer(parameters, lr, *, trust: float = 1.0):
    """An optimiser.

    Args:
        trust: in it.
    """
    return torch.optim.SGD(parameters, lr=lr * trust)


def own_data(data_dir, *, noisy: bool = False):
    """Data.

    Args:
        noisy: or not.
    """
    return load("digits")


@pytest.mark.parametrize(
    ("registry", "entry", "choice", "options"),
    [
        (rules.rules, Mine, {"rule": "mine"}, {"kappa": 0.3}),
        (rewards, Scaled, {"reward": "mine"}, {"kappa": 3.0, "shape": "steep"}),
        (methods, Own, {"method": "mine"}, {"mixing": 4, "reduction": "sum", "cap_rewards": True}),
        (losses, own_loss, {"method": "surrogate", "loss": "mine"}, {"smoothing": 0.2}),
        (schedules, own_schedule, {"schedule": "mine"}, {"ramp": 2}),
        (optimizers, own_optimizer, {"optimizer": "mine", "lr": 1.0}, {"trust": 0.5}),
        (datasets, own_data, {"data": "mine"}, {"noisy": True}),
    ],
    ids=lambda each: getattr(each, "kind", None),
)
def test_what_ones_own_brings_along(registry, entry, choice, options, tmp_path, capsys):
    """Its options are flags with help, stand in ``config.yaml``, reach it, and are refused with something else."""
    short = {"hidden": (4,), "steps": 2, "epochs": 1, "device": "cpu"}
    with registered(registry, "mine", entry):
        config = RunConfig(**choice, **options, **short)
        train(config, tmp_path / "run", progress=False)
        kept, _, _ = read_config(RunFolder(tmp_path / "run"))
        assert all(getattr(kept, name) == value for name, value in options.items())
        assert config.changed(epochs=2).resolved(9999) == kept.changed(epochs=2, device="cpu").resolved(9999)
        train(kept.changed(epochs=2), tmp_path / "run", resume=True, progress=False)
        name, value = next(iter(options.items()))
        with pytest.raises(RunFolderError, match=f"other options: {name} "):
            train(kept.changed(epochs=3, **{name: registry_default(registry, name)}), tmp_path / "run", resume=True)
        chooser, *_ = [key for key in choice if choice[key] == "mine"]
        others = {key: value for key, value in choice.items() if key == "method" != chooser}
        with pytest.raises(UserError, match=f"{flag(name)}.* belongs to {flag(chooser)} mine"):
            RunConfig(**others, **{name: value})
        with pytest.raises(SystemExit):
            run_app(app, "spikelfp", ["train", "--help"])
        assert flag(name) in capsys.readouterr().out
        made = config.resolved(100)
        reached = {
            "rule": lambda: made.make_method().rule,
            "reward": lambda: made.make_method().reward,
            "method": lambda: made.make_method(),
            "loss of classes": lambda: SimpleNamespace(**made.make_method().loss.keywords),
            "schedule": lambda: SimpleNamespace(**made.make_schedule().keywords),
            "optimizer": lambda: SimpleNamespace(**made.make_optimizer().keywords),
            "data set": lambda: SimpleNamespace(**made.data.options),
        }[registry.kind]()
        assert all(getattr(reached, name) == value for name, value in options.items())
    with pytest.raises(KeywordError):
        RunConfig(**options)


def registry_default(registry, name):
    return options_in(registry, "mine")[name].default


def test_an_option_that_two_things_have_belongs_to_both(capsys):
    with registered(rules.rules, "mine", Mine), registered(rewards, "mine", Scaled):
        both = RunConfig(rule="mine", reward="mine", kappa=0.25)
        assert (both.method.rule.options["kappa"], both.method.reward.options["kappa"]) == (0.25, 0.25)
        assert RunConfig(rule="mine", kappa=0.25).method.rule.options["kappa"] == 0.25
        assert RunConfig(rule="mine", reward="mine").method.reward.options["kappa"] == 2.0
        with pytest.raises(
            UserError, match=r"--kappa 0\.25 belongs to .*--reward mine or .*--rule mine, but this run has"
        ):
            RunConfig(kappa=0.25)
        text = yaml.safe_load(both.to_yaml())
        text["method"]["rule"]["kappa"] = 0.75  # a file says which
        one = from_mapping(text, "a file")
        assert (one.method.rule.options["kappa"], one.method.reward.options["kappa"]) == (0.75, 0.25)


def test_options_of_one_name_and_another_kind_are_refused():
    def other(*, gamma: str = "x"):
        return rules.Epsilon()

    with (
        registered(rules.rules, "mine", other),
        pytest.raises(UserError, match=r"the option gamma takes .* with the rule"),
    ):
        RunConfig()
    RunConfig()


def test_a_choice_brings_its_own_defaults():
    """Also over a configuration, or a record, that has made another one; what was chosen there is kept."""
    wide = RunConfig(model="lif-conv")
    assert wide.changed(model="lif-vgg-like").model.options["width"] == 32
    assert wide.changed(model="lif-vgg-like", width=7).model.options["width"] == 7
    assert RunConfig(model="lif-conv", width=6).changed(model="lif-vgg-like").model.options["width"] == 6
    record = yaml.safe_load(wide.to_yaml())
    again = from_mapping(record, "config.yaml", {"model": "lif-vgg-like"}, recorded=True)
    assert (again.model.options["width"], again.model.options["pool"]) == (32, "max")
    with pytest.raises(UserError, match=re.escape("use config.changed(model=…)")):
        dataclasses.replace(wide, model="lif-mlp")
    assert dataclasses.replace(wide, pool="avg").model.options["pool"] == "avg"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model": {"nam": "mlp"}}, "unknown option of model in a file 'nam': did you mean 'name'?"),
        ({"method": {"rule": {"name": "gamma", "gama": 1}}}, "of method.rule in a file 'gama': did you mean 'gamma'?"),
        ({"neuron": {"hidden": [3]}}, "hidden stands in model, not in neuron (in a file)"),
        ({"events": 3}, "events in a file is a section of options, got 3"),
        ({"method": {"rule": {"gamma": 0.1}}}, "--gamma 0.1 belongs to --rule gamma, but this run has --rule epsilon"),
        ({"training": {"optimizer": {"name": "adam", "momentum": 0.5}}}, "belongs to --optimizer momentum or sgd"),
        ({"model": {"name": "lif-mpl"}}, "did you mean 'lif-mlp'?"),
        ({"training": {"lr": [1]}}, "lr takes a finite number"),
    ],
)
def test_sections_in_files_are_checked_like_flags(values, named):
    with pytest.raises(UserError) as error:
        from_mapping(values, "a file", given=values)
    assert named in str(error.value)


def test_flat_and_nested_values_go_together():
    values = {
        "model": "lif-rnn",
        "training": {"epochs": 4, "optimizer": "sgd"},
        "rule": "gamma",
        "method": {"rule": {"gamma": 0.5}},
    }
    nested = from_mapping(values, "a file")
    flat = RunConfig(model="lif-rnn", epochs=4, optimizer="sgd", rule="gamma", gamma=0.5)
    assert nested == flat


def test_help_has_sections_owners_and_examples(capsys):
    with pytest.raises(SystemExit):
        run_app(app, "spikelfp", ["train", "--help"])
    text = capsys.readouterr().out
    groups = ["data", "events", "task", "model", "neuron", "method and rule", "training", "run"]
    assert re.findall(r"^Options: (.*):$", text, re.MULTILINE) == groups
    assert "spikelfp train --out runs/mnist --resume" in text
    words = re.sub(r"[-\s]", "", text)
    for f in OWNED.values():
        assert re.sub(r"[-\s]", "", f"; belongs to {f.owner.name}") in words


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


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"learn-beta": True, "learn_beta": False}, "'learn_beta' stands in a file twice, with - and with _"),
        ({"neuron": {"learn-beta": True, "learn_beta": True}}, "'learn_beta' stands in a file twice"),
        ({"seed": 2**63}, "64 bits"),
        ({"epochs": 2**70}, "epochs takes a whole number of at most 64 bits"),
        ({"steps": "9" * 30}, "steps takes a whole number of at most 64 bits"),
        ({"data": "wine-quality", "delta": 2.0}, r"--delta 2.0 belongs to --error huber, but this run has --error mse"),
        ({"rule": {"name": "gamma", "gama": 0.5}}, "unknown option of method.rule in a file 'gama'"),
    ],
)
def test_values_that_a_record_could_not_hold_and_keys_that_stand_twice(values, named):
    with pytest.raises(UserError, match=named):
        from_mapping(values, "a file", given=values)


def test_whole_numbers_are_compared_as_such():
    assert RunConfig(seed=2**63 - 1).run.seed == 2**63 - 1
    with pytest.raises(UserError, match=r"at least|lie in|64 bits"):
        RunConfig(seed=2**63)


def test_a_choice_is_taken_with_its_options_also_outside_of_its_section():
    config = from_mapping({"rule": {"name": "gamma", "gamma": 0.5}}, "a file")
    assert config == RunConfig(rule="gamma", gamma=0.5)
