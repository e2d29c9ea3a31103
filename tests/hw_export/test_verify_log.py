"""Logs of a board compared with an export: what is found, what is refused, and how each is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from target_nets import chip_of, trained

from hw_export.build import read_export, sha256, write_export
from hw_export.samples import ExportSamples
from hw_export.targets.tinyodin import FILE
from hw_export.verify import verify_log
from spikelfp import nn
from spikelfp.errors import DataError, UserError

STEPS, SAMPLES = 5, 3


def made(folder: Path, target: str, bits: int) -> Path:
    net = trained((8, 10, 4), reset="immediate" if target == "xylo" else "zero", bias=False)
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.register_parameter("bias", None)
    x = (torch.rand(STEPS, SAMPLES, 8, generator=torch.Generator().manual_seed(1)) < 0.6).float()
    write_export(net, ExportSamples(x, torch.arange(3), STEPS, static=False, scale=1), folder, target=target, bits=bits)
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("exports") / "tiny", "tinyodin", 4)


def lines_of(folder: Path, addresses: bool = True, samples: int = SAMPLES) -> list[str]:
    """The log of a board that does what the export says, from its ``spikes.npz``."""
    first, lines = 8, []
    with np.load(folder / "spikes.npz") as content:
        spikes = {name: content[name] for name in content.files}
    for sample in range(samples):
        lines.append(f"sample {sample}")
        for step in range(STEPS):
            lines.append(f"step {step}")
            place = first
            for name, counts in spikes.items():
                own = np.repeat(np.arange(counts.shape[-1]), counts[step, sample])
                lines += [f"spike {place + n}" if addresses else f"spike {name} {n}" for n in own.tolist()]
                place += counts.shape[-1]
    return lines


def compared(tmp_path: Path, folder: Path, lines: list[str], samples: int = SAMPLES):
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    manifest, _, shown = read_export(folder)
    return verify_log(tmp_path / "log", chip_of(manifest["target"]), folder, shown.first(samples))


def test_the_same_spikes(tmp_path, export):
    lines = lines_of(export)
    result = compared(tmp_path, export, lines)
    assert (result.simulator, result.status, result.reason) == ("log of tinyodin", "identical", "")
    assert [layer.layer for layer in result.layers] == ["2", "4"]
    assert all(layer.spikes > 0 for layer in result.layers)
    assert compared(tmp_path, export, lines_of(export, addresses=False)).status == "identical"
    echoed = [line for one in lines for line in (one, "drain 7  # as it was sent", "", "tref 511", "expect 3")]
    assert compared(tmp_path, export, ["# a board", "clear 0", *echoed]).status == "identical"


def test_the_order_within_a_step_is_free(tmp_path, export):
    lines, mixed = lines_of(export), []
    held: list[str] = []
    for line in [*lines, "end"]:
        if line.startswith("spike"):
            held.insert(0, line)
        else:
            mixed += [*held, line]
            held = []
    assert mixed[:-1] != lines
    assert compared(tmp_path, export, mixed[:-1]).status == "identical"


def test_the_first_difference_is_named_with_its_address(tmp_path, export):
    lines = lines_of(export)
    place = next(i for i in range(lines.index("sample 1"), len(lines)) if lines[i].startswith("spike"))
    step = next(lines[i] for i in range(place, 0, -1) if lines[i].startswith("step"))
    address = int(lines[place].split()[1])
    late = [*lines[:place], *lines[place + 1 :]]
    late.insert(late.index("sample 2") + 1 + 1, "spike 20")  # later on, in the last layer
    result = compared(tmp_path, export, late)
    assert result.status == "different"
    with np.load(export / "spikes.npz") as content:
        before = int(content["2"][int(step.split()[1]), 1, address - 8])
    assert result.reason == (
        f"first difference in layer '2' at sample 1, {step}, neuron {address - 8} (address {address}): "
        f"{before} in the export, {before - 1} in the log"
    )
    assert sum(layer.differences for layer in result.layers) == 2


def test_first_is_the_first_sample_not_the_first_step(tmp_path, export):
    lines = lines_of(export)
    lines.insert(lines.index("sample 2") + 2, "spike 8")  # its step 0
    lines.insert(lines.index("sample 1"), "spike 9")  # the last step of sample 0
    assert "at sample 0, step 4, neuron 1 (address 9)" in compared(tmp_path, export, lines).reason


@pytest.mark.parametrize(
    ("where", "line", "text"),
    [
        (0, "spike 12", "line 1: a spike of address 12 before the first sample"),
        (0, "spike 3", "line 1: a spike of address 3 before the first sample"),
        (1, "spike 12", "line 2: a spike of layer '2', neuron 4 before the first step of sample 0"),
        (2, "spike 3", "line 3: a spike of address 3 in sample 0, step 0, which the network does not have"),
        (2, "spike 22", "line 3: a spike of address 22 in sample 0, step 0, which the network does not have"),
    ],
)
def test_spikes_that_belong_nowhere_are_differences(tmp_path, export, where, line, text):
    lines = lines_of(export)
    lines.insert(where, line)
    result = compared(tmp_path, export, lines)
    assert result.status == "different"
    assert text.replace("address 12 before the first sample", "layer '2', neuron 4 before the first sample") in (
        result.reason
    )
    assert "; 2 more like it" in compared(tmp_path, export, [*lines[:where], line, line, *lines[where:]]).reason


def test_inputs_are_compared_where_they_are_logged(tmp_path, export):
    shown = read_export(export)[2].sequence()
    lines: list[str] = []
    sample = 0
    for line in lines_of(export):
        lines.append(line)
        if line.startswith("sample"):
            sample = int(line.split()[1])
        if line.startswith("step"):
            lines += [f"input {i}" for i in shown[int(line.split()[1]), sample].nonzero().flatten().tolist()]
    result = compared(tmp_path, export, lines)
    assert (result.status, result.layers[0].layer) == ("identical", "input")
    assert result.layers[0].spikes == int(shown.sum())
    place = lines.index("sample 1") - 1
    result = compared(tmp_path, export, [*lines[:place], "input 2", *lines[place:]])
    assert "in layer 'input' at sample 0, step 4, neuron 2 (address 2)" in result.reason
    assert "an event of input 8" in compared(tmp_path, export, [*lines[:4], "input 8", *lines[4:]]).reason


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda lines: [], "it has no sample; write 'sample' and 'step' lines into it"),
        (lambda lines: lines[: lines.index("sample 2")], "it ends in sample 1 after 5 of its steps; .* --samples 2"),
        (lambda lines: lines[: lines.index("step 3")], "it ends in sample 0 after 3 of its steps; write"),
        (lambda lines: ["step 0", *lines], "line 1: a step before the first sample"),
        (lambda lines: ["sample 1", *lines], "line 1: sample 1, expected sample 0"),
        (lambda lines: ["sample 0", *lines], "line 2: sample 0 has 0 steps, the export 5"),
        (lambda lines: [*lines, "step 5"], "step 5, but a sample has the steps 0 to 4"),
        (lambda lines: [*lines, "sample 3"], "sample 3, but samples 0 to 2 are to be compared"),
        (lambda lines: ["sample 0", "step 1"], "line 2: step 1, expected step 0"),
        (lambda lines: ["sample 0", "step 0", "spike"], "line 3: 'spike' takes one whole number from 0, got ''"),
        (lambda lines: ["spike -1"], "got '-1'"),
        (lambda lines: ["spike 1.5"], "got '1.5'"),
        (lambda lines: ["spike ١"], "got '١'"),
        (lambda lines: ["spike 99999999999999999999"], "got '9999"),
        (lambda lines: ["spike 2 3 4"], "got '2 3 4'"),
        (lambda lines: ["spike 3 0"], "there is no layer '3': the export has 2, 4"),
        (lambda lines: ["spike 4 4"], "neuron 4 of layer '4', which has 4"),
        (lambda lines: ["fire 3"], "line 1: 'fire 3' is no line of a log"),
        (lambda lines: ["x" * 20_000], "line 1 has more than 10000 characters"),
        (lambda lines: ["y" * 9_000], "yyy…' is no line of a log"),
    ],
)
def test_what_is_no_log_is_one_line(tmp_path, export, change, text):
    with pytest.raises(DataError, match=text) as caught:
        compared(tmp_path, export, change(lines_of(export)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_that_are_no_text(tmp_path, export):
    _, _, shown = read_export(export)
    (tmp_path / "log").write_bytes(b"sample 0\n\xff\xfe")
    with pytest.raises(DataError, match="is no text"):
        verify_log(tmp_path / "log", chip_of("tinyodin"), export, shown)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            verify_log(missing, chip_of("tinyodin"), export, shown)


def test_the_first_samples_only(tmp_path, export):
    assert compared(tmp_path, export, lines_of(export, samples=2), samples=2).status == "identical"


def test_the_first_samples_of_a_log_that_has_them_all(tmp_path, export, command):
    lines = lines_of(export)
    place = lines.index("sample 2")
    log = tmp_path / "log"
    log.write_text("\n".join([*lines[:place], "sample 2", "spike 8"]))
    assert command("verify", export, "--log", log, "--samples", 2)[0] == 0, "differences come later"
    log.write_text("\n".join([*lines[:place], "spike 8", *lines[place:]]))
    assert command("verify", export, "--log", log, "--samples", 2)[0] == 1
    log.write_text("\n".join(lines[: place - 1]).rpartition("step 4")[0])
    assert command("verify", export, "--log", log, "--samples", 2)[0] == 2


def test_a_log_as_editors_of_windows_write_it(tmp_path, export):
    _, _, shown = read_export(export)
    (tmp_path / "log").write_bytes("\r\n".join(lines_of(export)).encode("utf-8-sig"))
    assert verify_log(tmp_path / "log", chip_of("tinyodin"), export, shown).status == "identical"


def test_a_chip_whose_neurons_have_no_addresses(tmp_path):
    folder = made(tmp_path / "e", "xylo", 8)
    assert compared(tmp_path, folder, lines_of(folder, addresses=False)).status == "identical"
    with pytest.raises(DataError, match="neurons of this chip have no addresses: write 'spike LAYER NEURON'"):
        compared(tmp_path, folder, lines_of(folder))


class TestCommand:
    def test_a_log(self, tmp_path, export, command):
        lines = lines_of(export)
        (tmp_path / "log").write_text("\n".join(lines))
        code, out, err = command("verify", export, "--log", tmp_path / "log", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["passed"]
        assert not (export / "verify.json").exists(), "that of the files stays"
        (tmp_path / "log").write_text("\n".join([*lines, "spike 8"]))
        code, out, _ = command("verify", export, "--log", tmp_path / "log")
        assert code == 1
        assert "first difference in layer '2' at sample 2, step 4, neuron 0 (address 8)" in out
        code, _, err = command("verify", export, "--log", tmp_path / "none")
        assert (code, err.count("\n")) == (2, 1)

    def test_an_export_that_is_for_no_chip(self, tmp_path, command):
        made(tmp_path / "e", "nir", 8)
        (tmp_path / "log").write_text("sample 0\n")
        code, _, err = command("verify", tmp_path / "e", "--log", tmp_path / "log")
        assert (code, err.count("\n")) == (2, 1)
        assert "--log is compared with an export for a chip" in err

    def test_an_export_of_an_older_version(self, tmp_path, export, command):
        """It has no samples and no clearing of membranes as files, and programmes in closed loop."""
        folder = tmp_path / "old"
        shutil.copytree(export, folder)
        for name in ("samples.events", "clear.spi"):
            (folder / name).unlink()
        lines = (folder / FILE).read_text().splitlines()
        lines[lines.index("00001 00001")] = "00001 00000"
        lines.reverse()
        lines.remove("00001 00000")
        lines.reverse()
        (folder / FILE).write_text("\n".join(lines) + "\n")
        manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
        for name in ("queue", "rows", "cycles"):
            del manifest["chip"][name]
        manifest["sha256"] = {name: sha256(folder / name) for name in manifest["sha256"] if (folder / name).exists()}
        (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        code, out, _ = command("verify", folder)
        assert code == 0
        assert "tinyodin.spi writes neurons in closed loop, which makes a core send false events: build it again" in out
        (tmp_path / "log").write_text("\n".join(lines_of(folder)))
        assert command("verify", folder, "--log", tmp_path / "log")[0] == 0
        assert "closed loop" not in command("verify", export)[1]
