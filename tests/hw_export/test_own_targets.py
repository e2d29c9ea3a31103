"""Targets and simulators of a user: a class in one file, found by its name; faults in it are told in a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from export_nets import BATCH, STEPS, bernoulli, dense

from hw_export import quantize
from hw_export.build import build, read_export, write_export
from hw_export.integer import Arithmetic, IntegerDense, IntegerSimulator
from hw_export.nir import from_nir
from hw_export.samples import ExportSamples
from hw_export.simulators import SIMULATORS, Simulator
from hw_export.targets import TARGETS, Chip, Target, make_target
from hw_export.targets.generic import Generic
from hw_export.targets.limits import Kinds
from hw_export.verify import verify, verify_chip
from spikelfp import nn, plugins
from spikelfp.errors import DataError, UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


@pytest.fixture
def registered(monkeypatch):
    """Forgets the registrations of a test after it."""
    for registry in (TARGETS, SIMULATORS):
        for inside in ("_entries", "_facts", "_sources"):
            monkeypatch.setattr(registry, inside, dict(getattr(registry, inside)))


@pytest.fixture
def own(registered) -> type[Chip]:
    @TARGETS.register("own")
    class Own(Generic):
        """A chip of one's own.

        Args:
            width: bits of a membrane
        """

        summary = "a chip of one's own"
        bits = (4, 8)
        energy = None
        sources = ()

        def __init__(self, width: int = 16) -> None:
            super().__init__()
            self.width = width
            self.arithmetic = Arithmetic(width, resets=frozenset({"zero"}))
            self.limits = (Kinds((IntegerDense,)),)

        def write_samples(self, network, inputs, run, folder):
            return {"queue": len(inputs)}

        def describe_samples(self, facts):
            return [f"{facts['queue']} steps wait in a queue"]

    return Own


@pytest.fixture
def spikes() -> ExportSamples:
    return ExportSamples(bernoulli(16), torch.arange(BATCH) % 6, STEPS, static=False, scale=1)


def test_an_own_chip_exports_verifies_and_is_shown(own, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = RunConfig(data="digits", hidden=(20,), epochs=2, steps=8, reset="zero")
    train(config, tmp_path / "run", progress=False)
    code, out, err = command("build", "run", "--target", "own", "--width", "20", "--samples", "9", "--json")
    assert code == 0, err
    assert "8 steps wait in a queue" in out
    assert "energy estimate: none, the energy of an operation of own is not published" in out
    manifest = json.loads(out.splitlines()[-1])
    assert manifest["out"] == "exports/run-own"
    assert manifest["target_options"] == {"width": 20}
    assert manifest["options"]["target"] == {"name": "own", "width": 20}
    assert manifest["options"]["inputs"]["samples"] == 9
    assert manifest["arithmetic"]["state_bits"] == 20
    assert manifest["chip"]["energy"]["nanojoule"] is None
    assert manifest["chip"]["energy"]["source"] is None
    assert "synaptic_operations" in manifest["chip"]["energy"]["not_published"]
    code, out, err = command("verify", "exports/run-own")
    assert code == 0, err
    assert "own arithmetic" in out
    code, out, _ = command("targets", "own", "--json")
    assert code == 0
    assert "energy: not published" in out
    assert "option: --width: bits of a membrane [16]" in out
    assert json.loads(out.splitlines()[-1])["targets"]["own"]["summary"] == own.summary


def test_files_are_read_by_a_chip_with_the_options_they_were_written_with(own, tmp_path, spikes):
    folder = tmp_path / "export"
    manifest = write_export(dense("zero", 0.9, (16, 12, 6)), spikes, folder, target=own(width=20))
    assert verify_chip(own(width=20), folder, manifest, read_export(folder)[2]).status == "identical"
    with pytest.raises(DataError, match="is of own with the options width 20, not by default"):
        own().read(folder)
    facts = yaml.safe_load((folder / "network.yaml").read_text())
    facts["options"] = 3
    (folder / "network.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(DataError, match="with the options 3, not width 20"):
        own(width=20).read(folder)


def test_options_of_a_manifest_that_the_chip_does_not_have(own, tmp_path, command, spikes):
    folder = tmp_path / "export"
    write_export(dense("zero", 0.9, (16, 12, 6)), spikes, folder, target=own(width=20))
    text = (folder / "manifest.yaml").read_text()
    (folder / "manifest.yaml").write_text(text.replace("width: 20", "height: 20"))
    code, _, err = command("verify", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "target 'own' has no option" in err
    assert "it has width" in err


def test_a_target_that_nothing_can_run(registered, tmp_path, command, spikes):
    @TARGETS.register("note")
    class Note(Target):
        summary, bits = "a note of the layers", (8,)

        def write(self, net, folder, input_shape):
            (folder / "note.txt").write_text(str(net))
            return {}

    write_export(dense("zero", 0.9, (16, 12, 6)), spikes, tmp_path / "export", target="note")
    assert (tmp_path / "export" / "note.txt").exists()
    code, _, err = command("verify", tmp_path / "export")
    assert (code, err.count("\n")) == (2, 1)
    assert "note, which is no chip and has no NIR file" in err


def test_what_is_no_target(registered):
    with pytest.raises(UserError, match="target 'odd' must be a class derived from Target or Chip"):
        TARGETS.register("odd")(Generic())
    with pytest.raises(UserError, match="Generic is target 'generic' already"):
        TARGETS.register("odd")(Generic)
    assert "odd" not in TARGETS
    with pytest.raises(UserError, match="simulator 'odd' must be a class derived from Simulator"):
        SIMULATORS.register("odd")(Generic)


def test_an_own_simulator_is_one_class(registered, tmp_path, command, spikes):
    @SIMULATORS.register("own")
    class Own(Simulator):
        """Reads the file back as a network of ours."""

        def spikes(self, chain, inputs):
            net, found = from_nir(chain.graph), {}
            names = iter(chain.neurons)
            for layer in net:
                inputs = layer(inputs)
                if hasattr(layer, "threshold"):
                    found[next(names).name] = inputs
            return found

    folder = tmp_path / "export"
    write_export(dense("zero", 0.9, (16, 12, 6)), spikes, folder)
    code, out, err = command("verify", folder, "--in", "own", "--json")
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])["results"][0]
    assert (result["simulator"], result["status"]) == ("own", "identical")
    assert "own unknown" in command("targets")[1]
    _, net, shown = read_export(folder)
    results = {each.simulator: each.status for each in verify(net, folder / "network.nir", shown.sequence())}
    assert results["own"] == "identical", "one of all that are registered"


def test_own_options_in_python(own, tmp_path):
    config = RunConfig(data="digits", hidden=(20,), epochs=1, steps=8, reset="zero")
    train(config, tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"--width 20 belongs to --target own, but this run has --target generic"):
        build(tmp_path / "run", tmp_path / "e", target="generic", width=20)
    with pytest.raises(UserError, match=r"'witdh'.*did you mean 'width'"):
        build(tmp_path / "run", tmp_path / "e", target="own", witdh=20)
    assert not (tmp_path / "e").exists()


PLUGIN = """
from hw_export.nir import from_nir
from hw_export.simulators import SIMULATORS, Simulator
from hw_export.targets import TARGETS
from hw_export.targets.generic import Generic

