"""Real data: what is left of a trained network in few bits."""

from __future__ import annotations

import pytest
import torch

from hw_export import quantize
from hw_export.quantize import compare
from spikelfp import TemporalTrainer, nn
from spikelfp.data import load
from spikelfp.models import lif_mlp


@pytest.mark.slow
def test_a_trained_network_in_eight_and_in_three_bits(mnist_folder):
    splits = load("mnist", str(mnist_folder))
    torch.manual_seed(0)
    net = lif_mlp([784, 200, 10])
    TemporalTrainer(net, steps=8, lr=3e-3, seed=0, device="cpu").fit(splits.train, epochs=1)
    images, labels = splits.test.__getitems__(range(4000))
    known, _ = splits.train.__getitems__(range(512))
    x, calibration = nn.constant(images, 8), nn.constant(known, 8)
    lost, overlap = {}, {}
    for name, options in {
        "int8": {"bits": 8},
        "channels": {"bits": 8, "per_channel": True},
        "output": {"bits": 3, "clip": "output", "calibration": calibration},
        "max": {"bits": 3, "clip": "max"},
    }.items():
        found = compare(net, quantize(net, input_scale=255, **options), x, labels)
        assert found.float_accuracy > 0.92
        lost[name] = found.float_accuracy - found.quantized_accuracy
        overlap[name] = found.rates[0].overlap
    assert abs(lost["int8"]) < 0.004
    assert abs(lost["channels"]) < 0.004
    assert lost["output"] < 0.02 < 0.2 < lost["max"], "a few large weights take all the range"
    assert overlap["channels"] > overlap["int8"] > overlap["output"] > 0.5
