"""Outline of a network beside the files of a chip, and files of arrays and plain data by name.

The chip's own files hold weights, codes and thresholds. The outline holds the rest: names of layers, shapes, and the β
for which a code stands.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.network import (
    IntegerConv,
    IntegerDelay,
    IntegerDense,
    IntegerFlatten,
    IntegerLayer,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    IntegerTaps,
)
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_text, write_whole, yaml_text
from spikelfp.functional.lif import Reset
from spikelfp.nn.delay import LONGEST as LONGEST_DELAY
from spikelfp.terminal import first_line, plain
from spikelfp.untrusted import load_arrays, read_yaml
from spikelfp.untrusted.text import LONGEST, Field


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as an ``.npz`` file, whole or not at all; the same arrays give the same bytes.

    numpy.savez stamps the time into the archive, hence zipfile.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file of :func:`write_arrays`.

    Raises:
        DataError: for a file that is missing or damaged, and arrays of other types than whole numbers.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}")
    try:
        arrays = load_arrays(path)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(f"{path} holds no readable arrays: {first_line(error)}") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "biu" or not array.dtype.isnative:
            raise DataError(f"{path} is damaged: {plain(name)} is of {array.dtype}, expected whole numbers")
    return arrays


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write plain data as YAML, whole or not at all.

    Raises:
        UserError: for more bytes than :func:`read_facts` reads.
    """
    text = yaml_text(dict(facts))
    if len(text) > LONGEST:
        raise UserError(
            f"{path.name} would take {len(text):,} bytes, and {LONGEST:,} are read: too many neurons have a beta of "
            "their own. Let neurons of a layer share one, or export to nir"
        )
    write_text(path, text)


def read_facts(path: Path) -> dict[str, Any]:
    """Read plain data by name from a YAML file.

    Raises:
        DataError: for a file that is missing, damaged or holds no names.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}")
    facts = read_yaml(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path} holds no facts by name")
    return facts


MOST_LAYERS = 1000
"""Most layers of a network."""

MOST_AXES = 8
"""Most axes of a layer's neurons."""

MOST_ELEMENTS = 1 << 26
"""Most neurons of a network, and the largest size of a kernel, stride or group."""


def outline(network: IntegerNetwork, arithmetic: Arithmetic) -> dict[str, Any]:
    """Describe a network without its weights, biases and thresholds, as plain data for YAML.

    Args:
        network: as adapted to the chip.
        arithmetic: of the chip.
    """
    return {
        "bits": network.bits,
        "input_scale": network.input_scale,
        "input_shape": list(network.input_shape),
        "layers": [
            {"name": layer.name, **_facts(layer, arithmetic, shape), "shape": list(shape)}
            for layer, shape in zip(network.layers, network.shapes, strict=True)
        ],
    }


def check_outline(facts: Field) -> None:
    """Check an :func:`outline` that was read from a file, before memory is taken for its sizes.

    Args:
        facts: the outline.

    Raises:
        UserError: of the kind of the field, naming the first value that does not fit an outline.
    """
    facts.mapping(("bits", "input_scale", "input_shape", "layers"))
    facts.at("bits").whole(1, 32)
    facts.at("input_scale").whole(1, 1 << 24)
    total = _elements(facts.at("input_shape"))
    layers = facts.at("layers").sequence()
    if len(layers) > MOST_LAYERS:
        facts.at("layers").refuse(f"a list of at most {MOST_LAYERS}")
    for layer in layers:
        layer.mapping(("name", "kind", "shape"))
        layer.at("name").text()
        layer.at("kind").text()
        total += _elements(layer.at("shape"))
        for name, least in {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}.items():
            for size in layer.at(name).sequence(2) if name in layer.value else ():
                size.whole(least, MOST_ELEMENTS)
        if "groups" in layer.value:
            layer.at("groups").whole(1, MOST_ELEMENTS)
        if layer.value["kind"] in ("delay", "taps"):
            layer.mapping(("delays",))
            for steps in layer.at("delays").sequence():
                steps.whole(0, LONGEST_DELAY)
            if not layer.value["delays"]:
                layer.at("delays").refuse("at least one delay")
        if layer.value["kind"] == "neurons":
            layer.mapping(("beta", "reset", "thresholds"))
            if isinstance(layer.value["beta"], list):
                shape, betas = layer.value["shape"], layer.at("beta").sequence()
                if len(betas) not in (shape[0], math.prod(shape)):
                    layer.at("beta").refuse("a number, or one for each channel or neuron", f"{len(betas)} of them")
                for beta in betas:
                    beta.number(0, 1)
            else:
                layer.at("beta").number(0, 1)
            layer.at("reset").text(get_args(Reset))
            layer.at("thresholds").text(("one", "each"))
    if total > MOST_ELEMENTS:
        facts.at("layers").refuse(f"layers of at most {MOST_ELEMENTS} neurons together", f"of {total} of them")
    if not any(layer.value["kind"] == "neurons" for layer in layers):
        facts.at("layers").refuse("neurons among them")


