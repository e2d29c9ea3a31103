"""Targets of a user's own that are written wrongly: one line says what is wrong, and where."""

from __future__ import annotations

import re

import pytest
import torch
from export_nets import BATCH, STEPS, bernoulli

from hw_export import quantize
from hw_export.build import write_export
from hw_export.integer import Arithmetic, IntegerSimulator
from hw_export.samples import ExportSamples
from hw_export.targets import TARGETS, make_target
from hw_export.targets.generic import Generic
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

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
def registered(monkeypatch):
    """Forgets what a test registers behind it."""
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
def test_what_a_class_states_wrongly_is_told(registered, stated, told):
    TARGETS.register("mine")(type("Mine", (Generic,), stated))
    with pytest.raises(UserError, match=f"target 'mine': {re.escape(told)}"):
        make_target("mine")


def test_what_a_class_leaves_out_is_told(registered):
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


def test_a_class_without_a_method_is_told(registered, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = CHIP.format(name="mine-short").replace("def prepare", "def prepared")
    (tmp_path / "mine.py").write_text(text)
    code, _, err = command("targets", "mine-short", "--plugin", "mine.py")
    assert (code, err.strip()) == (2, "hw-export: target 'mine-short' is not whole: Mine lacks prepare")


def test_a_chip_that_raises_is_told_in_a_line(registered, tmp_path, command, monkeypatch):
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
def test_an_option_with_the_name_of_another_is_told(tmp_path, command, monkeypatch, registered, name):
    monkeypatch.chdir(tmp_path)
    init = f"    def __init__(self, {name}: int = 4) -> None:\n        self.{name} = {name}\n"
    (tmp_path / "mine.py").write_text(CHIP.format(name=f"mine-{name}") + "\n" + init)
    code, _, err = command("targets", "--plugin", "mine.py")
    assert code == 2
    assert f"the option {name} of mine-{name} would be --{name}, a flag with another meaning" in err
