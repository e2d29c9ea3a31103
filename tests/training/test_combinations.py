"""Networks, methods and steps that do not go together: refused or warned about where a trainer is made."""

import re
import warnings

import pytest
import torch

import spikelfp
from spikelfp import methods, models, nn, rewards, rules
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.errors import LearningWarning, UserError
from spikelfp.training import TemporalTrainer, Trainer
from spikelfp.training.arguments import learning_complaints, output_kind
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train
from spikelfp.training.run_folder import RunFolder

PLAIN, SURROGATE = methods.GradientDescent(), methods.GradientDescent(rules.Surrogate())


def spiking():
    return models.lif_mlp([4, 5, 3])


def linear():
    return models.mlp([4, 5, 3])


def mixed():
    return nn.Sequential(nn.Linear(4, 5), nn.LIF(), nn.Linear(5, 3))


class Own(torch.nn.Module):
    """Layers that are not called in the order in which they stand."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(5, 3), nn.Linear(4, 5)
        self.lif = nn.LIF()

    def forward(self, x):
        return self.last(self.lif(self.first(x)))


@pytest.mark.parametrize(
    ("net", "outputs"),
    [
        (spiking(), "spikes"),
        (linear(), "linear"),
        (mixed(), "linear"),
        (nn.Sequential(spiking(), nn.Flatten(), nn.Dropout(0.1)), "spikes"),
        (nn.Sequential(nn.Linear(4, 3), nn.LI()), "linear"),
        (nn.Sequential(nn.Linear(4, 3), nn.Heaviside()), "spikes"),
        (nn.Sequential(spiking(), nn.AvgPool2d(2)), None),
        (Own(), None),
        (nn.LIF(), "spikes"),
    ],
    ids=str,
)
def test_the_last_layer_of_a_chain_tells_the_outputs(net, outputs):
    assert output_kind(net) == outputs


@pytest.mark.parametrize(
    ("net", "options", "says"),
    [
        (spiking(), {"method": PLAIN}, "spikes, whose derivative is 0: plain gradient descent changes no weight"),
        (spiking(), {"method": methods.WarmUp(PLAIN, methods.LFP(rewards.SpikeSequence()), 3)}, "derivative is 0"),
        (linear(), {"reward": rewards.SpikeSequence()}, "SpikeSequence counts spikes, and the outputs of this network"),
        (linear(), {"reward": rewards.CountSoftmax()}, "CountSoftmax counts spikes"),
        (mixed(), {"reward": rewards.SpikeRate()}, "choose a reward of linear outputs, such as Softmax"),
    ],
)
def test_what_cannot_learn_is_refused(net, options, says):
    for kind in (Trainer, TemporalTrainer):
        with pytest.raises(UserError, match=re.escape(says)) as error:
            kind(net, device="cpu", **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("net", "options", "says"),
    [
        (spiking(), {"steps": 1}, "sees a single step"),
        (linear(), {"steps": 1, "encoding": "latency"}, "all of them look alike"),
        (spiking(), {"reward": rewards.Softmax()}, "Softmax multiplies the reward with the output"),
        (spiking(), {"reward": rewards.CorrectClass("softmax", magnitude=True)}, "CorrectClass multiplies"),
        (mixed(), {"method": PLAIN}, "nothing in front of the last LIF learns"),
    ],
)
def test_what_hardly_learns_is_warned_about(net, options, says):
    with pytest.warns(LearningWarning, match=says):
        TemporalTrainer(net, device="cpu", **options)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        (spiking(), {}),
        (spiking(), {"reward": rewards.CountSoftmax(), "encoding": "rate"}),
        (spiking(), {"reward": rewards.CorrectClass()}),
        (spiking(), {"method": SURROGATE}),
        (linear(), {"steps": 1}),
        (linear(), {"method": PLAIN}),
        (linear(), {"reward": rewards.Sign()}),
        (mixed(), {"method": SURROGATE}),
        (Own(), {"reward": rewards.SpikeSequence()}),
        (nn.Sequential(nn.Linear(4, 3), nn.LIF(rule=rules.Surrogate())), {"method": PLAIN}),
    ],
)
def test_all_else_is_left_in_peace(net, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TemporalTrainer(net, device="cpu", **options)


def test_rewards_that_are_multiplied_say_so():
    """Silent outputs get nothing from rewards that suit linear ones, and something from those of spikes."""
    silent, labels = torch.zeros(4, 2, 3), torch.tensor([0, 1])
    for name in rewards.rewards:
        reward = rewards.rewards[name]()
        earned = bool(reward(silent, labels).any())
        assert reward.suits in ("spikes", "linear", "any")
        assert earned is (reward.suits != "linear" and name != "false-positive")  # which punishes spikes, and has none


def test_the_command_says_it_once(tmp_path, capsys):
    options = ["--hidden", "4", "--steps", "1", "--epochs", "1", "--no-report", "--out", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", ["train", *options])
    assert stop.value.code == 0
    errors = capsys.readouterr().err
    assert errors.count("warning: the network has neurons with a memory (LIF) and sees a single step") == 1
    load_run(tmp_path / "r").trainer()  # whoever evaluates it is not told again
    assert learning_complaints(spiking(), methods.LFP(rewards.SpikeSequence()), steps=2) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "gradient"}, "plain gradient descent changes no weight"),
        ({"model": "mlp", "reward": "count-softmax"}, "counts spikes"),
    ],
)
def test_a_run_is_refused_before_its_folder_is_made(options, says, tmp_path):
    with pytest.raises(UserError, match=says):
        train(RunConfig(hidden=(4,), device="cpu", **options), tmp_path / "r", progress=False)
    assert not RunFolder(tmp_path / "r").path.exists()


def test_names_that_are_misspelt_get_the_nearest_one():
    for call, says in (
        (lambda: models.lif_mlp([4, 3], tresh=1), "lif_mlp has no argument 'tresh': did you mean 'threshold'?"),
        (lambda: models.mlp([4, 3], activaton="relu"), "mlp has no argument 'activaton': did you mean 'activation'?"),
        (lambda: nn.Conv2d(1, 2, 3, strid=2), "Conv2d has no argument 'strid': did you mean 'stride'?"),
        (lambda: nn.LIF(treshold=1), "LIF has no argument 'treshold': did you mean 'threshold'?"),
        (lambda: rules.Gamma(gama=1), "Gamma has no argument 'gama': did you mean 'gamma'?"),
        (lambda: rewards.F1(positiv=1), "F1 has no argument 'positiv': did you mean 'positive'?"),
        (lambda: methods.LFP(rewards.Softmax(), roule=1), "LFP has no argument 'roule': did you mean 'rule'?"),
    ):
        with pytest.raises(UserError, match=re.escape(says)) as error:
            call()
        assert isinstance(error.value, TypeError)
    for module, name, near in (
        (nn, "Lif", "LIF"),
        (rewards, "SpikeSequense", "SpikeSequence"),
        (rules, "Epsilom", "Ep"),
    ):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}': did you mean '{near}"):
            getattr(module, name)
    with pytest.raises(AttributeError, match="did you mean 'TemporalTrainer'"):
        spikelfp.TemporalTrainr  # noqa: B018


@pytest.mark.parametrize("name", ["nn", "rules", "rewards", "models", "data", "methods", "quantized", "training"])
def test_dir_shows_public_names(name):
    module = __import__(f"spikelfp.{name}", fromlist=["_"])
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in dir(module))


def test_choices_of_the_method_reach_it():
    options = {"reduction": "sum", "cap_rewards": True, "normalize_reward": True, "normalize_by": "step"}
    method = RunConfig(**options).resolved(1000).make_method()
    assert (method.reduction, method.cap_rewards, method.rule.normalize) == ("sum", True, "step")
    plain = RunConfig().resolved(1000).make_method()
    assert (plain.reduction, plain.cap_rewards, plain.rule.normalize) == ("mean", False, False)
    assert RunConfig(normalize_reward=True).resolved(1000).make_method().rule.normalize == "sample"
    assert RunConfig(method="surrogate", reduction="sum").resolved(1000).make_method().reduction == "sum"


def test_a_run_in_floats_has_no_options_of_grids():
    few = RunConfig(hidden=(7,), weight_bits=4, weight_update="stochastic", weight_clip="max", input_levels=3)
    assert few.in_floats() == RunConfig(hidden=(7,))
