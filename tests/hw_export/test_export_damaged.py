"""The network and the samples of an export, damaged in every place: one line that names it, or the same content."""

import io
import random
import zipfile

import numpy as np
import pytest
import torch

from hw_export.model_file import load_network, save_network
from hw_export.samples import ExportSamples, load_samples, save_samples
from hw_export.targets.outline import read_arrays, read_facts, write_arrays
from spikelfp import nn
from spikelfp.errors import CheckpointError, DataError


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.pt"
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LIF(), nn.AvgPool2d(2), nn.Dropout(0.1), nn.Flatten())
    save_network(path, nn.Sequential(body, nn.Linear(18, 3, bias=False), nn.LIF(0.5, 2.0, "zero")))
    return path


def changed(content, place, value):
    key, *rest = place
    each = {**content} if isinstance(content, dict) else [*content]
    each[key] = changed(content[key], rest, value) if rest else value
    return type(content)(each)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("layers",), None, r"layers is None"),
        (("layers", 1, 2, "in_features"), 10**9, r"1\.weight is a tensor .*shape \[3, 1000000000\]"),
        (("layers", 1, 2, "in_features"), True, r"layers\[1\]\[2\]\.in_features is True"),
        (("layers", 0, 2, 0, 2, "kernel_size"), (3, -3), r"kernel_size\[1\] is -3"),
        (("layers", 0, 2, 0, 2, "groups"), 0, r"groups is 0"),
        (("layers", 0, 2, 1, 2, "beta"), float("nan"), r"beta is nan"),
        (("layers", 0, 2, 1, 2, "reset"), "\x1b[31m\n", r"layers cannot be made"),
        (("layers", 0, 2, 3, 2), {"p": 0.1, "rule": 1}, r"rule is not known"),
        (("layers", 1, 0), "0", r"layers\[1\]\[0\] is '0'"),
        (("layers", 1, 1), "Oracle", r"'Oracle' is no layer"),
        (("weights", "1.weight"), torch.full((3, 18), float("inf")), r"weights\.1\.weight is NaN or infinite"),
        (("weights", "1.weight"), torch.zeros(3, 18, dtype=torch.int32), r"expected a tensor of torch\.float32"),
        (("weights", "0.0.weight"), [1], r"weights\.0\.0\.weight is list of 1"),
        (("format",), torch.zeros(2), r"format"),
    ],
)
def test_a_network_names_what_is_wrong(network, tmp_path, place, value, named):
    content = torch.load(network, weights_only=True)
    torch.save(changed(content, place, value), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=named) as found:
        load_network(tmp_path / "model.pt")
    assert str(found.value).isprintable()


def test_a_flipped_bit_of_a_network_is_told_or_means_nothing(network, tmp_path):
    good, chance, path, told = network.read_bytes(), random.Random(0), tmp_path / "model.pt", 0
    known = load_network(network)
    for _ in range(60):
        flipped = bytearray(good)
        flipped[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            other = load_network(path)
        except CheckpointError as error:
            told += str(error).isprintable()
            continue
        assert repr(other) == repr(known)
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), known.parameters(), strict=True))
    assert told > 20


def test_equal_networks_are_equal_files(network, tmp_path):
    save_network(tmp_path / "again.pt", load_network(network))
    assert (tmp_path / "again.pt").read_bytes() == network.read_bytes()


SAMPLES = {
    "inputs": np.zeros((4, 5), np.uint8), "labels": np.arange(4), "steps": np.array(3), "static": np.array(True),
    "mask": np.ones((3, 4), bool),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"labels": np.array([0, 1, 2, -1])}, "labels is a number below 0"),
        ({"labels": np.zeros(4)}, "labels is float64"),
        ({"labels": np.zeros((4, 1), int)}, "labels is int64 of shape"),
        ({"labels": np.zeros(3, int)}, "3 labels do not fit"),
        ({"steps": np.array(0)}, "steps is 0"),
        ({"steps": np.array([3])}, "steps is int64 of shape"),
        ({"steps": np.array(4)}, "the mask of 4 sequences of 4 steps"),
        ({"static": np.array(2)}, "static is int64"),
        ({"mask": np.ones((3, 4))}, "mask is float64"),
        ({"inputs": np.array(["a"] * 4)}, "inputs is <U1"),
        ({"inputs": np.full((4, 5), np.nan)}, "inputs is NaN or infinite"),
        ({"inputs": np.zeros((4, 5), ">f4")}, "inputs is >f4"),
        ({"more": np.zeros(1)}, "more is not known"),
    ],
)
def test_samples_name_what_is_wrong(tmp_path, change, named):
    np.savez(tmp_path / "samples.npz", **{**SAMPLES, **change})
    with pytest.raises(DataError, match=named):
        load_samples(tmp_path / "samples.npz")


def test_samples_that_claim_to_be_huge_are_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "samples.npz", "w") as archive:
        archive.writestr("inputs.npy", header.getvalue())
    with pytest.raises(DataError, match="no readable samples"):
        load_samples(tmp_path / "samples.npz")


def test_samples_come_back_as_they_were(tmp_path):
    samples = ExportSamples(torch.rand(4, 5), torch.arange(4), 3, mask=torch.ones(3, 4, dtype=torch.bool))
    save_samples(tmp_path / "samples.npz", samples)
    again = load_samples(tmp_path / "samples.npz")
    assert torch.equal(again.inputs, samples.inputs)
    assert torch.equal(again.labels, samples.labels)
    assert again.steps == 3


def test_arrays_of_a_chip_are_whole_numbers(tmp_path):
    write_arrays(tmp_path / "spikes.npz", {"0": np.zeros((2, 2), np.uint8)})
    assert read_arrays(tmp_path / "spikes.npz")["0"].sum() == 0
    np.savez(tmp_path / "spikes.npz", a=np.full(3, np.nan))
    with pytest.raises(DataError, match="a is of float64, expected whole numbers"):
        read_arrays(tmp_path / "spikes.npz")
    (tmp_path / "facts.yaml").write_text("- 1\n")
    with pytest.raises(DataError, match="no facts by name"):
        read_facts(tmp_path / "facts.yaml")
