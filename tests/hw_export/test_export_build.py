"""Export folders: whole or not there, and with all that is needed to check them."""

from __future__ import annotations

import os
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
import yaml
from export_nets import BATCH, STEPS, bernoulli, convolutional, dense, pixels

from hw_export.build import build, changed_files, read_export, write_export
from hw_export.model_file import load_network, save_network
from hw_export.samples import ExportSamples, load_samples, save_samples
from hw_export.verify import verify
from spikelfp import models, nn
from spikelfp.errors import (
    CheckpointError,
    DataError,
    RunFolderError,
    SaveError,
    ShapeError,
    UnknownNameError,
    UserError,
)
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A trained run, of the digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(RunConfig(data="digits", hidden=(40,), epochs=6, steps=12), folder, progress=False)
    return folder


def test_an_export_holds_what_the_check_needs(tmp_path, samples, reset):
    net = dense(reset)
    manifest = write_export(net, samples, tmp_path / "export", facts={"data": "noise", "seed": 3})
    names = sorted(path.name for path in (tmp_path / "export").iterdir())
    assert names == ["manifest.yaml", "model.pt", "network.nir", "samples.npz"]
    read, exported, shown = read_export(tmp_path / "export")
    assert read == manifest
    assert changed_files(tmp_path / "export", read) == []
    assert (read["data"], read["seed"], read["target"], read["bits"]) == ("noise", 3, "nir", 8)
    assert (read["input_scale"], read["steps"], read["dt"], read["samples"]) == (16, STEPS, 1e-4, BATCH)
    assert [n["reset"] for n in read["neurons"]] == [reset, reset]
    assert [n["shape"] for n in read["neurons"]] == [[32], [10]]
    assert read["latency"]["brian2"] == 1
    assert [layer["exact"] for layer in read["quantization"]] == [True, True]
    assert torch.equal(shown.inputs, samples.inputs * 16)
    assert torch.equal(shown.labels, samples.labels)
    (result,) = verify(exported, tmp_path / "export" / "network.nir", shown.sequence(), ["snntorch"])
    assert result.status == "identical"


def test_accuracies_are_those_of_the_networks(tmp_path):
    net = dense("zero")
    inputs = pixels(24, count=40)
    labels = net(nn.constant(inputs, STEPS)).sum(0).argmax(-1)
    labels[:10] = (labels[:10] + 1) % 10
    manifest = write_export(net, ExportSamples(inputs, labels, STEPS, scale=16), tmp_path / "e", bits=3)
    _, exported, shown = read_export(tmp_path / "e")
    after = exported(shown.sequence()).sum(0).argmax(-1)
    assert manifest["accuracy"]["float"] == 0.75
    assert manifest["accuracy"]["exported"] == pytest.approx((after == labels).float().mean().item())
    assert manifest["accuracy"]["agreement"] < 1


def test_spike_sequences_and_floats(tmp_path):
    spikes = ExportSamples(bernoulli(24), torch.zeros(BATCH, dtype=torch.int64), STEPS, static=False, scale=1)
    assert write_export(dense("zero"), spikes, tmp_path / "spikes")["input_scale"] == 1
    assert torch.equal(read_export(tmp_path / "spikes")[2].sequence(), spikes.inputs)
    both = ExportSamples(bernoulli(24) * 2 - 1, spikes.labels, STEPS, static=False, scale=1)
    assert write_export(dense("zero"), both, tmp_path / "both")["input_scale"] is None
    analog = ExportSamples(torch.rand(BATCH, 24), torch.zeros(BATCH, dtype=torch.int64), STEPS, scale=255)
    manifest = write_export(dense("zero"), analog, tmp_path / "analog")
    assert manifest["input_scale"] is None
    assert "no integers" in manifest["notes"][0]
    assert torch.equal(read_export(tmp_path / "analog")[2].inputs, analog.inputs)
    manifest = write_export(dense("zero"), spikes, tmp_path / "floats", bits=32)
    assert manifest["quantization"] == []
    assert "float weights" in manifest["notes"][0]


def test_where_integers_would_be_too_large_the_samples_stay_floats(tmp_path):
    shown = ExportSamples(pixels(24), torch.zeros(BATCH, dtype=torch.int64), STEPS, scale=16 * 255)
    manifest = write_export(dense("zero"), shown, tmp_path / "e", bits=16)
    assert manifest["input_scale"] is None
    assert "could reach" in manifest["notes"][0]
    assert torch.equal(read_export(tmp_path / "e")[2].inputs, shown.inputs)


