"""SpikingJelly: which of its neurons run, and with what."""

from __future__ import annotations

import math
from types import SimpleNamespace

import nir
import numpy as np
import pytest
import torch
from export_nets import bernoulli, dense

from hw_export import to_nir
from hw_export.simulators import SIMULATORS
from hw_export.simulators.spikingjelly_ import SubtractLater, above

spikingjelly = pytest.mark.skipif(not SIMULATORS["spikingjelly"].available(), reason="spikingjelly is not installed")


def test_the_next_float32_above():
    assert np.float32(above(0.1)) == np.nextafter(np.float32(0.1), np.float32(1))
    assert above(2.0) == 2.0 + 2.0**-22


@spikingjelly
def test_theta_is_taken_off_one_step_later():
    """By hand: β = 0.5, θ = 1 (0.5 in units of the halved input): U = 3, 1.5 − 1, 0.25 + 2, 1.125 − 1."""
    neuron = SubtractLater(SimpleNamespace(v_threshold=0.5, tau=2.0, decay_input=True), 0.5)
    currents, expected = [3.0, 0.0, 2.0, 0.0, 0.5], [1.0, 0.0, 1.0, 0.0, 0.0]
    spikes = [neuron(torch.tensor([current]))[0].item() for current in currents]
    assert spikes == expected


@spikingjelly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_hard_reset_needs_no_adapter_where_nothing_ties(tmp_path):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net, x = dense("zero"), bernoulli(24)
    to_nir(net, tmp_path / "network.nir")
    imported = import_from_nir(nir.read(tmp_path / "network.nir"))
    state, outputs = None, []
    with torch.no_grad():
        for step in x:
            spikes, state = imported(step, state)
            outputs.append(spikes)
    assert torch.equal(torch.stack(outputs), net(x))
    assert math.isclose(imported.layer_2_lif.module.v_threshold, 0.1, rel_tol=1e-6)