@TARGETS.register("planted")
class Planted(Generic):
    '''A chip.

    Args:
        depth: how deep it lies
    '''

    summary = "a chip of a plug-in"

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.depth = depth

@SIMULATORS.register("mirror")
class Mirror(Simulator):
    def spikes(self, chain, inputs):
        names, found = iter(chain.neurons), {}
        for layer in from_nir(chain.graph):
            inputs = layer(inputs)
            if hasattr(layer, "threshold"):
                found[next(names).name] = inputs
        return found
"""


@pytest.fixture
def plugin(registered, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(plugins, "_loaded", {})
    path = tmp_path / "planted.py"
    path.write_text(PLUGIN)
    return path


def test_a_plugin_brings_a_chip_and_a_simulator(plugin, tmp_path, command, monkeypatch, spikes):
    monkeypatch.chdir(tmp_path)
    config = RunConfig(data="digits", hidden=(20,), epochs=1, steps=8, reset="zero")
    train(config, tmp_path / "run", progress=False)
    code, _, err = command("build", "run", "--target", "planted")
    assert code == 2
    assert "unknown target 'planted'" in err
    code, out, err = command("build", "run", "--plugin", plugin, "--target", "planted", "--depth", "5")
    assert code == 0, err
    manifest = yaml.safe_load((tmp_path / "exports" / "run-planted" / "manifest.yaml").read_text())
    assert manifest["target_options"] == {"depth": 5}
    assert manifest["plugins"] == {str(plugin): ["target planted"]}
    assert command("verify", "exports/run-planted", "--plugin", plugin)[0] == 0
    assert "--depth" in command("build", "--plugin", plugin, "--help")[1]
    assert "planted" in command("targets", "--plugin", plugin)[1]
    write_export(dense("zero", 0.9, (16, 12, 6)), spikes, tmp_path / "nir")
    code, out, err = command("verify", tmp_path / "nir", "--in", "mirror", "--plugin", plugin)
    assert code == 0, err
    assert "mirror" in out


def test_an_export_says_which_plugin_it_needs(plugin, tmp_path, command, monkeypatch, spikes):
    plugins.load(str(plugin))
    write_export(dense("zero", 0.9, (16, 12, 6)), spikes, tmp_path / "export", target="planted")
    monkeypatch.setattr(plugins, "_loaded", {})
    TARGETS.remove("planted")
    code, _, err = command("verify", tmp_path / "export")
    assert (code, err.count("\n")) == (2, 1)
    assert f"needs the target planted of the plug-in {plugin}: if you trust its code, say --plugin {plugin}" in err


CHIP = """
from hw_export.integer import Arithmetic
from hw_export.targets import TARGETS, Chip

