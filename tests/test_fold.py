"""BatchNorm folded: outputs against the network before, in float64, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, prune

from spikelfp import models, nn
from spikelfp.errors import UserError
from spikelfp.fold import fold_batchnorm


def trained(net):
    """Give each BatchNorm statistics, gains and shifts as after training."""
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.3, 2.0)
            if layer.weight is not None:
                torch.nn.init.normal_(layer.weight)
                torch.nn.init.normal_(layer.bias)
    return net.double().eval()


def torch_chain(dims):
    conv = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dims - 1]
    norm = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)[dims - 1]
    pool = (torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d)[dims - 1]
    return torch.nn.Sequential(conv(2, 6, 3), norm(6), torch.nn.ReLU(), conv(6, 4, 2, groups=2), pool(2), norm(4))


NETS = {
    "resnet18": (lambda: models.resnet18((3, 16, 16), 5, width=4), (2, 3, 3, 16, 16)),
    "vgg16-bn": (lambda: models.models["vgg16-bn"]((3, 32, 32), 5), (1, 2, 3, 32, 32)),
    "1d": (lambda: torch_chain(1), (3, 2, 16)),
    "2d": (lambda: torch_chain(2), (3, 2, 16, 16)),
    "3d": (lambda: torch_chain(3), (3, 2, 9, 9, 9)),
    "branches": (
        lambda: nn.Sequential(
            nn.Concat(
                nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
                nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5), nn.BatchNorm1d(2), nn.BatchNorm1d(2)),
            ),
            nn.ReLU(),
        ),
        (2, 3, 4),
    ),
    "synchronised": (
        lambda: torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.SyncBatchNorm(3)), (3, 2, 6, 6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_those_of_the_network_before(name):
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = trained(make())
    x = torch.randn(shape, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())
    wanted = net(x)
    folded = fold_batchnorm(net)
    assert not any(isinstance(layer, _BatchNorm) for layer in folded.modules())
    torch.testing.assert_close(folded(x), wanted, rtol=1e-9, atol=1e-9)
    assert wanted.std() > 1e-3
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


class Own(torch.nn.Module):
    """A residual block with a forward of its own, as torchvision's."""

    def __init__(self, between=lambda y: y):
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(2, 2, 3, padding=1, bias=False), torch.nn.BatchNorm2d(2)
        self.conv2, self.bn2 = torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.BatchNorm2d(2)
        self.between = between

    def forward(self, x):
        y = self.bn2(self.between(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y += x
        return F.relu(y)


def test_a_forward_of_its_own_is_read_from_an_example():
    net = trained(Own())
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    with pytest.raises(UserError, match=r"forward of their own.*fold_batchnorm\(net, x\)"):
        fold_batchnorm(net)
    folded = fold_batchnorm(net, x[:1])
    torch.testing.assert_close(folded(x), net(x), rtol=1e-10, atol=1e-10)
    assert isinstance(folded.bn1, torch.nn.Identity)


@pytest.mark.parametrize(
    ("between", "said"), [(lambda y: y.add_(1), "change by"), (lambda y: y * 2, "a function between layers")]
)
def test_values_that_change_on_the_way_are_noticed(between, said):
    with pytest.raises(UserError, match=said):
        fold_batchnorm(trained(Own(between)), torch.randn(3, 2, 6, 6).double())


def shared():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    net[2].weight = net[0].weight
    return net


def masked():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def computed():
    return torch.nn.Sequential(parametrizations.weight_norm(torch.nn.Linear(3, 3)), torch.nn.BatchNorm1d(3))


class Doubling(torch.nn.BatchNorm1d):
    def forward(self, x):
        return 2 * super().forward(x)


class Halving(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (shared, "0.weight and 2.weight are one parameter"),
        (masked, r"pruned by torch.nn.utils.prune.*from_torch"),
        (computed, "a weight of layer '0' is computed at every run"),
        (lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), Doubling(3)), "'1' is a Doubling"),
        (lambda: nn.Sequential(Halving(3, 3), nn.BatchNorm1d(3)), "'0' is a Halving"),
        (
            lambda: nn.Sequential(nn.Linear(3, 3), nn.Sum(nn.BatchNorm1d(3), nn.Identity())),
            r"takes from '0' goes to 1.branches.1, too",
        ),
        (
            lambda: nn.Sequential(nn.Sum(nn.Linear(3, 3), nn.Linear(3, 3)), nn.BatchNorm1d(3)),
            "after '<sum 1>', a function",
        ),
        (
            lambda: torch.nn.Sequential(torch.nn.ConvTranspose2d(2, 2, 3), torch.nn.BatchNorm2d(2)),
            "after '0', a ConvTranspose2d",
        ),
        (lambda: torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm1d(4)), "after '0', a Conv2d"),
    ],
)
def test_what_cannot_be_folded_is_refused(net, said):
    with pytest.raises(UserError, match=said):
        fold_batchnorm(net())


def statistics(name, value):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    getattr(net[1], name)[0] = value
    return net


@pytest.mark.parametrize(
    ("name", "value"), [("running_var", -1.0), ("running_var", float("nan")), ("running_mean", float("inf"))]
)
def test_statistics_that_are_none_are_refused(name, value):
    with pytest.raises(UserError, match="statistics of the BatchNorm1d '1' hold NaN, infinity or a negative"):
        fold_batchnorm(statistics(name, value))


def test_weights_that_leave_their_dtype_are_refused():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    with torch.no_grad():
        net[0].weight.fill_(8)
        net[1].weight.fill_(1e4)
    with pytest.raises(UserError, match=r"too large for torch\.float16"):
        fold_batchnorm(net.half())
    assert torch.isfinite(fold_batchnorm(net.float())[0].weight).all()


def test_hooks_between_are_refused_unless_outputs_are_compared():
    net = trained(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
    x = torch.randn(5, 3).double()
    seen = []
    handle = net[0].register_forward_hook(lambda layer, given, out: seen.append(out))
    with pytest.raises(UserError, match=r"layer '0' has forward hooks.*fold_batchnorm\(net, x\)"):
        fold_batchnorm(net)
    torch.testing.assert_close(fold_batchnorm(net, x)(x), net(x))
    handle.remove()
    net[0].register_forward_hook(lambda layer, given, out: 2 * out)
    with pytest.raises(UserError, match="change"):
        fold_batchnorm(net, x)


def test_channels_of_another_axis_are_seen_in_an_example():
    net = trained(torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.BatchNorm1d(5)))
    with pytest.raises(UserError, match="change by"):
        fold_batchnorm(net, torch.randn(4, 5, 8).double())
    with pytest.raises(UserError, match=r"does not run on the example of shape \[4, 7\]"):
        fold_batchnorm(net, torch.randn(4, 7).double())
    with pytest.raises(UserError, match="a tensor, got list"):
        fold_batchnorm(net, [1.0])


def test_a_network_without_batchnorm_is_copied():
    net = nn.Sequential(nn.Linear(3, 2), nn.LIF())
    folded = fold_batchnorm(net)
    assert folded is not net
    torch.testing.assert_close(folded.state_dict(), net.state_dict())
