"""Decays of each neuron: the distributions they start from, how they learn, and where they go with the network."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from hw_export import from_nir, to_nir
from spikelfp import models, nn, propagate, rules
from spikelfp.errors import UnknownNameError, UserError
from spikelfp.models import ModelSpec, build, decay_starts, spread_decays
from spikelfp.nn import graph
from spikelfp.nn.neurons.base import LEAST_DECAY
from spikelfp.report.wording import lead
from spikelfp.training.config import RunConfig
from spikelfp.training.memory import without_memory
from tests.reference import dense, lif_reward, lif_run, surviving

MANY = (4000,)
DRAWN = ("uniform", "log-uniform", "gamma")


def neurons(net):
    return [layer for layer in graph.leaves(net).values() if isinstance(layer, nn.Neurons)]


def times(betas):
    return -1 / betas.double().log()


def draw(name, *, beta=0.9, **options):
    torch.manual_seed(3)
    return decay_starts[name](beta, MANY, **options)


def test_uniform_decays_fill_their_range_evenly():
    betas = draw("uniform", low=0.6, high=0.8)
    assert (betas.min() >= 0.6) & (betas.max() <= 0.8)
    shares = torch.histc(betas, 4, 0.6, 0.8) / len(betas)
    assert shares.sub(0.25).abs().max() < 0.03


def test_log_uniform_decays_have_as_many_time_constants_in_each_octave():
    low, high = math.exp(-1 / 2), math.exp(-1 / 32)  # τ of 2 to 32 steps: four octaves
    octaves = times(draw("log-uniform", low=low, high=high)).log2().sub(1)
    assert (octaves.min() > -1e-3) & (octaves.max() < 4 + 1e-3)
    shares = torch.histc(octaves.float(), 4, 0, 4) / octaves.numel()
    assert shares.sub(0.25).abs().max() < 0.03


@pytest.mark.parametrize("k", [1.0, 3.0, 12.0])
def test_gamma_time_constants_have_the_mean_of_beta_and_the_deviation_of_their_shape(k):
    middle = -1 / math.log(0.8)
    found = times(draw("gamma", beta=0.8, k=k))  # far from the largest decay that is drawn
    assert float(found.mean()) == pytest.approx(middle, rel=0.06)
    assert float(found.std()) == pytest.approx(middle / math.sqrt(k), rel=0.1)
    skew = float(((found - found.mean()) / found.std()).pow(3).mean())
    assert skew == pytest.approx(2 / math.sqrt(k), rel=0.35)  # of a gamma distribution; of a normal one it is 0


@pytest.mark.parametrize("beta", [0.02, 0.5, 0.9, 0.999])
def test_gamma_decays_stay_within_their_bounds(beta):
    betas = draw("gamma", beta=beta, k=0.3)
    assert (betas.min() >= LEAST_DECAY) & (betas.max() <= 0.995)


def test_equal_decays_are_those_of_the_layer_and_shared_ones_one_number():
    assert torch.equal(draw("equal", beta=0.7), torch.full(MANY, 0.7))
    assert draw("shared", beta=0.7) == 0.7


@pytest.mark.parametrize(
    ("name", "beta", "options", "says"),
    [
        ("uniform", 0.9, {"low": 0.8, "high": 0.7}, "beta_low 0.8 and beta_high 0.7 are none"),
        ("log-uniform", 0.9, {"low": 0.0}, "within (0, 1]"),
        ("log-uniform", 0.9, {"high": 1.0}, "beta_high=1 is infinite"),
        ("gamma", 1.0, {}, "beta=1 is infinite"),
        ("gamma", 0.9, {"k": 0.0}, "above 0, got 0"),
        ("gamma", 0.9, {"k": math.inf}, "above 0, got inf"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(name, beta, options, says):
    with pytest.raises(UserError, match=re.escape(says)):
        decay_starts[name](beta, (3,), **options)


@pytest.mark.parametrize(
    ("name", "shape", "options", "wanted"),
    [
        ("lif-mlp", (1, 4, 4), {"hidden": (9, 7)}, [[9], [7], [3]]),
        ("lif-rnn", (16,), {"hidden": (9,)}, [[9], [3]]),
        ("lif-conv", (2, 16, 16), {"width": 3}, [[3, 1, 1], [8, 1, 1], [3]]),
        ("lif-vit", (1, 8, 8), {"width": 8, "depth": 1, "heads": 2, "patch": 4}, None),
        ("lif-resnet18", (1, 8, 8), {"width": 4}, None),
    ],
)
@pytest.mark.parametrize("learn", [False, True])
def test_every_network_takes_them_and_its_weights_are_those_of_shared_ones(name, shape, options, wanted, learn):
    neuron = {"beta": 0.8, "learn_beta": learn}
    made = []
    for decays in ({}, {"name": "gamma", "k": 3.0}):
        torch.manual_seed(5)
        made.append(build(ModelSpec(name, shape, 3, options, neuron, decays)))
    shared, net = made
    found = neurons(net)
    if wanted is not None:
        assert [list(layer.beta.shape) for layer in found] == wanted
    for layer in found:
        assert layer.beta.unique().numel() > 1
        assert (layer.decay is not None) is learn
    weights, own = (dict(each.named_parameters()) for each in (shared, net))
    assert list(weights) == list(own)
    assert all(torch.equal(value, own[key]) for key, value in weights.items() if not key.endswith("decay"))
    assert net(torch.rand(3, 2, *shape)).isfinite().all()
    estimated = without_memory(ModelSpec(name, shape, 3, options, neuron, {"name": "gamma"}))
    assert [value.shape for value in estimated.state_dict().values()] == [v.shape for v in net.state_dict().values()]


def test_readouts_keep_their_beta_and_a_second_draw_is_refused():
    net = models.lif_mlp([6, 5, 2], readout="li", beta=0.7)
    spread_decays(net, (6,), "uniform")
    assert net[-1].beta == 0.7
    assert net[2].beta.shape == (5,)
    with pytest.raises(UserError, match="neurons '2' have a decay each already"):
        spread_decays(net, (6,))
    with pytest.raises(UserError, match="no neurons with a decay"):
        spread_decays(models.mlp([6, 5, 2]), (6,))
    with pytest.raises(UnknownNameError, match="did you mean 'uniform'"):
        spread_decays(models.lif_mlp([6, 5, 2]), (6,), "unifrom")


def spread(kind, learn=True, **options):
    """Two inputs, five neurons of a kind with learned decays of their own."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 5), kind(beta=0.8, threshold=0.4, learn_beta=learn, **options)).double()
    with torch.no_grad():
        net[0].weight.mul_(2)
    spread_decays(net, (2,), "uniform", low=0.3, high=0.98)
    return net


