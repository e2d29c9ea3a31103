"""Exports for chips: what the folder holds, what is refused before anything is written, and how they are verified."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from export_nets import BATCH, STEPS, bernoulli, convolutional, dense

from hw_export.build import build, read_export, write_export
from hw_export.integer import IntegerSimulator
from hw_export.samples import ExportSamples
from hw_export.targets import TARGETS, Chip
from hw_export.verify import verify_chip
from spikelfp import nn
from spikelfp.errors import DataError, SaveError, UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

CHIPS = [name for name in TARGETS if issubclass(TARGETS[name], Chip)]


def fitting(name: str) -> nn.Sequential:
    """Neurons and weights that the chip of that name holds: 16 inputs, 12 and 6 neurons."""
    arithmetic = TARGETS[name]().arithmetic
    reset = "zero" if "zero" in arithmetic.resets else "immediate"
    net = dense(reset, 1.0 if arithmetic.decay == "none" else 0.9, (16, 12, 6))
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.register_parameter("bias", None)
    return net


@pytest.fixture
def spikes() -> ExportSamples:
    return ExportSamples(bernoulli(16), torch.arange(BATCH) % 6, STEPS, static=False, scale=1)


@pytest.mark.parametrize("name", CHIPS)
def test_an_export_for_a_chip_verifies(tmp_path, spikes, name):
    chip, folder = TARGETS[name](), tmp_path / "export"
    manifest = write_export(fitting(name), spikes, folder, target=name, bits=chip.default_bits)
    read, exported, shown = read_export(folder)
    assert read == manifest
    assert manifest["target"] == name
    assert set(manifest["sha256"]) == {p.name for p in folder.iterdir()} - {"manifest.yaml"}
    result = verify_chip(chip, folder, manifest, shown)
    assert result.status == "identical"
    assert [layer.layer for layer in result.layers] == ["2", "4"]
    assert all(layer.spikes > 0 for layer in result.layers)
    run = IntegerSimulator(chip.read(folder), chip.arithmetic).run(shown.sequence())
    with np.load(folder / "spikes.npz") as recorded:
        for layer, found in run.spikes.items():
            assert np.array_equal(recorded[layer], found.numpy())
    told = manifest["chip"]
    assert told["accuracy"] == pytest.approx((run.classes == shown.labels).float().mean().item())
    assert told["per_sample"]["spikes"] == run.counts.spikes
    assert told["weights"] == 16 * 12 + 12 * 6
    with torch.no_grad():
        same = (exported(shown.sequence()).sum(0).argmax(-1) == run.classes).float().mean().item()
    assert told["agreement"] == pytest.approx(same)


def test_the_energy_is_that_of_the_published_figures(tmp_path, spikes):
    manifest = write_export(fitting("loihi"), spikes, tmp_path / "export", target="loihi")
    counts, energy = manifest["chip"]["per_sample"], manifest["chip"]["energy"]
    by_hand = 23.6 * counts["synaptic_operations"] + 81 * counts["membrane_updates"] + 1.7 * counts["spikes"]
    assert energy["nanojoule"] == pytest.approx(by_hand / 1000)
    assert "Davies" in energy["source"]


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, samples):
    with pytest.raises(UserError, match=r"speck cannot hold .*layer '2': its decay beta is 0\.9, 1 only"):
        write_export(dense("zero"), samples, tmp_path / "export", target="speck")
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_are_not_whole_are_refused_with_what_to_do(tmp_path):
    given = ExportSamples(torch.rand(3, 24), torch.zeros(3, dtype=torch.int64), STEPS)
    with pytest.raises(UserError, match=r"loihi takes inputs of whole numbers: .*--input-scale"):
        write_export(dense("zero"), given, tmp_path / "export", target="loihi")
    manifest = write_export(dense("zero"), given.rounded(15), tmp_path / "export", target="loihi")
    assert manifest["input_scale"] == 15
    shown = read_export(tmp_path / "export")[2]
    assert torch.equal(shown.inputs, (given.inputs * 15).round())


@pytest.mark.parametrize("scale", [0, -3])
def test_scales_of_inputs_that_make_no_sense(samples, scale):
    with pytest.raises(UserError, match=f"at least 1, got {scale}"):
        samples.rounded(scale)


def test_bits_that_the_chip_does_not_have(tmp_path, spikes):
    with pytest.raises(UserError, match="takes 2 to 4 bits, got 8"):
        write_export(fitting("tinyodin"), spikes, tmp_path / "export", target="tinyodin", bits=8)


def test_a_read_only_place_is_left_as_it_was(tmp_path, spikes, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TARGETS["generic"], "write_network", full, raising=True)
    with pytest.raises(SaveError, match="No space left"):
        write_export(fitting("generic"), spikes, tmp_path / "export", target="generic")
    assert list(tmp_path.iterdir()) == []


def test_convolutions_on_loihi_and_in_arrays(tmp_path):
    shape = (1, 10, 10)
    given = ExportSamples(bernoulli(*shape), torch.zeros(BATCH, dtype=torch.int64), STEPS, static=False, scale=1)
    manifest = write_export(convolutional("zero"), given, tmp_path / "export", target="generic")
    assert verify_chip(TARGETS["generic"](), tmp_path / "export", manifest, read_export(tmp_path / "export")[2]).layers
    with pytest.raises(UserError, match=r"loihi cannot hold .*[Pp]ool"):
        write_export(convolutional("zero"), given, tmp_path / "loihi", target="loihi")


class TestCommand:
    def test_from_a_run_to_a_verified_chip(self, tmp_path, command):
        config = RunConfig(data="digits", hidden=(30,), epochs=4, steps=10, reset="zero", weight_bits=4)
        train(config, tmp_path / "run", progress=False)
        code, out, err = command("build", tmp_path / "run", "--target", "loihi", "--out", tmp_path / "e", "--json")
        assert (code, err) == (0, "")
        manifest = json.loads(out.splitlines()[-1])
        assert manifest["bits"] == 4, "those it was trained with"
        assert "in the arithmetic of loihi" in out
        assert "energy estimate" in out
        code, out, _ = command("verify", tmp_path / "e", "--json")
        assert code == 0
        assert json.loads(out.splitlines()[-1])["results"][0]["simulator"] == "loihi arithmetic"

    def test_rounded_inputs(self, tmp_path):
        train(RunConfig(data="digits", hidden=(20,), epochs=2, steps=8), tmp_path / "run", progress=False)
        manifest = build(tmp_path / "run", tmp_path / "e", target="generic", input_scale=3)
        assert (manifest["input_scale"], manifest["bits"]) == (3, 8)
        assert set(np.unique(read_export(tmp_path / "e")[2].inputs)) == {0, 1, 2, 3}

    def test_files_that_were_changed_are_found(self, tmp_path, command, spikes):
        folder = tmp_path / "export"
        write_export(fitting("generic"), spikes, folder, target="generic")
        with np.load(folder / "network.npz") as content:
            arrays = dict(content)
        name = next(key for key in arrays if key.endswith("weight"))
        kind = arrays[name].dtype
        arrays[name] = np.where(np.arange(arrays[name].size).reshape(arrays[name].shape) < 20, 127, arrays[name])
        arrays[name] = arrays[name].astype(kind)
        np.savez(folder / "network.npz", **arrays)
        code, out, _ = command("verify", folder)
        assert code == 1
        assert "first difference at sample" in out
        assert "network.npz is not the file that was built" in out

    def test_a_missing_file_is_one_line(self, tmp_path, command, spikes):
        write_export(fitting("generic"), spikes, tmp_path / "export", target="generic")
        (tmp_path / "export" / "network.npz").unlink()
        code, _, err = command("verify", tmp_path / "export")
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "network.npz" in err

    def test_simulators_of_nir_files_cannot_read_it(self, tmp_path, command, spikes):
        write_export(fitting("generic"), spikes, tmp_path / "export", target="generic")
        code, _, err = command("verify", tmp_path / "export", "--in", "norse")
        assert code == 2
        assert "leave --in out" in err

    def test_targets_lists_limits_and_sources(self, command):
        code, out, _ = command("targets", "--json")
        assert code == 0
        assert set(json.loads(out.splitlines()[-1])["targets"]) == set(TARGETS)
        code, out, _ = command("targets", "tinyodin")
        assert "limit: " in out
        assert "source: " in out
        assert command("targets", "tinyodon")[0] == 2

    def test_recorded_spikes_of_another_network(self, tmp_path, spikes):
        manifest = write_export(fitting("generic"), spikes, tmp_path / "export", target="generic")
        np.savez(tmp_path / "export" / "spikes.npz", other=np.zeros(3, np.uint8))
        with pytest.raises(DataError, match="is of the layers other"):
            verify_chip(TARGETS["generic"](), tmp_path / "export", manifest, spikes)


def test_the_manifest_is_plain_yaml(tmp_path, spikes):
    write_export(fitting("xylo"), spikes, tmp_path / "export", target="xylo")
    assert yaml.safe_load((tmp_path / "export" / "manifest.yaml").read_text())["chip"]["energy"]["nanojoule"] is None


@pytest.mark.parametrize("name", CHIPS)
def test_constants_of_every_neuron(tmp_path, spikes, name):
    """They are in the chip's files, or refused in one line."""
    net, chip = fitting(name), TARGETS[name]()
    betas, thresholds = torch.linspace(0.5, 0.95, 12), torch.linspace(0.7, 1.3, 12)
    net[2] = nn.LIF(betas, thresholds, net[2].reset)
    if not chip.per_neuron:
        with pytest.raises(
            UserError, match=r"layer '2': different thresholds \d+, at most 1.*different decays"
        ) as refusal:
            write_export(net, spikes, tmp_path / "export", target=name)
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "export").exists()
        return
    manifest = write_export(net, spikes, tmp_path / "export", target=name, bits=chip.default_bits)
    told = manifest["neurons"][0]
    assert (told["beta"]["from"], told["beta"]["to"]) == pytest.approx((0.5, 0.95))
    assert told["threshold"]["from"] < told["threshold"]["to"]
    _, exported, shown = read_export(tmp_path / "export")
    assert verify_chip(chip, tmp_path / "export", manifest, shown).status == "identical"
    neurons, _ = chip.read(tmp_path / "export").neurons
    assert torch.equal(neurons.beta, betas.double())
    plus = 1 if chip.arithmetic.fires == ">=" else 0
    assert torch.equal(neurons.threshold, exported[2].threshold.floor().long() + plus)
    assert torch.equal((neurons.threshold[1:] >= neurons.threshold[:-1]).all(), torch.tensor(True))
