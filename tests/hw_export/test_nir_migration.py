"""Files of older versions, mended; and what cannot be."""

from __future__ import annotations

import itertools

import h5py
import nir
import numpy as np
import pytest
import torch
from nir_files import published

from hw_export import from_nir
from hw_export.nir import migrate
from spikelfp.errors import DataError

LEGACY = {
    "braille_noDelay_bias_zero_subgraph": "'lif', which does not exist",
    "braille_noDelay_noBias_subtract_subgraph": "'lif', which does not exist",
    "lif_rockpool": "states an output of [1, 1, 1], [1] arrives there",
    "old_braille_flattened": "the CubaLIF 'lif1' have shape [], an input of [38] arrives",
    "old_scnn_mnist_batches": "the Conv2d '0' does not take an input of [1, 2, 34, 34]",
}


@pytest.mark.parametrize("name", LEGACY)
def test_published_legacy_files_are_refused_with_a_reason_and_mended_on_request(tmp_path, name):
    path = published(f"nir/legacy/{name}.nir")
    with pytest.raises(DataError) as refused:
        from_nir(path)
    text = str(refused.value)
    assert LEGACY[name] in text
    assert "migrate=True" in text
    assert "\n" not in text
    options = {"dt": 1.0} if name == "old_braille_flattened" else {}
    net = from_nir(path, migrate=True, **options)
    assert net.notes[-1].startswith("migrated: ")
    x = torch.rand(5, 2, *net.input_shape)
    assert net(x).shape[:2] == (5, 2)

    graph = migrate(path)
    nir.write(tmp_path / "mended.nir", graph)
    again = nir.read(tmp_path / "mended.nir")  # nir itself is content now
    assert "migrated" in again.metadata
    assert torch.equal(from_nir(tmp_path / "mended.nir", **options)(x), net(x))
    assert migrate(tmp_path / "mended.nir").metadata == again.metadata


def test_the_network_with_batches_is_the_one_of_today():
    old = from_nir(published("nir/legacy/old_scnn_mnist_batches.nir"), migrate=True)
    new = from_nir(published("nir/cnn_sinabs.nir"))
    assert old.input_shape == (2, 34, 34)
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_time_constants_in_steps_are_asked_about():
    with pytest.raises(DataError, match=r"'lif1' have time constants up to 10, 100000 steps of 0.0001.*pass dt"):
        from_nir(published("nir/legacy/old_braille_flattened.nir"), migrate=True)


def write(path, **changes):
    """A small convolutional file; ``changes``: what to do with its HDF5 datasets."""
    nodes = {
        "input": nir.Input(np.array([1, 6, 6])),
        "conv": nir.Conv2d((6, 6), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2)),
        "lif": nir.LIF(*(np.full((2, 4, 4), v) for v in (1e-3, 1.0, 0.0, 0.1))),
        "flat": nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1),
        "output": nir.Output(np.array([32])),
    }
    names = list(nodes)
    nir.write(path, nir.NIRGraph(nodes, list(itertools.pairwise(names))))
    with h5py.File(path, "r+") as file:
        for name, value in changes.items():
            key = "node/" + name.replace("__", "/")
            del file[key]
            if value is not None:
                file[key] = value


SCALARS = {
    f"nodes__lif__{key}": np.float64(value)
    for key, value in (("tau", 1e-3), ("r", 1), ("v_leak", 0), ("v_threshold", 0.1), ("v_reset", 0))
}
ASTRAY = [[b"input", b"conv"], [b"conv", b"neurons"], [b"neurons", b"flat"], [b"flat", b"output"]]


@pytest.mark.parametrize(
    ("changes", "done"),
    [
        ({"nodes__conv__input_shape": None}, "input_shape of 'conv' set to [6, 6]"),
        ({"nodes__flat__input_type": None}, "input_type of 'flat' set to [2, 4, 4]"),
        ({"nodes__output__shape": np.array([2, 16])}, "shape of 'output' set to [32]"),
        (SCALARS, "parameters of 'lif' repeated to [2, 4, 4]"),
        *(({key: value}, f"{key[12:]} of 'lif' repeated to [2, 4, 4]") for key, value in SCALARS.items()),
        ({"nodes__lif__v_reset": np.zeros(1)}, "v_reset of 'lif' repeated to [2, 4, 4]"),
        ({"edges": ASTRAY}, "edges to 'neurons' lead to 'lif'"),
    ],
)
def test_each_defect_is_mended_alone(tmp_path, changes, done):
    write(tmp_path / "whole.nir")
    write(tmp_path / "broken.nir", **changes)
    mended = from_nir(tmp_path / "broken.nir", migrate=True)
    assert done in mended.notes[-1]
    x = torch.rand(8, 2, 1, 6, 6)
    assert torch.equal(mended(x), from_nir(tmp_path / "whole.nir")(x))
    assert mended(x).sum() > 0


def test_a_batch_axis_of_a_dense_network_is_taken_off():
    """The form that norse writes: one sample as input, parameters of neurons once."""
    scalars = (np.array(v) for v in (1e-3, 1.0, 0.0, 0.1))
    nodes = {
        "in": nir.Input(np.array([1, 4])), "fc": nir.Affine(np.ones((3, 4)), np.zeros(3)), "lif": nir.LIF(*scalars),
        "out": nir.Output(np.array([1, 3])),
    }  # fmt: skip
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False)
    net = from_nir(graph, migrate=True)
    assert net.input_shape == (4,)
    assert "a batch axis of 1 taken off all shapes; parameters of 'lif' repeated to [3]" in net.notes[-1]
    assert net(torch.ones(30, 2, 4)).shape == (30, 2, 3)
    assert net(torch.ones(30, 2, 4)).sum() > 0


def test_a_file_that_needs_nothing_is_left_as_it_is(tmp_path):
    write(tmp_path / "whole.nir")
    graph = migrate(tmp_path / "whole.nir")
    assert graph.metadata == {}
    assert not any("migrated" in note for note in from_nir(tmp_path / "whole.nir", migrate=True).notes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"edges": [[b"input", b"a"], [b"b", b"output"]]},
            "edges name 'a', which does not exist, and 3 nodes could be meant",
        ),
        ({"nodes__output__shape": np.array([31])}, "the Output 'output' is [31], [32] arrives there"),
        ({"nodes__conv__weight": np.ones((2, 3, 3, 3))}, "the Conv2d 'conv' does not take an input of [1, 6, 6]"),
        ({"nodes__input__type": "Output"}, "has 0 inputs, expected one"),
    ],
)
def test_what_could_mean_several_things_is_refused(tmp_path, changes, text):
    write(tmp_path / "broken.nir", **changes)
    with pytest.raises(DataError) as refused:
        migrate(tmp_path / "broken.nir")
    assert text in str(refused.value)
