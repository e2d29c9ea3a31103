"""What cannot be converted is named."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn as torch_nn

from spikelfp import convert
from spikelfp.errors import ShapeError, UserError
from spikelfp.interop import torch as entry
from spikelfp.interop.torch import build


class Net(torch_nn.Module):
    """A forward pass given as a function, with some layers to use."""

    def __init__(self, function):
        super().__init__()
        self.fc, self.lstm = torch_nn.Linear(4, 4), torch_nn.LSTM(4, 4)
        self.up, self.norm = torch_nn.ConvTranspose2d(4, 2, 2), torch_nn.GroupNorm(2, 4)
        self.scale = torch_nn.Parameter(torch.ones(4))
        self.gelu = torch_nn.GELU(approximate="tanh")
        self.pair = torch_nn.Bilinear(4, 4, 4)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def test_all_that_is_wrong_is_named_at_once():
    def forward(net, x):
        x = net.norm(net.up(x))
        x, _ = net.lstm(F.softmax(x, 1))
        return x.exp() * net.scale

    with pytest.raises(UserError) as error:
        convert(Net(forward))
    text = str(error.value)
    for part in (
        "Net cannot be converted", "'norm' (torch.nn.GroupNorm)", "'up' (torch.nn.ConvTranspose2d)",
        "'lstm' (torch.nn.LSTM)", "'softmax' (torch.nn.functional.softmax)", "'exp' (Tensor.exp)", "'scale' (a tensor)",
        "Layers that convert: Conv2d, Linear", "functions: adaptive_avg_pool2d, ",
    ):  # fmt: skip
        assert part in text, part
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda net, x: x * net.fc(x), r"'mul' \(operator.mul\): it multiplies or divides two signals"),
        (lambda net, x: x.mul_(net.fc(x)), r"'mul_' \(Tensor.mul_\): it multiplies"),
        (lambda net, x: 1 / x, "divides by a signal"),
        (lambda net, x: x - x.mean(0, keepdim=True), r"'mean' \(Tensor.mean\): it works across samples"),
        (lambda net, x: x - x.mean(), "across samples"),
        (lambda net, x: torch.cat([x, x]), "across samples"),
        (lambda net, x: torch.flatten(x), "across samples"),
        (lambda net, x: x.squeeze(), "along all axes"),
        (lambda net, x: x.transpose(0, 1), "across samples"),
        (lambda net, x: x.permute(1, 0), "moves the axis of samples"),
        (lambda net, x: x[0], "takes some of the samples"),
        (lambda net, x: x[1:, 2], "takes some of the samples"),
        (lambda net, x: x.view(-1), "begin with x.size"),
        (lambda net, x: x.reshape(8, 2), "begin with x.size"),
        (lambda net, x: F.dropout(net.fc(x)), "on in evaluation too"),
        (lambda net, x: net.gelu(x), "exact GELU"),
        (lambda net, x: F.gelu(x, approximate="tanh"), "exact GELU"),
        (lambda net, x: net.pair(x, x), "torch.nn.Bilinear"),
        (lambda net, x: (x, net.fc(x)), "its output: it is not one tensor"),
        (lambda net, x: F.linear(x, net.fc.weight), r"'fc.weight' \(a tensor\): it is used outside of layers"),
        (lambda net, x: F.max_pool2d(x, 2, return_indices=True)[0], "max_pool2d_with_indices"),
    ],
)
def test_reasons(forward, reason):
    with pytest.raises(UserError, match=reason):
        convert(Net(forward))


def test_changes_in_place_behind_a_view_are_refused():
    def forward(net, x):
        x = net.fc(x)
        flat = x.flatten(1)
        x += 1
        return flat

    with pytest.raises(UserError, match=r"'iadd' \(operator.iadd\): it changes in place"):
        convert(Net(forward))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda net, x: x if x.sum() > 0 else -x, "control flow"),
        (lambda net, x: sum(x for _ in range(x.size(0))), "Proxy"),
        (lambda net, x: net.fc(x) if net.training else x, "another one in training"),
        (lambda net, x: net.missing(x), "missing"),
        (lambda net, x: operator.setitem(x, slice(0, 1), 0), "does not support item assignment"),
    ],
)
def test_forward_passes_that_cannot_be_traced_say_why(forward, reason):
    with pytest.raises(UserError, match=reason) as error:
        convert(Net(forward))
    assert len(str(error.value).splitlines()) == 1


def test_a_network_of_two_inputs_is_refused():
    class Two(torch_nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(UserError, match="missing 1 required positional argument: 'y'"):
        convert(Two())


def test_hooks_and_subclasses_of_layers_are_refused():
    net = torch_nn.Sequential(torch_nn.Linear(4, 4))
    net[0].register_forward_pre_hook(lambda module, given: None)
    with pytest.raises(UserError, match=r"'0' \(torch.nn.Linear\): it has forward hooks"):
        convert(net)

    class Twice(torch_nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(UserError, match=r"'0.weight' \(a tensor\)"):
        convert(torch_nn.Sequential(Twice(4, 4)))
    with pytest.raises(UserError, match=r"'0' \(torch.nn.ParametrizedLinear\)"):
        convert(torch_nn.Sequential(torch_nn.utils.parametrizations.spectral_norm(torch_nn.Linear(4, 4))))


def test_names_that_a_layer_needs_itself_are_refused():
    class Running(torch_nn.Module):
        def __init__(self):
            super().__init__()
            self.run = torch_nn.Linear(4, 4)

        def forward(self, x):
            return self.run(x)

    with pytest.raises(UserError, match=r"'run' \(torch.nn.Linear\): .* rename the layer"):
        convert(Running())


def test_one_layer_that_does_not_convert_is_named():
    with pytest.raises(UserError, match=r"torch.nn.LSTM\) cannot be converted"):
        convert(torch_nn.LSTM(3, 4))


def test_a_view_that_mixes_samples_is_caught_when_it_runs():
    net = convert(Net(lambda net, x: x.view(-1, 2)))
    with pytest.raises(ShapeError, match=r"'?view'? does not keep the axis of samples"):
        net(torch.randn(1, 3, 4))


def test_an_example_shows_a_difference(monkeypatch):
    net, x = torch_nn.Sequential(torch_nn.Linear(3, 2)), torch.randn(4, 3)
    convert(net, example=x)
    monkeypatch.setattr(entry, "build", lambda network, graph: build(torch_nn.Sequential(torch_nn.Linear(3, 2)), graph))
    with pytest.raises(UserError, match="another output for the example"):
        convert(net, example=x)


def test_what_changes_from_call_to_call_is_refused():
    class Counting(torch_nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with pytest.raises(UserError, match="at every call"):
        convert(Counting())


def test_the_network_is_left_in_its_mode():
    net = Net(lambda net, x: net.fc(x))
    net.lstm.eval()
    convert(net)
    assert net.training
    assert not net.lstm.training
