"""What cannot be recomputed in parts is refused, and says why."""

import pytest
import torch

from spikelfp import nn, rules
from spikelfp.errors import UserError


def batch_norm():
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.LIF())


def hooked():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    net[0].register_forward_hook(lambda *arguments: None)
    return net


def normalised():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    rules.attach(net, rules.Epsilon(normalize=True))
    return net


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (batch_norm, r"layer 1 \(BatchNorm1d\) measures mean and variance over all steps"),
        (normalised, r"layer 0 \(Linear\) follows a rule that divides rewards"),
        (hooked, r"layer 0 \(Linear\) has forward hooks"),
        (lambda: nn.Sequential(nn.Noise(0.1), nn.Linear(6, 4), nn.LIF()), "Noise is the same at every step"),
        (lambda: torch.nn.Sequential(nn.Linear(6, 4), nn.LIF()), "only layers of this package.*Sequential"),
    ],
)
def test_what_is_not_the_same_in_parts_is_refused(make, named):
    with pytest.raises(UserError, match=named):
        nn.recomputed(make(), nn.constant(torch.randn(2, 6), 9), 3)


def test_in_evaluation_and_in_one_part_it_is_not():
    x = nn.constant(torch.randn(2, 6), 9)
    for make in (batch_norm, lambda: nn.Sequential(nn.Noise(0.1), nn.Dropout(0.1), nn.Linear(6, 4), nn.LIF())):
        net = make()
        assert nn.recomputed(net, x, 9)[0].shape == (9, 2, 4)
        assert torch.equal(nn.recomputed(net.eval(), x, 3)[0], net(x))
    with pytest.raises(UserError, match="BatchNorm1d"):
        nn.check_recomputable(batch_norm().eval(), training=True)
    unmeasured = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)).eval()
    with pytest.raises(UserError, match="BatchNorm1d"):
        nn.recomputed(unmeasured, x, 3)


class Listed(nn.Layer):
    """A layer whose state is of a kind that is not known."""

    def run(self, x, state=None):
        return x, [x[-1]]


def test_impossible_arguments_are_named():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    for make in (lambda: nn.Recomputed(net, 0), lambda: nn.recomputed(net, torch.randn(5, 2, 6), -1)):
        with pytest.raises(UserError, match="at least one step"):
            make()
    with pytest.raises(UserError, match="only layers of this package"):
        nn.Recomputed(torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="tuples, tensors and None, found list"):
        nn.recomputed(Listed(), torch.randn(5, 2, 6), 2)
    with pytest.raises(UserError, match="Linear takes"):
        nn.recomputed(net, torch.zeros(()))
    assert "steps=3" in repr(nn.Recomputed(net, 3))
