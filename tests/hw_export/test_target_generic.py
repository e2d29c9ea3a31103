"""The generic target: arrays that anyone can run."""

from __future__ import annotations

import numpy as np
import yaml
from target_nets import chip_of, dense, images, spikes, trained

from hw_export.integer import IntegerNetwork
from hw_export.integer.simulator import IntegerSimulator
from hw_export.quantize import quantize
from hw_export.targets.generic import FILE, Generic


def test_the_arrays_alone_run_as_the_simulator(tmp_path):
    chip = chip_of("generic")
    net = quantize(trained(reset="immediate"), 8, input_scale=1)
    chip.write(net, tmp_path, (12,))
    given = spikes(12, steps=30)
    run = IntegerSimulator(chip.adapt(IntegerNetwork.of(net)), chip.arithmetic).run(given)
    facts = yaml.safe_load((tmp_path / "network.yaml").read_text())
    with np.load(tmp_path / FILE) as content:
        arrays = dict(content)
    x = given[:, 0].numpy().astype(int)
    for layer in facts["layers"]:
        name = layer["name"]
        if layer["kind"] == "dense":
            assert arrays[f"{name}.weight"].dtype == np.int8
            x = x @ arrays[f"{name}.weight"].astype(int).T + arrays[f"{name}.bias"]
        elif layer["kind"] == "neurons":
            threshold, keep = int(arrays[f"{name}.threshold"]) << 6, 4096 - int(arrays[f"{name}.decay"])
            v, out = np.zeros(x.shape[1], dtype=int), []
            for one in x:
                v = np.sign(v) * (abs(v) * keep >> 12) + (one << 6)
                fires = v > threshold
                v = v - threshold * fires
                out.append(fires)
            x = np.stack(out).astype(int)
            assert np.array_equal(run.spikes[name][:, 0].numpy(), x)
            assert x.sum() > 20


def test_facts(tmp_path):
    net = quantize(images(), 8, input_scale=1)
    chip_of("generic").write(net, tmp_path, (2, 8, 6))
    facts = yaml.safe_load((tmp_path / "network.yaml").read_text())
    assert (facts["target"], facts["bits"], facts["input_shape"]) == ("generic", 8, [2, 8, 6])
    kinds = [layer["kind"] for layer in facts["layers"]]
    assert kinds == ["conv", "neurons", "sum-pool", "conv", "neurons", "flatten", "dense", "neurons"]
    assert facts["layers"][0]["padding"] == [1, 1]
    assert facts["layers"][2] == {
        "name": "2",
        "kind": "sum-pool",
        "kernel": [2, 2],
        "stride": [2, 2],
        "shape": [4, 4, 3],
    }
    assert facts["layers"][1]["beta_as_run"] == 1 - 410 / 4096


def test_wide_weights_get_wide_arrays():
    for weight, width in ((127, np.int8), (128, np.int16), (-(2**15), np.int32)):
        network = dense(weight=weight, bits=16)
        assert Generic().prepare(network)["fc0.weight"].dtype == width
        assert Generic().prepare(network)["fc0.weight"][0, 0] == weight
