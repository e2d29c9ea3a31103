"""Intel's Loihi in the bit-accurate fixed-point arithmetic of lava, and the HDF5 file of lava-dl's netx.

The HDF5 file that lava-dl's ``netx.hdf5.Network`` reads has ``/layer/<index>`` for each block, its ``type`` as one byte
string:

* ``input``: ``shape`` of the inputs, channels, height, width (netx reverses it to width, height, channels).
* ``dense``: ``weight`` ``[out, in]``, ``bias`` ``[out]``, ``neuron``, ``shape``.
* ``conv``: ``weight`` ``[out, in / groups, height, width]``, ``stride``, ``padding``, ``dilation`` (height, width) and
  ``groups``. The file holds PyTorch's kernel: netx flips it, and lava, which convolves where PyTorch correlates, flips
  it back.
* ``flatten``: makes netx reorder width, height, channels to channels, height, width before ``dense``.

``neuron`` holds ``type`` ``CUBA``, ``iDecay`` 4096 (the current ends with its step), ``vDecay``, ``vThMant`` and
``refDelay`` 1. netx reads the bias as a mantissa with exponent 6, so it is in the unit of sums, and chooses the
exponents of weights itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import torch

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import (
    IntegerConv,
    IntegerDense,
    IntegerFlatten,
    IntegerLayer,
    IntegerLIF,
    IntegerNetwork,
)
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.limits import BiasRange, Blocks, EventsPerStep, Kinds, Limit, Thresholds, Violation, above, below
from hw_export.targets.outline import check_codes, rebuild
from spikelfp.errors import DataError
from spikelfp.files import write_whole
from spikelfp.untrusted import open_hdf5

NO_CURRENT = 4096
"""Decay of a current that is gone after its step."""


def write_netx(path: Path, blocks: list[dict[str, Any]]) -> None:
    """Write the blocks of a network, each a mapping as described above, whole or not at all."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for index, block in enumerate(blocks):
            group = file.create_group(f"layer/{index}")
            for key, value in block.items():
                _put(group, key, value)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def read_netx(path: Path) -> list[dict[str, Any]]:
    """Read the blocks of a file of :func:`write_netx`.

    Raises:
        DataError: for a file that is missing or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}")
    try:
        with open_hdf5(path) as file:
            layers = file["layer"]
            return [_get(layers[str(index)]) for index in range(len(layers))]
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"{path} is no readable netx file: {str(error).splitlines()[0]}") from None


def _put(group: Any, key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        inner = group.create_group(key)
        for name, entry in value.items():
            _put(inner, name, entry)
    elif isinstance(value, str):
        group.create_dataset(key, (1,), "S10", [value.encode("ascii")])
    else:
        group.create_dataset(key, data=np.asarray(value))


def _get(group: Any) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for key, entry in group.items():
        if isinstance(entry, h5py.Group):
            block[key] = _get(entry)
        else:
            value = entry[()]
            block[key] = value[0].decode("ascii") if value.dtype.kind == "S" else value
    return block


FILE = "network.net"
BIAS_EXPONENT = 6
"""Exponent that netx gives every bias, with which its mantissa is in the unit of sums."""


@dataclass(frozen=True)
class LoihiWeights(Limit):
    """Range of weights in 8 bits: 0…255 or −255…0 for one sign; −128…127, or even numbers of −256…254, for both.

    A layer of inhibitory weights whose lowest weight is minus a power of two is refused: netx shifts it to −256 and
    lava clips that to −255, so that sums would be wrong.
    """

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        for layer in network.products:
            low, high = int(layer.weight.min()), int(layer.weight.max())
            if low < 0 < high:
                yield from above(layer.name, "largest weight", high, 254, "use fewer --bits")
                yield from below(layer.name, "lowest weight", low, -256, "use fewer --bits")
                odd = int((layer.weight % 2 != 0).sum())
                if odd and (high > 127 or low < -128):
                    yield from above(layer.name, "odd weights beyond -128 to 127", odd, 0, "use fewer --bits")
            else:
                yield from above(layer.name, "largest weight", high, 255, "use fewer --bits")
                yield from below(layer.name, "lowest weight", low, -255, "use fewer --bits")
                if high <= 0 and low < 0 and (-low) & (-low - 1) == 0:
                    allowed = "no power of two where no weight is excitatory (netx would clip it)"
                    yield Violation(layer.name, "lowest weight", low, allowed)

    def __str__(self) -> str:
        return "weights of -128 to 127, even ones of -256 to 254, or 8 bits of one sign"


@TARGETS.register("loihi")
class Loihi(Chip):
    """Loihi: HDF5 for ``lava.lib.dl.netx.hdf5.Network``, in the file ``network.net`` (:func:`write_netx`).

    State and current have 24 bits, a step is ``V ← V (4096 − d) / 4096 + I`` rounded toward 0, a neuron fires at
    ``V > θ`` and is reset to 0. Weights of dense layers are written as they are, and netx shifts them into 8 bits. It
    gives convolutions no exponent: where their weights have both signs and some are odd, weights, bias and threshold
    are doubled. Inputs of more than one event are graded spikes: ``Network(file, input_message_bits=8)``.
    """

    summary: ClassVar[str] = "Intel Loihi: HDF5 for lava-dl's netx, 8-bit weights, 24-bit state, reset to zero"
    bits: ClassVar[tuple[int, ...]] = tuple(range(2, 9))
    sources: ClassVar[tuple[str, ...]] = (
        "lava proc/lif/models.py, PyLifModelBitAcc: 24-bit u and v, 12-bit decays, threshold << 6, reset to 0",
        "lava proc/dense/models.py and utils/weightutils.py: 8-bit weights, even where signs mix, exponent",
        "lava-dl netx/hdf5.py and netx/utils.py: the file",
    )
    energy = EnergyModel(
        synaptic_operation_pj=23.6,
        membrane_update_pj=81.0,
        spike_pj=1.7,
        memory_byte_pj=0.0,
        taken="by simulation before there was a chip, 14 nm, 0.75 V: a synaptic operation at least, an active neuron "
        "(an inactive one 52 pJ), a spike within its tile (3 to 4 pJ more for each tile on its way)",
        source="M. Davies et al., Loihi: A neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), "
        "2018, pp. 82-99, doi:10.1109/MM.2018.112130359, table 2",
    )
    arithmetic = Arithmetic(
        24,
        symmetric=True,
        current_bits=24,
        shift=6,
        decay="multiply",
        decay_bits=12,
        fires=">",
        resets=frozenset({"zero"}),
        latency=1,
        input_latency=1,
    )
    limits = (
        Kinds((IntegerDense, IntegerConv), advice="netx reads no pooling, use strided convolutions"),
        Blocks(),
        LoihiWeights(),
        BiasRange(-(2**12), 2**12 - 1),
        Thresholds(2**17 - 1, single=True),
        EventsPerStep(255),
    )

    def adapt(self, network: IntegerNetwork) -> IntegerNetwork:
        chip = super().adapt(network)
        layers: list[IntegerLayer] = []
        gain = 1
        for layer in chip.layers:
            if isinstance(layer, IntegerConv):
                gain = 2 if _needs_doubling(layer) else 1
                layers.append(replace(layer, weight=layer.weight * gain, bias=layer.bias * gain))
            elif isinstance(layer, IntegerLIF):
                layers.append(replace(layer, threshold=layer.threshold * gain))
                gain = 1
            else:
                layers.append(layer)
        return replace(chip, layers=tuple(layers))

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [{"type": "input", "shape": np.array(network.input_shape)}]
        following = iter(network.neurons)
        for layer in network.layers:
            if isinstance(layer, IntegerFlatten):
                blocks.append({"type": "flatten", "shape": np.array(network.shape_of(layer))})
            elif isinstance(layer, (IntegerDense, IntegerConv)):
                blocks.append(self._block(layer, next(following), network.shape_of(layer)))
        return {"blocks": blocks}

    def _block(self, layer: IntegerDense | IntegerConv, neurons: IntegerLIF, shape: tuple[int, ...]) -> dict[str, Any]:
        block = {
            "type": "dense" if isinstance(layer, IntegerDense) else "conv",
            "shape": np.array(shape),
            "weight": layer.weight.numpy(),
            "neuron": {
                "type": "CUBA",
                "iDecay": NO_CURRENT,
                "vDecay": int(code_of(neurons, self.arithmetic, shape)),
                "vThMant": int(neurons.threshold.flatten()[0]),
                "refDelay": 1,
                "gradedSpike": False,
            },
        }
        if bool(layer.bias.any()):
            block["bias"] = layer.bias.numpy()
        if isinstance(layer, IntegerDense):
            outputs, inputs = layer.weight.shape
            return {**block, "inFeatures": inputs, "outFeatures": outputs}
        sizes = {name: np.array(getattr(layer, name)) for name in ("stride", "padding", "dilation")}
        return {**block, **sizes, "kernelSize": np.array(layer.weight.shape[2:]), "groups": layer.groups}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        write_netx(folder / FILE, self.prepare(network)["blocks"])

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        blocks = iter([block for block in read_netx(folder / FILE) if block["type"] in ("dense", "conv")])
        tensors: dict[str, torch.Tensor] = {}
        codes: dict[str, int] = {}
        for layer in facts["layers"]:
            name = layer["name"]
            if layer["kind"] in ("dense", "conv"):
                block = next(blocks)
                if block["type"] != layer["kind"]:
                    raise DataError(f"{folder / FILE} has a layer {block['type']} in place of {name!r}")
                tensors[f"{name}.weight"] = torch.from_numpy(block["weight"])
                bias = block.get("bias", np.zeros(len(block["weight"]), dtype=np.int64))
                tensors[f"{name}.bias"] = torch.from_numpy(bias)
                _check_sizes(block, layer)
            elif layer["kind"] == "neurons":
                tensors[f"{name}.threshold"] = torch.tensor(int(block["neuron"]["vThMant"]))
                codes[name] = int(block["neuron"]["vDecay"])
        network = rebuild(facts, tensors)
        check_codes(network, self.arithmetic, codes)
        return network

    def notes(self, network: IntegerNetwork) -> list[str]:
        doubled = [layer.name for layer in network.layers if isinstance(layer, IntegerConv) and _needs_doubling(layer)]
        notes = [f"layer {name!r}: weights, bias and threshold are doubled, to be even" for name in doubled]
        if network.input_scale > 1:
            bits = network.input_scale.bit_length()
            notes.append(f"inputs are graded spikes: netx.hdf5.Network({FILE!r}, input_message_bits={bits})")
        return [*super().notes(network), *notes]


def _needs_doubling(layer: IntegerConv) -> bool:
    low, high = int(layer.weight.min()), int(layer.weight.max())
    return low < 0 < high and low >= -128 and high <= 127 and bool((layer.weight % 2 != 0).any())


def _check_sizes(block: Mapping[str, Any], layer: Mapping[str, Any]) -> None:
    """Refuse a convolution (DataError) whose sizes in the file are not those of its outline."""
    for name in ("stride", "padding", "dilation") if layer["kind"] == "conv" else ():
        if list(np.atleast_1d(block[name])) != list(layer[name]):
            raise DataError(f"the {name} of layer {layer['name']!r} is not that of its outline")
