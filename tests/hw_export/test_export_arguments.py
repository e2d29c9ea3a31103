"""Arguments that are none: each function says in one line which one, with what was given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_nets import bernoulli, dense

from hw_export import (
    Arithmetic,
    IntegerNetwork,
    IntegerSimulator,
    UpdateRecorder,
    build,
    compare,
    follow,
    from_nir,
    migrate,
    quantize,
    replay,
    to_nir,
    verify,
)  # fmt: skip
from hw_export.integer.energy import estimate
from hw_export.quantize import mantissas
from hw_export.targets import make_target
from hw_export.updates import IntegerImage, SpiLayout, grids_of, load_image, quantized, save_image
from hw_export.updates.spi import write_spi
from spikelfp.errors import KeywordError, UserError

NET = dense("zero", sizes=(5, 4, 3))
COPY = quantize(NET)
X = bernoulli(5)
LABELS = torch.arange(X.shape[1]) % 3
IMAGE = IntegerImage.of(NET, grids_of(NET))
WEIGHT = IMAGE.parameters[0].name


@pytest.mark.parametrize("net", [None, "net", [NET], NET.state_dict()], ids=lambda net: type(net).__name__)
@pytest.mark.parametrize(
    "call",
    [
        quantize, IntegerSimulator, lambda net: to_nir(net, None), lambda net: compare(net, COPY, X),
        lambda net: compare(NET, net, X), from_nir, migrate, lambda net: verify(net, "net.nir", X),
        lambda net: UpdateRecorder(net, "never"), lambda net: quantized(net, IMAGE), IMAGE.to_net,
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(call, net):
    with pytest.raises(UserError, match=rf"got {type(net).__name__}|got None|no NIR file at net"):
        call(net)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": (5,)}, r"bits must be a whole number from 2 to 16, got tuple of 1"),
        ({"bits": "8"}, r"bits .* got '8'"),
        ({"bits": [8]}, r"bits .* got list of 1"),
        ({"input_scale": "8"}, "input_scale"),
        ({"input_scale": 10**30}, "input_scale must be a whole number from 1 to"),
        ({"tie_margin": None}, "tie_margin is a finite number, got None"),
        ({"per_channel": "no"}, "per_channel is true or false, got 'no'"),
        ({"power_of_two": 2}, "power_of_two"),
        ({"fine_biases": None}, "fine_biases"),
        ({"calibration": X.numpy()}, "calibration is a tensor, got ndarray"),
        ({"calibration": X.to_sparse()}, "calibration is a dense tensor"),
        ({"calibration": bernoulli(7)}, "5 input features, got 7"),
        ({"calibration": bernoulli(10)}, "5 input features, got 10"),
    ],
)
def test_options_of_quantisation(options, text):
    with pytest.raises(UserError, match=text):
        quantize(NET, clip="output", **{"calibration": X, **options})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: compare(NET, COPY, X.numpy()), "inputs is a tensor, got ndarray"),
        (lambda: compare(NET, COPY, X[:, :0]), r"inputs are some \[T, B, …\]"),
        (lambda: compare(NET, COPY, X.to(torch.complex64)), "real numbers"),
        (lambda: compare(NET, COPY, X, LABELS.float()), r"labels .* got torch.float32"),
        (lambda: compare(NET, COPY, X, [0, 1]), "got list"),
        (lambda: compare(NET, COPY, X, LABELS, torch.ones(2, 4).bool()), "a mask is boolean"),
        (lambda: compare(dense("zero", sizes=(5, 4, 4, 3)), COPY, X), "is no copy of the network"),
        (lambda: COPY.scaled(X.numpy()), "inputs is a tensor"),
        (lambda: to_nir(NET, None, ["std"]), "unknown NIR dialect"),
        (lambda: to_nir(NET, 5), "path is a path, a text or a pathlib.Path, got 5"),
        (lambda: to_nir(NET, b"x.nir"), "path is a path"),
        (lambda: to_nir(NET, ""), "path is a path"),
        (lambda: to_nir(NET, None, input_shape=5), r"input_shape is a tuple of sizes, such as .* got 5"),
        (lambda: to_nir(NET, None, input_shape="5"), "input_shape is a tuple of sizes"),
        (lambda: to_nir(NET, None, input_shape=(5.5,)), r"each size of input_shape .* got 5.5"),
        (lambda: to_nir(NET, None, input_shape=(-5,)), "each size of input_shape"),
        (lambda: to_nir(NET, None, write_if="no"), "write_if is true or false"),
        (lambda: from_nir(5), "a NIR file is a path, a text or a pathlib.Path, got 5"),
        (lambda: from_nir(to_nir(NET, None), migrate="no"), "migrate is true or false"),
        (lambda: IntegerNetwork.of(NET), "is made of one of hw_export.quantize"),
        (lambda: IntegerNetwork.of(COPY, 5), "input_shape is a tuple"),
        (lambda: IntegerSimulator(COPY, "loihi"), "named by target"),
        (lambda: IntegerSimulator(COPY, target=Arithmetic), "is not made without options"),
        (lambda: IntegerSimulator(COPY, device="gpu"), "device 'gpu' cannot be used here"),
        (lambda: IntegerSimulator(COPY, device="meta"), "device 'meta' cannot be used here"),
        (lambda: IntegerSimulator(COPY).run(X.numpy()), "inputs is a tensor"),
        (lambda: IntegerSimulator(COPY).run(X, 5), "states are those of Run.states"),
        (lambda: IntegerSimulator(COPY).write(5, [0], [1]), "unknown parameter 5"),
        (lambda: verify(NET, "x.nir", X, "nengo"), r"simulators are a list of names, .* got 'nengo'"),
        (lambda: verify(NET, "x.nir", X, [5]), "unknown simulator 5"),
        (lambda: verify(NET, "x.nir", X.numpy()), "inputs is a tensor"),
        (lambda: build(None, "out"), "run is a path"),
        (lambda: build("run", 5), "out is a path"),
    ],
)  # fmt: skip
def test_other_arguments(call, text):
    with pytest.raises(UserError, match=text):
        call()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"state_bits": "a"}, "state_bits must be a whole number from 2 to 48, got 'a'"),
        ({"state_bits": 16.0}, "state_bits"),
        ({"shift": 2.0}, "shift must be a whole number"),
        ({"most_spikes": True}, "most_spikes must be a whole number"),
        ({"lowest": 5}, "lowest must be a whole number from -32768 to 0, got 5"),
        ({"lowest": -1.5}, "lowest"),
        ({"symmetric": "no"}, "symmetric of Arithmetic is true or false"),
        ({"resets": "zero"}, "resets are a set of names"),
        ({"resets": None}, "resets are a set of names"),
        ({"state_bts": 16}, "did you mean 'state_bits'"),
    ],
)
def test_arithmetic(options, text):
    with pytest.raises(UserError, match=text):
        Arithmetic(**{"state_bits": 16, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": 1.5}, "every, a number of steps, is a whole number of at least 1, got 1.5"),
        ({"every": "8"}, "every"),
        ({"bits": (8,)}, "bits"),
        ({"headroom": "2"}, "headroom is a finite number, got '2'"),
        ({"about": {1: 2}}, "about holds texts, numbers and truth values by name, got 1: 2"),
        ({"about": {"a": torch.ones(2)}}, "about holds"),
        ({"about": "note"}, "about are values by name, in a dictionary, got 'note'"),
        ({"grids": {WEIGHT: 0.1}}, "grids are Grid objects"),
        ({"base": "image"}, "base is an IntegerImage"),
        ({"overwite": True}, "did you mean 'overwrite'"),
    ],
)
def test_options_of_the_recorder(tmp_path, options, text):
    with pytest.raises(UserError, match=text):
        UpdateRecorder(NET, tmp_path / "a.cbor", **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="path is a path"):
        UpdateRecorder(NET, 5)


def test_reading_streams(tmp_path):
    UpdateRecorder(NET, path := tmp_path / "a.cbor").close()
    for call, text in (
        (lambda: replay(5), "a stream is a path"),
        (lambda: load_image(None), "a stream is a path"),
        (lambda: replay(path, upto=0.5), "upto, a step of training, is a whole number, got 0.5"),
        (lambda: replay(path, base="image"), "base is an IntegerImage"),
        (lambda: next(follow(path, NET)), "a target takes integers by write"),
        (lambda: next(follow(path, IMAGE, interval="1")), "interval is a finite number"),
        (lambda: next(follow(path, IMAGE, patience=float("nan"))), "patience is a finite number"),
        (lambda: save_image(tmp_path / "b", "image"), "image is an IntegerImage"),
    ):
        with pytest.raises(UserError, match=text):
            call()


@pytest.mark.parametrize(
    ("indices", "values", "text"),
    [
        ([0], [1.5], "the values must be whole numbers, got float64"),
        ([0.5], [1], "the indices must be whole numbers"),
        ([-1], [1], "there is no index -1"),
        ([20], [1], "has the indices 0 to 19"),
        ([0], [128], "holds whole numbers from -127 to 127, got 128"),
        ([0], [1, 2], "flat arrays of one length"),
    ],
)
def test_an_image_takes_integers_of_its_grids_only(indices, values, text):
    image = IMAGE.copy()
    with pytest.raises(UserError, match=text):
        image.write(WEIGHT, np.array(indices), np.array(values))
    assert image.digest() == IMAGE.digest()
    with pytest.raises(UserError, match="unknown parameter 'x'"):
        image.write("x", np.array([0]), np.array([1]))


def test_unknown_keywords_are_answered_with_the_nearest():
    for call in (
        lambda: quantize(NET, bit=5),
        lambda: IntegerSimulator(NET, clipp="mse"),
        lambda: to_nir(NET, None, dialct="std"),
        lambda: from_nir("x.nir", rest="zero"),
        lambda: compare(NET, COPY, X, label=LABELS),
        lambda: replay("x", up_to=1),
    ):
        with pytest.raises(KeywordError, match="did you mean"):
            call()


WHOLE = quantize(NET, 4, input_scale=1)
RUN = IntegerSimulator(WHOLE).run(X)
LOW = IntegerImage.of(NET, grids_of(NET, 4))
NETWORK = IntegerNetwork.of(WHOLE)
FIRST = NETWORK.products[0].name + ".weight"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: NETWORK.with_parameters({FIRST: torch.full((4, 5), 0.5)}), "numbers that are not whole"),
        (lambda: NETWORK.with_parameters({FIRST: torch.full((4, 5), 2**40)}), "beyond whole numbers of 32 bits"),
        (lambda: NETWORK.with_parameters({FIRST: "x"}), "is a tensor, got str"),
        (lambda: NETWORK.with_parameters([1]), "parameters are tensors by name"),
        (lambda: RUN.classes_at(torch.ones(2, 4).bool()), "a mask is boolean"),
        (lambda: RUN.classes_at(torch.ones(X.shape[:2])), "a mask is boolean"),
        (lambda: estimate(RUN.counts, "loihi"), "energies of a chip are an EnergyModel, .* got 'loihi'"),
        (lambda: mantissas(torch.ones(3), 8), r"weights are \[C, …\]"),
        (lambda: make_target("generic", {"one_decay": "no"}), "one_decay is true or false"),
        (lambda: make_target("generic", ["one_decay"]), "options of a target are values by name"),
        (lambda: make_target("generic").read(5), "folder is a path"),
        (lambda: SpiLayout("weights"), "parameters are those of a stream or an image"),
        (lambda: SpiLayout(LOW.parameters).image("image"), "image is an IntegerImage"),
        (lambda: write_spi("a", "b", upto=1.5), "upto, a step of training, is a whole number"),
        (lambda: write_spi("a", 5), "out is a path"),
        (lambda: IntegerImage.of(NET, 5), "grids are Grid objects by name"),
        (lambda: grids_of(None), "a network is a module of torch, got NoneType"),
    ],
)  # fmt: skip
def test_arguments_of_integers_and_chips(call, text):
    with pytest.raises(UserError, match=text):
        call()