@pytest.mark.parametrize("reset", ["subtract", "immediate", "zero"])
@pytest.mark.parametrize(("floor", "margin"), [(0.0, 1.0), (1.0, 0.6)])
def test_under_lfp_each_decay_is_the_weight_of_a_membrane_on_itself(reset, floor, margin):
    """``d_β_j = |β_j| Σ_t V_j[t−1] R_j[t] / D_j[t]`` (eq. 7; V after a reset at once), in plain floats."""
    net = spread(nn.LIF, reset=reset, floor=floor, margin=margin).double()
    x, reward = (torch.rand(7, 3, 2) < 0.5).double(), torch.randn(7, 3, 5).double()
    propagate(net(x), reward)
    weight, bias = net[0].weight.tolist(), net[0].bias.tolist()
    wanted = []
    for j, beta in enumerate(net[1].decay.tolist()):
        total = 0.0
        for b in range(3):
            currents = [dense(x[t, b].tolist(), weight, bias)[j] for t in range(7)]
            _, membranes = lif_run(currents, beta, 0.4, reset)
            own = lif_reward(reward[:, b, j].tolist(), currents, beta, 0.4, reset, "inflow", 1e-6, floor=floor)
            total += sum(surviving(membranes[t - 1], 0.4, reset) * own[t] for t in range(1, 7))
        wanted.append(abs(beta) * total)
    assert torch.allclose(-net[1].decay.grad, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert min(map(abs, wanted)) > 0


def test_under_surrogate_gradients_each_decay_has_the_derivative_of_its_own_membrane():
    """Against ``dU[t]/dβ = U[t−1] + β dU[t−1]/dβ``, carried forward in plain floats; resets have no derivative."""
    net, slope = spread(nn.LIF), 10.0
    x, upstream = (torch.rand(7, 1, 2) < 0.5).double(), torch.randn(7, 1, 5).double()
    rules.attach(net, rules.Surrogate("fast-sigmoid", slope))
    (net(x) * upstream).sum().backward()
    weight, bias = net[0].weight.tolist(), net[0].bias.tolist()
    for j, beta in enumerate(net[1].decay.tolist()):
        u = du = fired = total = 0.0
        for t in range(7):
            du, u = u + beta * du, beta * u + dense(x[t, 0].tolist(), weight, bias)[j] - 0.4 * fired
            fired = float(u > 0.4)
            total += float(upstream[t, 0, j]) * du / (1 + slope * abs(u - 0.4)) ** 2
        assert float(net[1].decay.grad[j]) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    "kind",
    [
        nn.LIF,
        nn.Synaptic,
        nn.ALIF,
        nn.Lapicque,
        lambda **own: nn.RecurrentLIF(5, **own),
        lambda **own: nn.RecurrentALIF(5, **own),
    ],
)
def test_a_sequence_in_parts_gives_the_same_spikes_as_the_whole(kind):
    net = spread(kind)
    x = (torch.rand(9, 3, 2) < 0.6).double()
    whole, state, parts = net(x), None, []
    for part in x.split(4):
        out, state = net.run(part, state)
        parts.append(out)
    assert torch.equal(whole, torch.cat(parts))
    assert whole.sum() > 0