@TARGETS.register("{name}")
class Mine(Chip):
    summary = "a chip"
    bits = (4, 8)
    arithmetic = Arithmetic(16)
    limits = ()

    def prepare(self, network):
        return {{}}

    def write_network(self, network, folder):
        raise ZeroDivisionError("no\\nway")

    def read_network(self, facts, folder):
        return None
"""


@pytest.fixture
def clean_registry(monkeypatch):
    """Forgets the registrations of a test after it."""
    for inside in ("_entries", "_facts", "_sources"):
        monkeypatch.setattr(TARGETS, inside, dict(getattr(TARGETS, inside)))


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"summary": 3}, "summary of Mine must be a line of text, got 3"),
        ({"bits": 8}, "bits of Mine must be a tuple of widths, 2 to 16, and 32 for floats, got 8"),
        ({"bits": ()}, "bits of Mine must be a tuple of widths"),
        ({"bits": (1, 8)}, "bits of Mine must be a tuple of widths"),
        ({"bits": (40,)}, "bits of Mine must be a tuple of widths"),
        ({"bits": ("8",)}, "bits of Mine must be a tuple of widths"),
        ({"default_bits": 12, "bits": (2, 8)}, "default_bits of Mine must be one of its bits"),
        ({"sources": "a page"}, "sources of Mine must be a tuple of texts"),
        ({"energy": 3.0}, "energy of Mine must be an EnergyModel, or None, got 3.0"),
        ({"nir_file": 3}, "nir_file of Mine must be the name of a file, or None"),
    ],
)
def test_what_a_class_states_wrongly_is_told(clean_registry, stated, told):
    TARGETS.register("mine")(type("Mine", (Generic,), stated))
    with pytest.raises(UserError, match=f"target 'mine': {re.escape(told)}"):
        make_target("mine")


def test_what_a_class_leaves_out_is_told(clean_registry):
    class Short(Generic):
        def __init__(self, width: int = 3) -> None:
            self.cores = width

    class Late(Generic):
        def __init__(self, width: int = 3) -> None:
            self.width = width

    class Loose(Generic):
        def __init__(self, *widths: int) -> None:
            self.widths = widths

    class One(Generic):
        def __init__(self) -> None:
            self.arithmetic, self.limits = Arithmetic(16), "dense"

    for number, (kind, told) in enumerate(
        (
            (Short, "Short has no width, which must be kept by __init__"),
            (Late, "Late has no arithmetic, which must be a hw_export.integer.Arithmetic"),
            (Loose, "options have names, so Loose takes no *widths"),
            (One, "limits of One must be a tuple of limits, got 'dense'"),
        )
    ):
        TARGETS.register(f"mine-{number}")(kind)
        with pytest.raises(UserError, match=re.escape(told)):
            make_target(f"mine-{number}")
        with pytest.raises(UserError, match=re.escape(told)):
            IntegerSimulator(nn.Sequential(nn.Linear(4, 3), nn.LIF()), target=f"mine-{number}")


def test_a_class_without_a_method_is_told(clean_registry, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = CHIP.format(name="mine-short").replace("def prepare", "def prepared")
    (tmp_path / "mine.py").write_text(text)
    code, _, err = command("targets", "mine-short", "--plugin", "mine.py")
    assert (code, err.strip()) == (2, "hw-export: target 'mine-short' is not whole: Mine lacks prepare")


def test_a_chip_that_raises_is_told_in_a_line(clean_registry, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(RunConfig(data="digits", hidden=(8,), epochs=1, steps=3, reset="zero"), "run", progress=False)
    (tmp_path / "mine.py").write_text(CHIP.format(name="mine-raises"))
    code, _, err = command("build", "run", "--plugin", "mine.py", "--target", "mine-raises", "--out", "here")
    assert code == 2
    line = 1 + CHIP.splitlines().index('        raise ZeroDivisionError("no\\nway")')
    told = err.strip().splitlines()[-1]
    assert told.startswith(f"hw-export: the plug-in {tmp_path / 'mine.py'} fails: ZeroDivisionError: no")
    assert told.endswith(f"(line {line} of {tmp_path / 'mine.py'}, in write_network)")
    assert not (tmp_path / "here").exists()


def test_many_thresholds_are_told_in_a_few_words(tmp_path):
    torch.manual_seed(0)
    neurons = nn.LIF(torch.rand(6) * 0.5 + 0.4, torch.rand(6) + 0.5, "zero")
    net = nn.Sequential(nn.Linear(16, 6), neurons).eval()
    shown = ExportSamples(bernoulli(16), torch.arange(BATCH) % 6, STEPS, static=False, scale=1)
    manifest = write_export(net, shown, tmp_path / "export")
    (thresholds,) = (layer.threshold for layer in quantize(net, 8, input_scale=1).report)
    assert manifest["quantization"][0]["threshold"] == {"from": min(thresholds), "to": max(thresholds)}


@pytest.mark.parametrize("name", ["out", "json", "plugin", "help", "overwrite"])
def test_an_option_with_the_name_of_another_is_told(tmp_path, command, monkeypatch, clean_registry, name):
    monkeypatch.chdir(tmp_path)
    init = f"    def __init__(self, {name}: int = 4) -> None:\n        self.{name} = {name}\n"
    (tmp_path / "mine.py").write_text(CHIP.format(name=f"mine-{name}") + "\n" + init)
    code, _, err = command("targets", "--plugin", "mine.py")
    assert code == 2
    assert f"the option {name} of mine-{name} would be --{name}, a flag with another meaning" in err
