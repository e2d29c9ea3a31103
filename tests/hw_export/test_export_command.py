"""``hw-export``: what it prints, and the exit codes scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys

import nir
import pytest
from export_nets import dense

from hw_export.build import write_export
from hw_export.cli import _passed
from hw_export.simulators import SIMULATORS
from hw_export.verify import Result
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


@pytest.fixture
def export(tmp_path, samples):
    write_export(dense("subtract"), samples, tmp_path / "export")
    return tmp_path / "export"


def spoil(export) -> None:
    graph = nir.read(export / "network.nir")
    graph.nodes["layer_3_linear"].weight[4, 2] += 3000
    nir.write(export / "network.nir", graph)


def test_identical_spikes_exit_with_0(command, export):
    code, out, err = command("verify", export, "--in", "snntorch, norse", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out.splitlines()[-1])
    assert report["passed"] is True
    assert report["changed_files"] == []
    assert [result["simulator"] for result in report["results"]] == ["snntorch", "norse"]
    for result in report["results"]:
        assert result["status"] == "identical"
        assert [(layer["layer"], layer["differences"]) for layer in result["layers"]] == [("2", 0), ("4", 0)]
        assert all(layer["spikes"] > 0 for layer in result["layers"])


def test_all_simulators_by_default(command, export):
    code, out, _ = command("verify", export, "--samples", 2)
    assert code == 0
    assert all(name in out for name in SIMULATORS)
    assert "2 samples, 20 steps" in out
    assert "different" not in out


def test_a_differing_spike_exits_with_1_and_is_located(command, export):
    spoil(export)
    code, out, _ = command("verify", export, "--in", "snntorch", "--json")
    report = json.loads(out.splitlines()[-1])
    assert code == 1
    assert report["passed"] is False
    assert report["changed_files"] == ["network.nir"]
    output = report["results"][0]["layers"][1]
    assert output["differences"] > 0
    assert output["first"]["neuron"] == [4]
    assert "snntorch, layer 4: first difference at sample" in out
    assert "network.nir is not the file that was built" in out


def test_a_changed_file_exits_with_1_even_where_spikes_agree(command, export):
    with open(export / "network.nir", "ab") as file:
        file.write(b"\0")
    code, out, _ = command("verify", export, "--in", "snntorch")
    assert code == 1
    assert "identical" in out


def test_a_simulator_that_is_not_installed_is_never_passed(command, export, monkeypatch):
    for cls in (type(SIMULATORS["norse"]), type(SIMULATORS["brian2"])):
        monkeypatch.setattr(cls, "version", lambda self: None)
    code, out, _ = command("verify", export, "--in", "norse,snntorch")
    assert code == 1
    assert "not installed" in out
    assert "pip install norse" in out
    assert command("verify", export)[0] == 0, "by default, those that are installed count"
    for name in SIMULATORS:
        monkeypatch.setattr(type(SIMULATORS[name]), "version", lambda self: None)
    assert command("verify", export)[0] == 1, "nothing was compared"


def test_targets_are_listed(command):
    code, out, _ = command("targets", "--json")
    assert code == 0
    listed = json.loads(out.splitlines()[-1])
    assert listed["targets"]["nir"]["bits"] == [*range(2, 17), 32]
    assert set(listed["simulators"]) == set(SIMULATORS)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("verify", "{export}", "--in", "nors"), "unknown simulator 'nors': did you mean 'norse'?"),
        (("verify", "{export}", "--in", ","), "--in names no simulator"),
        (("verify", "{export}", "--samples", "0"), "number of samples"),
        (("verify", "{export}/nowhere"), "is no export"),
        (("build", "{export}"), "is no run folder"),
        (("build", "{export}", "--target", "nri"), "did you mean 'nir'?"),
        (("build", "{export}", "--bits", "many"), "bits takes a whole number, got 'many'"),
        (
            ("build", "{export}", "--one-decay"),
            "--one-decay belongs to --target generic, but this run has --target nir",
        ),
        (("build", "{export}", "--calibration", "9"), "--calibration 9 belongs to --clip output"),
        (("build", "{export}", "--target", "generic", "--state-bits", "1"), "state_bits must be a whole number from 2"),
        (("build", "{export}", "--bit", "8"), "no option --bit: did you mean --bits?"),
        (("build", "{export}", "--out", "{export}"), "exists already"),
        (("verfy",), "id you mean 'verify'?"),
        (("verify",), "Missing argument"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(command, export, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*(argument.format(export=export) for argument in arguments))
    assert code == 2
    assert err.startswith("hw-export: ")
    assert err.count("\n") == 1
    assert text in err


def test_files_that_are_broken_exit_with_2(command, export):
    (export / "network.nir").write_bytes(b"broken")
    code, _, err = command("verify", export, "--in", "snntorch")
    assert (code, err.count("\n")) == (2, 1)
    assert "network.nir: expected HDF5" in err


@pytest.mark.slow
def test_from_training_to_the_check_in_processes_of_their_own(tmp_path):
    train(RunConfig(data="digits", hidden=(30,), epochs=1, steps=10), tmp_path / "run", progress=False)

    def hw_export(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "hw_export.cli", *arguments]
        return subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False)

    built = hw_export("build", "run", "--bits", "6", "--samples", "20", "--json")
    assert (built.returncode, built.stderr) == (0, "")
    manifest = json.loads(built.stdout.splitlines()[-1])
    assert manifest["out"] == "exports/run-nir"
    assert manifest["bits"] == 6
    checked = hw_export("verify", "exports/run-nir")
    assert (checked.returncode, checked.stderr) == (0, "")
    spoil(tmp_path / "exports" / "run-nir")
    failed = hw_export("verify", "exports/run-nir", "--in", "snntorch")
    assert (failed.returncode, failed.stderr) == (1, "")


@pytest.mark.parametrize(
    ("statuses", "by_default", "asked_for"),
    [
        (["identical", "identical"], True, True),
        (["identical", "not installed"], True, False),
        (["identical", "unsupported"], True, False),
        (["identical", "failed"], False, False),
        (["identical", "different"], False, False),
        (["not installed"], False, False),
        ([], False, False),
    ],
)
def test_what_counts_as_passed(statuses, by_default, asked_for):
    results = [Result(f"s{i}", "1", status) for i, status in enumerate(statuses)]
    assert _passed(results, all_must=False) is by_default
    assert _passed(results, all_must=True) is asked_for


@pytest.mark.parametrize("arguments", [[], ["updates"]])
def test_without_a_command_the_help_is_laid_out(command, arguments):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: hw-export")
    assert len(err.splitlines()) > 8