@pytest.mark.parametrize("kind", [nn.LIF, nn.Synaptic])
def test_nir_holds_the_time_constant_of_each_neuron(tmp_path, kind):
    net = spread(kind, reset="zero").float()
    to_nir(net, tmp_path / "net.nir")
    back = from_nir(tmp_path / "net.nir")
    assert torch.equal(back[1].beta, net[1].beta)
    x = (torch.rand(9, 3, 2) < 0.6).float()
    assert torch.equal(back(x), net(x))


@pytest.fixture
def command(command_line):
    def call(program, *arguments):
        done = command_line(*arguments, program=program, columns=300)
        return done.returncode, done.stdout, done.stderr

    return call


QUICK = ("--data", "digits", "--hidden", "12", "--steps", "4", "--batch-size", "64", "--no-report", "--quiet")


def test_from_the_command_line_through_a_resumed_run_to_the_chips(tmp_path, command):
    """Trained in one go and in two, evaluated, and exported to what has decays of each neuron; others refuse."""

    def train(run, *more):
        code, _, err = command("spikelfp", "train", *more, "--quiet", "--out", tmp_path / run)
        assert code == 0, err

    def export(target):
        return command("hw-export", "build", tmp_path / "whole", "--target", target, "--out", tmp_path / target)

    drawn = ("--beta-start", "uniform", "--beta-low", 0.6, "--beta-high", 0.8, "--learn-beta", "--lr", 2e-3)
    own = (*QUICK, *drawn, "--schedule", "constant", "--reset", "zero")
    train("whole", *own, "--epochs", 2)
    train("parts", *own, "--epochs", 1)
    train("parts", "--resume", "--epochs", 2)
    last, again, initial = (
        torch.load(tmp_path / path, weights_only=True)["weights"]
        for path in ("whole/checkpoints/last.pt", "parts/checkpoints/last.pt", "whole/checkpoints/initial.pt")
    )
    assert all(torch.equal(value, again[key]) for key, value in last.items())
    decays = [key for key in last if key.endswith("decay")]
    assert [tuple(last[key].shape) for key in decays] == [(12,), (10,)]
    drawn = torch.cat([initial[key] for key in decays])
    assert (drawn.min() >= 0.6) & (drawn.max() <= 0.8)
    assert (torch.cat([last[key] for key in decays]) - drawn).unique().numel() > 15
    code, _, err = command("spikelfp", "eval", tmp_path / "parts")
    assert code == 0, err
    assert export("generic")[0] == export("nir")[0] == 0
    assert torch.equal(from_nir(tmp_path / "nir" / "network.nir")[1].beta, last["2.decay"])
    code, _, err = export("loihi")
    assert (code, err.count("\n")) == (2, 1)
    assert "layer '2': different decays beta 12, at most 1 (by 11): give all neurons of a layer one beta" in err


@pytest.mark.parametrize("method", ["surrogate", "e-prop", "ottt", "decolle"])
def test_every_method_trains_beside_decays_that_differ(tmp_path, command, method):
    code, out, err = command(
        "spikelfp", "train", *QUICK, "--epochs", 2, "--lr", 0.01, "--method", method,
        "--beta-start", "log-uniform", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["test_accuracy"] > 0.2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"beta_start": "uniform", "beta": 0.8},
            "--beta 0.8 belongs to --beta-start shared, equal or gamma, or --output",
        ),
        ({"beta_start": "gamma", "beta_low": 0.8}, "--beta-low 0.8 belongs to"),
        ({"beta_low": 0.8}, "--beta-low 0.8 belongs to --beta-start log-uniform or uniform"),
        ({"beta_start": "uniform", "beta_low": 0.9, "beta_high": 0.8}, "beta_low 0.9 and beta_high 0.8 are none"),
        ({"beta_start": "gamma", "beta": 1.0}, "beta=1 is infinite"),
        ({"beta_start": "gamma", "model": "mlp"}, "--beta-start gamma belongs to models of spiking neurons"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, says):
    with pytest.raises(UserError, match=re.escape(says)):
        RunConfig(**options)


def test_readouts_of_integrators_take_beta_beside_drawn_decays():
    config = RunConfig(beta_start="uniform", beta=0.8, output="li", hidden=(5,))
    net = config.build((4,), 2)
    assert net[-1].beta == 0.8
    assert net[2].beta.shape == (5,)


@pytest.mark.parametrize("name", sorted(decay_starts))
def test_the_report_says_how_decays_started(name):
    told = dict(lead(RunConfig(beta_start=name).resolved(100), spiking=True))["Neurons"]
    assert {
        "shared": "β = 0.9",
        "equal": "from 0.9 on",
        "uniform": "between 0.5 and 0.99",
        "log-uniform": "between 0.5 and 0.99 (log",
        "gamma": "around 0.9",
    }[name] in told
