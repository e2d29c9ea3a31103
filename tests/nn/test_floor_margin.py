"""Floor and margin as options: of every kind of neurons, of conversions, files and runs."""

import pytest
import torch
from typer.testing import CliRunner

from hw_export.model_file import load_network, save_network
from spikelfp import cli, nn, propagate
from spikelfp.errors import UserError
from spikelfp.functional.lif import FLOOR, MARGIN, PAPER_FLOOR, PAPER_MARGIN, LIFParameters
from spikelfp.nn import graph
from spikelfp.training import config as configs
from spikelfp.training.config import RunConfig, from_mapping
from spikelfp.training.run import load_run, train
from spikelfp.training.run_folder import RunFolder, read_config

KINDS = {
    "LIF": nn.LIF,
    "Synaptic": nn.Synaptic,
    "ALIF": nn.ALIF,
    "Alpha": nn.Alpha,
    "Lapicque": lambda **o: nn.Lapicque(0.9, **o),
    "RecurrentLIF": lambda **o: nn.RecurrentLIF(4, **o),
    "RecurrentALIF": lambda **o: nn.RecurrentALIF(4, **o),
    "RecurrentSynaptic": lambda **o: nn.RecurrentSynaptic(4, **o),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_neurons_has_them(make):
    plain, layer = make(floor=0, margin=1), make(floor=1, margin=0.6)
    assert (layer.floor, layer.margin) == (1.0, 0.6)
    assert "floor" not in plain.extra_repr()
    assert ", floor=1.0, margin=0.6" in layer.extra_repr()
    assert ", floor=1.0, margin=0.6" in layer.saved_repr()
    again = graph.rebuild(type(layer), graph.arguments(layer))
    assert (again.floor, again.margin) == (1.0, 0.6)
    layer.floor, layer.margin = 0.5, 1
    assert (layer.constants.floor, layer.constants.margin, layer.reset) == (0.5, 1.0, plain.reset)
    for name, value, text in (("floor", -1, "floor"), ("margin", 0, "margin"), ("margin", "0.5", "one number")):
        with pytest.raises(UserError, match=text):
            setattr(layer, name, value)
        with pytest.raises(UserError, match=text):
            make(**{name: value})
    assert (layer.floor, layer.margin) == (0.5, 1.0)
    default = make()
    assert (default.floor, default.margin) == (FLOOR, MARGIN) == (1.0, 0.6)
    assert (LIFParameters().floor, LIFParameters().margin) == (PAPER_FLOOR, PAPER_MARGIN) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["floor", "margin"])
