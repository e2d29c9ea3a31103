"""The experiment on activations fine-tunes networks whose weights are given, and judges its last claim by them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp.errors import RunFolderError, UserError
from spikelfp.reproduce import activations, experiments, reproduce
from spikelfp.reproduce.base import Results
from spikelfp.reproduce.runner import Plan, run_part
from spikelfp.training.run_folder import RunFolder, read_started

sys.path.insert(0, str(Path(__file__).parents[1] / "convert"))
from plain_nets import VGG, resnet18


@pytest.fixture
def weights(tmp_path):
    """Random weights of small networks, as torchvision saves those of large ones."""
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(VGG(1000, shrink=64).state_dict(), folder / "vgg16.pth", _use_new_zipfile_serialization=False)
    torch.save(resnet18(1000, width=1).state_dict(), folder / "resnet18.pth", _use_new_zipfile_serialization=False)
    return str(folder)


@pytest.fixture
def photographs(tmp_path):
    """A data set in the form of CIFAR-10, of few images."""
    folder = tmp_path / "data" / "cifar10_subset"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in (("data_batch_1", 40), ("test_batch_first1000", 20)):
        records = random.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return str(tmp_path / "data")


def test_parts_start_from_the_weights(weights, photographs, tmp_path):
    plan = Plan("activations", True, 1, photographs, weights)
    found = {part.name: part for part in plan.parts() if "network" in part.settings}
    assert len(found) == 2 * 6 * 2
    assert len(plan.parts()) - len(found) == len(Plan("activations", True, 1, photographs).parts())
    for network in ("vgg16", "resnet18"):
        part = found[f"{network}-silu-lfp-seed0"]
        run_part(plan, part, tmp_path)
        row = json.loads((tmp_path / "parts" / f"{part.name}.json").read_text())["rows"][0]
        assert 0 <= row["accuracy"] <= 1
        assert row["weights"] == plan.given()[f"{network}.pth"].record
        started = read_started(RunFolder(tmp_path / "runs" / part.name))
        assert started.name == f"{network}.pth"
        assert started.notes[0].startswith("the last layer keeps its random start")
        first = torch.load(tmp_path / "runs" / part.name / "checkpoints" / "initial.pt", weights_only=True)["weights"]
        given = torch.load(Path(weights) / f"{network}.pth", weights_only=True)
        assert torch.equal(next(iter(first.values())), next(iter(given.values())))


def test_the_whole_experiment_with_one_file(weights, photographs, tmp_path, monkeypatch, command_line):
    (Path(weights) / "vgg16.pth").unlink()
    kind = experiments["activations"]
    tuned = []

    def row(self, part, desk):
        tuned.append(part.settings.get("network"))
        return [{"accuracy": ACCURATE[part.settings["activation"]], "validation": 0.5, "lr": 0.1}]

    monkeypatch.setattr(kind, "run", row)
    out = tmp_path / "out"
    done = command_line(
        "reproduce", "activations", "--quick", "--jobs", 1, "--out", out, "--weights-dir", weights, "--data-dir",
        photographs, check=0,
    )  # fmt: skip
    assert tuned.count("resnet18") == 12
    assert "vgg16" not in tuned
    assert "ResNet-18: LFP-ε ReLU 0.800, SiLU 0.700" in done.stdout
    assert "vgg16.pth, as torchvision saves it, is not given" in done.stdout
    kept = json.loads((out / "experiment.json").read_text())
    assert list(kept["weights"]) == ["resnet18.pth"]
    assert kept["command"] == "spikelfp reproduce activations --quick --seeds 1 --weights-dir WEIGHTS --out DIR"
    assert weights not in "".join(path.read_text() for path in out.glob("*.[jmc]*"))
    state = torch.load(Path(weights) / "resnet18.pth", weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, Path(weights) / "resnet18.pth")
    with pytest.raises(RunFolderError, match=r"begun with other weights than this resnet18\.pth"):
        reproduce("activations", out, quick=True, data_dir=photographs, weights_dir=weights)


ACCURATE = {"relu": 0.8, "silu": 0.7, "elu": 0.6, "tanh": 0.3, "sigmoid": 0.1, "heaviside": 0.1}


def judged(**networks):
    rows = [
        {"network": network, "method": method, "activation": activation, "accuracy": value}
        for network, changes in {None: {}, **networks}.items()
        for method in activations.METHODS
        for activation, value in (ACCURATE | changes).items()
    ]
    rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
    return experiments["activations"]().judge(Results(rows, Path(), []))[-1]


@pytest.mark.parametrize(
    ("networks", "holds", "said"),
    [
        ({}, None, "vgg16.pth and resnet18.pth, as torchvision saves them, are not given: --weights-dir names"),
        ({"vgg16": {}}, None, "resnet18.pth, as torchvision saves it, is not given"),
        ({"vgg16": {}, "resnet18": {}}, True, "VGG-16: LFP-ε ReLU 0.800, SiLU 0.700"),
        ({"vgg16": {}, "resnet18": {"silu": 0.5}}, False, "asked of LFP-ε: ReLU at 0.2"),
        ({"vgg16": {"sigmoid": 0.3}}, False, "Sigmoid 0.300"),
        ({"vgg16": {"relu": 0.1}, "resnet18": {}}, False, "ReLU 0.100"),
        ({"vgg16": {"elu": 0.9}, "resnet18": {}}, False, "ELU 0.900"),
    ],
)
def test_the_claim_about_pretrained_networks(networks, holds, said):
    verdict = judged(**networks)
    assert verdict.holds is holds
    assert said in verdict.text


def test_given_weights_change_no_other_verdict():
    rows = [
        {"method": method, "activation": activation, "accuracy": value, **more}
        for more in ({}, {"network": "vgg16"})
        for method in activations.METHODS
        for activation, value in ({name: 0.1 for name in ACCURATE} if more else ACCURATE).items()
    ]
    experiment = experiments["activations"]()
    both, alone = (experiment.judge(Results(each, Path(), [])) for each in (rows, rows[:12]))
    assert both[:-1] == alone[:-1]


@pytest.mark.parametrize("name", [name for name in experiments if name != "activations"])
def test_other_experiments_refuse_the_option(name, weights, tmp_path):
    with pytest.raises(UserError, match=rf"belongs to the experiment activations, but this is {name}: leave it out"):
        reproduce(name, tmp_path / "out", quick=True, weights_dir=weights)
    assert not (tmp_path / "out").exists()


def test_folders_without_the_weights_or_the_data_are_refused(weights, photographs, tmp_path):
    with pytest.raises(UserError, match=r"holds no weights: put vgg16\.pth or resnet18\.pth there"):
        reproduce("activations", tmp_path / "out", quick=True, weights_dir=str(tmp_path / "data"))
    with pytest.raises(UserError, match="needs the data set cifar10-subset"):
        reproduce("activations", tmp_path / "out", quick=True, data_dir=str(tmp_path), weights_dir=weights)
    torch.save({"a": torch.ones(1)}, Path(weights) / "vgg16.pth")
    with pytest.raises(UserError, match=r"vgg16\.pth holds no VGG-16 of torchvision: features\.0\.weight is missing"):
        reproduce("activations", tmp_path / "out", quick=True, data_dir=photographs, weights_dir=weights)
    assert not (tmp_path / "out").exists()