def _elements(shape: Field) -> int:
    """Check a shape and count its elements."""
    axes = shape.sequence()
    if not 1 <= len(axes) <= MOST_AXES:
        shape.refuse(f"a list of 1 to {MOST_AXES} sizes")
    return math.prod(each.whole(1, MOST_ELEMENTS) for each in axes)


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> IntegerNetwork:
    """Rebuild a network from its outline and its numbers.

    Args:
        facts: of :func:`outline`.
        tensors: whole numbers by name: ``<layer>.weight``, ``<layer>.bias`` and ``<layer>.threshold``. A threshold that
            was one number for the layer may be given for every neuron or channel.

    Raises:
        DataError: where numbers do not fit the shapes of their layer, and where thresholds differ that were one number.
    """
    layers = tuple(_layer(layer, tensors) for layer in facts["layers"])
    shapes = tuple(tuple(int(size) for size in layer["shape"]) for layer in facts["layers"])
    before = tuple(int(size) for size in facts["input_shape"])
    for layer, given, shape in zip(layers, (before, *shapes), shapes, strict=False):
        _check_shapes(layer, given, shape)
    return IntegerNetwork(layers, int(facts["bits"]), int(facts["input_scale"]), before, shapes)


def check_codes(network: IntegerNetwork, arithmetic: Arithmetic, codes: Mapping[str, ArrayLike]) -> None:
    """Check the decay codes of a chip's files.

    Args:
        network: as it was read.
        arithmetic: of the chip.
        codes: codes by name of the layer, one for all of its neurons, or as many as :func:`code_of` gives.

    Raises:
        DataError: where the codes of a layer are not those of its β.
    """
    for layer in network.neurons:
        own, given = code_of(layer, arithmetic, network.shape_of(layer)).numpy(), np.asarray(codes[layer.name])
        fits = given.ndim == 0 or own.ndim == 0 or given.shape == own.shape or given.size == own.size
        if not fits or bool((given.flatten() != own.flatten()).any()):
            betas = f"its beta {layer.beta:g}" if isinstance(layer.beta, float) else "its betas"
            raise DataError(f"the decay of layer {layer.name!r} is not the code of {betas}")