@pytest.mark.parametrize("make", [nn.LI, nn.MultiSpikeLIF, nn.Heaviside])
def test_neurons_without_that_credit_refuse_them(make, name):
    with pytest.raises(TypeError, match=f"{make.__name__} has no argument '{name}'"):
        make(**{name: 0.5})
    layer = make()
    with pytest.raises(UserError, match=f"no attribute '{name}'"):
        setattr(layer, name, 0.5)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_outputs_do_not_depend_on_them(make):
    torch.manual_seed(0)
    layer, x = make(threshold=0.4), torch.randn(7, 3, 4)
    spikes, state = layer.run(x)
    layer.floor, layer.margin = 2.0, 0.3
    again, after = layer.run(x)
    assert spikes.any()
    assert torch.equal(spikes, again)
    for one, other in zip(state, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_both_change_what_is_learned(make):
    torch.manual_seed(0)
    layer, out = make(threshold=0.3), nn.Linear(4, 3)
    x, reward = torch.randn(9, 3, 4), torch.randn(9, 3, 3)
    found = []
    for options in ((0.0, 1.0), (20.0, 1.0), (0.0, 0.4)):
        layer.floor, layer.margin = options
        given = x.clone().requires_grad_()
        propagate(out(layer(given)), reward)
        found.append(given.grad)
    assert found[0].abs().sum() > found[1].abs().sum()
    assert (found[2] != 0).sum() >= (found[0] != 0).sum()
    assert not torch.allclose(found[0], found[2])


def test_alpha_divides_by_the_floor():
    layer = nn.Alpha(0.9, 0.8, 5.0, floor=2.0)
    x = torch.rand(2, 1, 3).requires_grad_()
    reward = torch.zeros(2, 1, 3)
    reward[1] = 1.0
    propagate(layer(x), reward)
    tau = layer.values(x[0], x).tau
    torch.testing.assert_close(x.grad[0, 0], torch.full((3,), tau * (0.9 - 0.8) / 10.0))  # R / (2 θ)


def test_a_threshold_of_each_neuron_scales_both():
    p = LIFParameters(0.9, torch.tensor([0.5, 2.0]), floor=0.5, margin=0.25)
    assert p.least.tolist() == [0.25, 1.0]
    assert p.bar.tolist() == [0.125, 0.5]
    assert repr(p).endswith("denominator='inflow', floor=0.5, margin=0.25)")
    assert p != LIFParameters(0.9, torch.tensor([0.5, 2.0]), floor=0.5)


def test_files_of_networks_keep_them_and_older_files_are_those_of_the_paper(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF(floor=0.5, margin=0.75), nn.Linear(3, 2), nn.LIF(floor=0, margin=1))
    save_network(tmp_path / "net.pt", net)
    loaded = load_network(tmp_path / "net.pt")
    assert [(layer.floor, layer.margin) for layer in loaded[1::2]] == [(0.5, 0.75), (0.0, 1.0)]
    layers = torch.load(tmp_path / "net.pt", weights_only=True)["layers"]
    assert "floor" not in layers[3][2]
    assert layers[1][2]["margin"] == 0.75


def run_config(**options):
    return RunConfig(**{"data": "digits", "hidden": (8,), "epochs": 1, "steps": 3} | options)


def test_a_run_trains_with_them_and_goes_on(tmp_path):
    out = tmp_path / "run"
    train(run_config(floor=1.0, margin=0.6), out)
    assert "  floor: 1.0\n  margin: 0.6\n" in (out / "config.yaml").read_text()
    net = load_run(out).net
    assert {(layer.floor, layer.margin) for layer in net.modules() if isinstance(layer, nn.LIF)} == {(1.0, 0.6)}
    with pytest.raises(UserError, match=r"margin.*0\.6"):
        train(run_config(floor=1.0, margin=0.7, epochs=2), out, resume=True)


def test_runs_from_before_keep_the_rule_of_the_paper(tmp_path, monkeypatch):
    out = tmp_path / "run"
    train(run_config(floor=0, margin=1), out)
    text = (out / "config.yaml").read_text()
    older = "".join(line for line in text.splitlines(True) if line.split(":")[0].strip() not in ("floor", "margin"))
    assert len(older.splitlines()) == len(text.splitlines()) - 2
    (out / "config.yaml").write_text(older)
    assert configs._UNSTATED == {("neuron", "floor"): PAPER_FLOOR, ("neuron", "margin"): PAPER_MARGIN}
    found = read_config(RunFolder(out))[0]
    assert (found.floor, found.margin) == (0.0, 1.0)
    net = load_run(out).net
    assert all(layer.floor == 0 and layer.margin == 1 for layer in net.modules() if isinstance(layer, nn.LIF))
    # whatever the defaults are by then
    monkeypatch.setattr(configs, "_UNSTATED", {("neuron", "floor"): 0.25, ("neuron", "margin"): 0.5})
    found = read_config(RunFolder(out))[0]
    assert (found.floor, found.margin) == (0.25, 0.5)
    fresh = from_mapping({"hidden": (8,)}, "the command line")
    assert (fresh.floor, fresh.margin) == (FLOOR, MARGIN)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "surrogate", "floor": 0.5}, "floor"),
        ({"method": "surrogate", "margin": 0.5}, "margin"),
        ({"model": "mlp", "floor": 0.5}, "floor"),
        ({"floor": -1.0}, "floor"),
        ({"floor": float("nan")}, "floor"),
        ({"floor": float("inf")}, "floor"),
        ({"floor": True}, "floor"),
        ({"floor": "much"}, "floor"),
        ({"margin": 0.0}, "margin"),
        ({"margin": 1.5}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"margin": True}, "margin"),
    ],
)
def test_options_of_runs_that_are_refused(options, text):
    with pytest.raises(UserError, match=text) as error:
        RunConfig(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [["--floor", "-1"], ["--margin", "0"], ["--margin", "nan"], ["--floor", "inf"]])
def test_the_command_line_refuses_them_in_a_line(given):
    result = CliRunner().invoke(cli.app, ["train", *given])
    assert result.exit_code != 0