def test_images_go_to_convolutions_as_images(tmp_path):
    shown = ExportSamples(pixels(1, 8, 8), torch.zeros(BATCH, dtype=torch.int64), STEPS, scale=16)
    manifest = write_export(convolutional("zero"), shown, tmp_path / "e")
    assert manifest["input_shape"] == [1, 8, 8]
    assert nir.read(tmp_path / "e" / "network.nir").input_type["input"].tolist() == [1, 8, 8]


def test_an_export_is_not_replaced_unless_asked(tmp_path, samples):
    out = tmp_path / "export"
    write_export(dense("zero"), samples, out)
    before = (out / "manifest.yaml").read_bytes()
    with pytest.raises(UserError, match=r"exists already.*--overwrite"):
        write_export(dense("subtract"), samples, out)
    assert (out / "manifest.yaml").read_bytes() == before
    (out / "notes").touch()
    (out / "verify.json").touch()
    write_export(dense("subtract"), samples, out, overwrite=True)
    assert read_export(out)[0]["neurons"][0]["reset"] == "subtract"
    assert (out / "notes").exists()  # only files of the export go
    assert not (out / "verify.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_of_others_is_never_replaced(tmp_path, samples):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(UserError, match="is no export"):
        write_export(dense("zero"), samples, tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        write_export(dense("zero"), samples, tmp_path / "file", overwrite=True)
    assert (tmp_path / "thesis" / "chapter").exists()
    out = tmp_path / "export"
    write_export(dense("zero"), samples, out)
    manifest = yaml.safe_load((out / "manifest.yaml").read_text())
    manifest["sha256"].pop("model.pt")  # so that model.pt is somebody's own
    for name, content, named in (
        ("network.nir", b"mine", r"network\.nir in it is not the file that was built"),
        ("manifest.yaml", b"a: 1", "no manifest of format 1"),
        ("manifest.yaml", yaml.safe_dump(manifest).encode(), r"model\.pt is in the way"),
    ):
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        (out / name).write_bytes(content)
        with pytest.raises(UserError, match=named):
            write_export(dense("zero"), samples, out, overwrite=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {**before, name: content}
        (out / name).write_bytes(before[name])
    manifest = yaml.safe_load((out / "manifest.yaml").read_text())
    manifest["sha256"]["../thesis/chapter"] = ""
    (out / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(UserError, match="which is no file in the folder"):
        write_export(dense("zero"), samples, out, overwrite=True)
    assert (tmp_path / "thesis" / "chapter").exists()


@pytest.mark.parametrize("failing", ["write", "move"])
def test_a_failure_leaves_nothing_half_written(tmp_path, samples, monkeypatch, failing):
    out = tmp_path / "export"
    write_export(dense("zero"), samples, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = os.replace

    def full(source, target):
        moved = Path(target) == out / "manifest.yaml" and ".new" in str(source)
        if moved if failing == "move" else str(target).endswith("samples.npz"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match="No space left"):
        write_export(dense("subtract"), samples, out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path, samples):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"lies in .*/file, which is no folder"):
        write_export(dense("zero"), samples, tmp_path / "file" / "export")


def test_changed_files_are_noticed(tmp_path, samples):
    write_export(dense("zero"), samples, tmp_path / "e")
    with open(tmp_path / "e" / "network.nir", "ab") as file:
        file.write(b"x")
    (tmp_path / "e" / "samples.npz").unlink()
    manifest = yaml.safe_load((tmp_path / "e" / "manifest.yaml").read_text())
    assert changed_files(tmp_path / "e", manifest) == ["network.nir", "samples.npz"]


@pytest.mark.parametrize("name", [5, None, True])
def test_names_of_files_that_are_no_text(tmp_path, samples, name):
    manifest = write_export(dense("zero"), samples, tmp_path / "e")
    manifest["sha256"][name] = "0" * 64
    (tmp_path / "e" / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(DataError, match="is no manifest of format 1"):
        read_export(tmp_path / "e")
    with pytest.raises(DataError, match="is no manifest of format 1"):
        write_export(dense("zero"), samples, tmp_path / "e", overwrite=True)


def test_a_file_of_holes_is_a_changed_one_and_is_not_read(tmp_path, samples):
    manifest = write_export(dense("zero"), samples, tmp_path / "e")
    os.truncate(tmp_path / "e" / "network.nir", 1 << 40)
    assert changed_files(tmp_path / "e", manifest) == ["network.nir"]
    with pytest.raises(UserError, match=r"network\.nir in it is not the file that was built"):
        write_export(dense("zero"), samples, tmp_path / "e", overwrite=True)


def test_folders_that_are_no_exports_are_refused(tmp_path, samples):
    with pytest.raises(UserError, match="is no export"):
        read_export(tmp_path)
    (tmp_path / "manifest.yaml").write_text("a: [")
    with pytest.raises(DataError, match="not valid YAML"):
        read_export(tmp_path)
    (tmp_path / "manifest.yaml").write_text("format: 99")
    with pytest.raises(DataError, match="no manifest of format 1"):
        read_export(tmp_path)
    write_export(dense("zero"), samples, tmp_path / "e")
    (tmp_path / "e" / "model.pt").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a readable network"):
        read_export(tmp_path / "e")


@pytest.mark.parametrize("bits", [0, 1, 17, 31])
def test_widths_a_target_does_not_take_are_refused(tmp_path, samples, bits):
    with pytest.raises(UserError, match=f"2 to 16 bits, or 32 for floats, got {bits}"):
        write_export(dense("zero"), samples, tmp_path / "e", bits=bits)
    assert not (tmp_path / "e").exists()


def test_a_trained_run_is_exported(tmp_path, run):
    manifest = build(run, tmp_path / "e", samples=30)
    assert manifest["data"] == "digits"
    assert manifest["input_scale"] == 16
    assert manifest["samples"] == 30
    assert manifest["accuracy"]["float"] > 0.2
    _, exported, shown = read_export(tmp_path / "e")
    (result,) = verify(exported, tmp_path / "e" / "network.nir", shown.sequence(), ["norse"])
    assert result.status == "identical"


def test_a_run_is_exported_the_same_twice(tmp_path, run):
    first, second = (build(run, tmp_path / name, samples=5) for name in ("a", "b"))
    assert first["sha256"]["network.nir"] == second["sha256"]["network.nir"]
    assert first["quantization"] == second["quantization"]


def test_encoded_inputs_are_stored_as_they_were_shown(tmp_path, run):
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"encoding": "rate"}
    other = tmp_path / "rate"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True) | {"encoding": "rate"}
    torch.save(content, other / "checkpoints" / "last.pt")
    state = torch.get_rng_state()
    manifest = build(other, tmp_path / "e", samples=5)
    assert torch.equal(torch.get_rng_state(), state)
    shown = read_export(tmp_path / "e")[2]
    assert (manifest["encoding"], manifest["input_scale"], shown.static) == ("rate", 1, False)
    assert set(shown.inputs.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": "nri"}, UnknownNameError, "did you mean 'nir'"),
        ({"samples": 0}, UserError, "samples must be at least 1, got 0"),
        ({"weights": "lats"}, UnknownNameError, "did you mean 'last'"),
        ({"bits": 1}, UserError, "2 to 16 bits"),
        ({"clip": "median"}, UnknownNameError, "unknown clip"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, run, options, error, text):
    with pytest.raises(error, match=text):
        build(run, tmp_path / "e", **options)
    assert not (tmp_path / "e").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        build(tmp_path, tmp_path / "e")


def test_networks_come_back_from_their_file(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.LIF(0.8, 0.2, "zero")),
        nn.AvgPool2d(2, stride=1),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(18, 4),
        nn.ReLU(),
        nn.Linear(4, 3),
        nn.Heaviside(),
    ).eval()
    save_network(tmp_path / "model.pt", net)
    state = torch.get_rng_state()
    back = load_network(tmp_path / "model.pt")
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(back) == repr(net)
    x = torch.rand(3, 2, 1, 8, 8)
    assert torch.equal(back(x), net(x))
    torch.load(tmp_path / "model.pt", weights_only=True)


def test_network_files_of_others_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no network"):
        load_network(tmp_path / "missing.pt")
    torch.save({"format": 2}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="format 2, expected 1"):
        load_network(tmp_path / "new.pt")
    torch.save({"format": 1, "layers": [("0", "Oracle", {})], "weights": {}}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="'Oracle' is no layer"):
        load_network(tmp_path / "odd.pt")
    with pytest.raises(UserError, match="layer '0' is a Tanh"):
        save_network(tmp_path / "tanh.pt", torch.nn.Sequential(torch.nn.Tanh()))


def test_samples_come_back_from_their_file(tmp_path):
    labels = torch.arange(BATCH)
    for inputs, static in (
        (pixels(24) * 16, True),
        (bernoulli(3, 3) * 2 - 1, False),
        (torch.rand(BATCH, 5) * 1000, True),
        (pixels(4) * 16000, True),
    ):
        save_samples(tmp_path / "samples.npz", ExportSamples(inputs, labels, STEPS, static))
        back = load_samples(tmp_path / "samples.npz")
        assert torch.equal(back.inputs, inputs)
        assert torch.equal(back.sequence(), inputs if not static else nn.constant(inputs, STEPS))
        assert (back.steps, back.static, back.labels.tolist()) == (STEPS, static, labels.tolist())
        assert back.first(2).sequence().shape[1] == 2


def test_samples_that_do_not_fit_are_refused(tmp_path):
    labels = torch.zeros(BATCH, dtype=torch.int64)
    with pytest.raises(ShapeError, match="labels do not fit"):
        ExportSamples(pixels(4), labels[:2], STEPS)
    with pytest.raises(ShapeError, match="expected 7"):
        ExportSamples(bernoulli(4), labels, 7, static=False)
    for mask in (torch.ones(BATCH, STEPS) > 0, torch.ones(STEPS, BATCH)):
        with pytest.raises(ShapeError, match=r"the mask of .* is torch"):
            ExportSamples(pixels(4), labels, STEPS, mask=mask)
    with pytest.raises(UserError, match="at least one sample"):
        ExportSamples(torch.zeros(0, 4), labels[:0], STEPS)
    with pytest.raises(UserError, match="NaN"):
        ExportSamples(torch.full((BATCH, 4), float("nan")), labels, STEPS)
    with pytest.raises(DataError, match="no samples at"):
        load_samples(tmp_path / "missing.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(DataError, match="no readable samples"):
        load_samples(tmp_path / "broken.npz")


def test_only_integers_in_the_unit_range_are_scaled():
    labels = torch.zeros(BATCH, dtype=torch.int64)
    eight_bit = torch.from_numpy(np.arange(BATCH * 4).reshape(BATCH, 4)).float() * (1 / 255)
    whole = ExportSamples(eight_bit, labels, STEPS, scale=255).integers()
    assert whole is not None
    assert torch.equal(whole.inputs, torch.arange(BATCH * 4.0).reshape(BATCH, 4))
    assert ExportSamples(eight_bit, labels, STEPS).integers() is None
    assert ExportSamples(eight_bit, labels, STEPS, scale=16).integers() is None
    assert ExportSamples(eight_bit * 255, labels, STEPS, scale=1).integers() is None


@pytest.mark.parametrize(
    "layer",
    [nn.Synaptic(), nn.RecurrentLIF(10), nn.RecurrentSynaptic(10), nn.MultiSpikeLIF(), nn.LI(), nn.Scale(2.0)],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("bits", [8, 32])
def test_layers_that_exports_do_not_hold_are_one_clear_error(tmp_path, samples, layer, bits):
    net = nn.Sequential(nn.Linear(24, 10), nn.LIF(), nn.Linear(10, 10), layer)
    with pytest.raises(UserError) as caught:
        write_export(net, samples, tmp_path / "e", bits=bits)
    assert "\n" not in str(caught.value)
    assert "'3'" in str(caught.value) or "layer_3" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_max_pooling_is_refused_before_anything_is_written(tmp_path):
    shown = ExportSamples(torch.zeros(BATCH, 1, 28, 28), torch.zeros(BATCH, dtype=torch.int64), 2, scale=255)
    with pytest.raises(UserError, match="--pool avg"):
        write_export(models.lif_lenet(pool="max"), shown, tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"clip": "max"}, {"per_channel": True}, {"power_of_two": True}], ids=str)
def test_options_of_scales_that_are_not_chosen_are_refused(run, tmp_path, options):
    flag = f"--{next(iter(options)).replace('_', '-')}"
    with pytest.raises(UserError, match=rf"^{flag}.* belongs to weights of fewer --bits than 32, but .* --bits 32"):
        build(run, tmp_path / "e", bits=32, **options)
    assert not (tmp_path / "e").exists()