def _check_shapes(layer: IntegerLayer, given: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse a layer (DataError) whose numbers do not lead from the shape it is given to its own."""
    if isinstance(layer, IntegerDense):
        fits = tuple(layer.weight.shape) == (*shape, *given) and layer.bias.shape == shape
    elif isinstance(layer, IntegerConv):
        channels = layer.weight.shape[1] * layer.groups
        fits = layer.weight.shape[0] == shape[0] == len(layer.bias) and channels == given[0]
    elif isinstance(layer, IntegerTaps):
        fits = len(given) == 1 and shape == (len(layer.delays) * given[0],)
    elif isinstance(layer, IntegerDelay):
        fits = given == shape and tuple(layer.delays.shape) in {(), shape[:1], shape}
    elif isinstance(layer, IntegerLIF):
        sizes = {tuple(layer.threshold.shape), tuple(layer.betas.shape)}
        fits = given == shape and sizes <= {(), shape[:1], shape}
    else:
        fits = math.prod(given) == math.prod(shape) if isinstance(layer, IntegerFlatten) else given[0] == shape[0]
    if not fits:
        raise DataError(f"the numbers of layer {layer.name!r} do not lead from {given} to {shape}")


def _facts(layer: IntegerLayer, arithmetic: Arithmetic, shape: tuple[int, ...]) -> dict[str, Any]:
    if isinstance(layer, IntegerDense):
        return {"kind": "dense"}
    if isinstance(layer, IntegerConv):
        sizes = {name: list(getattr(layer, name)) for name in ("stride", "padding", "dilation")}
        return {"kind": "conv", **sizes, "groups": layer.groups}
    if isinstance(layer, IntegerPool):
        return {"kind": f"{layer.kind}-pool", "kernel": list(layer.kernel), "stride": list(layer.stride)}
    if isinstance(layer, IntegerFlatten):
        return {"kind": "flatten"}
    if isinstance(layer, IntegerTaps):
        return {"kind": "taps", "delays": list(layer.delays)}
    if isinstance(layer, IntegerDelay):
        return {"kind": "delay", "delays": layer.delays.flatten().tolist()}
    each = isinstance(layer.beta, Tensor)
    as_run: dict[str, float | None] = {}
    if not each:
        code = int(code_of(layer, arithmetic, shape).flatten()[0])
        as_run["beta_as_run"] = arithmetic.decay_as_run(code, layer.betas.item())
    return {
        "kind": "neurons",
        "beta": layer.betas.flatten().tolist() if each else layer.beta,
        **as_run,
        "decay": arithmetic.decay,
        "reset": layer.reset,
        "thresholds": "one" if not layer.threshold.dim() else "each",
    }


def _layer(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> IntegerLayer:
    name, kind = facts["name"], facts["kind"]
    if kind == "flatten":
        return IntegerFlatten(name)
    if kind == "taps":
        return IntegerTaps(name, tuple(int(steps) for steps in facts["delays"]))
    if kind == "delay":
        delays, shape = torch.tensor(facts["delays"]), tuple(facts["shape"])
        one = len(delays) == 1
        return IntegerDelay(name, delays[0] if one else delays if len(delays) == shape[0] else delays.reshape(shape))
    if kind.endswith("-pool"):
        return IntegerPool(name, kind.removesuffix("-pool"), tuple(facts["kernel"]), tuple(facts["stride"]))
    if kind == "neurons":
        threshold = tensors[f"{name}.threshold"].to(torch.int64)
        if facts["thresholds"] == "one" and threshold.dim():
            if threshold.unique().numel() != 1:
                raise DataError(f"the thresholds of layer {name!r} differ, they were one number")
            threshold = threshold.flatten()[0]
        beta: float | Tensor = facts["beta"]
        if isinstance(beta, list):
            shape = tuple(facts["shape"])
            beta = torch.tensor(beta, dtype=torch.float64)
            beta = beta if len(beta) == shape[0] else beta.reshape(shape)
        return IntegerLIF(name, beta if isinstance(beta, Tensor) else float(beta), threshold, facts["reset"])
    weight, bias = tensors[f"{name}.weight"].to(torch.int32), tensors[f"{name}.bias"].to(torch.int64)
    if kind == "dense":
        return IntegerDense(name, weight, bias)
    if kind != "conv":
        raise DataError(f"layer {name!r} is of kind {kind!r}, which no network has")
    stride, padding, dilation = (tuple(facts[size]) for size in ("stride", "padding", "dilation"))
    return IntegerConv(name, weight, bias, stride, padding, dilation, int(facts["groups"]))


def differences(one: IntegerNetwork, other: IntegerNetwork) -> list[str]:
    """Tell in lines where ``other`` differs from ``one``; empty where every integer is the same."""
    found = [
        f"{name} is {getattr(other, name)}, not {getattr(one, name)}"
        for name in ("bits", "input_scale", "input_shape", "shapes")
        if getattr(one, name) != getattr(other, name)
    ]
    if [type(layer) for layer in one.layers] != [type(layer) for layer in other.layers]:
        return [*found, "the layers are of other kinds"]
    for own, theirs in zip(one.layers, other.layers, strict=True):
        for field in fields(own):
            mine, its = getattr(own, field.name), getattr(theirs, field.name)
            where = f"{field.name} of layer {own.name!r}"
            if not (isinstance(mine, torch.Tensor) and isinstance(its, torch.Tensor)):
                if isinstance(mine, torch.Tensor) or isinstance(its, torch.Tensor) or mine != its:
                    found.append(f"{where} is {its}, not {mine}")
            elif mine.shape != its.shape:
                found.append(f"{where} has shape {tuple(its.shape)}, not {tuple(mine.shape)}")
            elif not torch.equal(mine, its):
                found.append(f"{where}: {int((mine != its).sum())} of {mine.numel()} integers differ")
    return found
