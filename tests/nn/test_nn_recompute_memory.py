"""Recomputation over time holds memory that grows like the square root of T."""

import pytest
import torch

from spikelfp import models, nn, propagate
from spikelfp.analysis import HeldMemory


def peak(net, x, run):
    """Bytes that a forward and a backward pass hold at most.

    Where few recurrent neurons are above their margin, these are listed, which takes memory; where many are, they are
    not. Neurons of a threshold of 1.5 stay on one side in either number of steps.
    """
    net.zero_grad()
    with HeldMemory() as held:
        out = run(x)
        propagate(out, torch.ones_like(out))
    return held.peak


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(8, 60), nn.LIF(), nn.Linear(60, 60), nn.LIF(), nn.Linear(60, 2), nn.LIF()),
        lambda: nn.Sequential(nn.Linear(8, 60), nn.RecurrentLIF(60, threshold=1.5), nn.Linear(60, 2), nn.LI()),
        lambda: nn.Sequential(nn.Linear(8, 60), nn.Synaptic(), nn.Linear(60, 60), nn.LI(), nn.Linear(60, 2)),
    ],
    ids=["lif", "recurrent", "synaptic"],
)
@pytest.mark.parametrize("written_out", [False, True], ids=["constant", "varying"])
def test_memory_grows_with_the_root_of_the_number_of_steps(make, written_out):
    net = make()
    short, long = (nn.constant(torch.randn(200, 8), steps) for steps in (16, 64))
    if written_out:
        short, long = short.clone(), long.clone()
    assert peak(net, long, net) > 3.5 * peak(net, short, net)
    parts = nn.Recomputed(net)
    assert 1.5 < peak(net, long, parts) / peak(net, short, parts) < 2.2
    assert peak(net, long, parts) < peak(net, long, net) / 2.5


def test_saved_tensors_grow_with_the_root_too():
    """What autograd keeps for the backward pass, counted as torch hands it to hooks, also in the recomputation."""
    net = models.lif_mlp([8, 60, 60, 2])
    counts = []
    for steps in (16, 64):
        sizes = []

        def pack(tensor, sizes=sizes):
            if not isinstance(tensor, torch.nn.Parameter):
                sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = nn.Recomputed(net)(nn.constant(torch.randn(50, 8), steps))
            forward = sum(sizes)
            sizes.clear()
            propagate(out, torch.ones_like(out))
        assert sizes  # of the parts that ran again, one after the other
        counts.append((forward, max(sizes)))
    assert counts[1][0] < 2.5 * counts[0][0]
    assert counts[1][1] <= 2 * counts[0][1]
