"""Plain torch.nn networks as networks of this package: the same outputs, gradients and parameters."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from plain_nets import VGG, Functional, mlp, resnet18, resnet34

from spikelfp import convert, nn, propagate, rewards, rules
from spikelfp.analysis import record
from spikelfp.errors import ShapeError, SignWarning, UserError
from spikelfp.training import checkpoint

NETS = {
    "mlp": (mlp, (3, 2, 2)),
    "vgg16": (VGG, (3, 32, 32)),
    "vgg16-bn": (lambda: VGG(batch_norm=True, side=1), (3, 32, 32)),
    "resnet18": (resnet18, (3, 32, 32)),
    "resnet34": (resnet34, (3, 32, 32)),
    "functional": (Functional, (3, 8, 8)),
}
"""Name: how to make the network, and the shape of a sample."""


def awake(net):
    """``net`` in double precision, with BatchNorm parameters and statistics that are not 0 and 1."""
    for module in net.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    return net.double()


@pytest.fixture(params=NETS)
def plain(request):
    """A network and a batch ``[3, …]``."""
    make, shape = NETS[request.param]
    return awake(make()), torch.randn(3, *shape, dtype=torch.float64)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_outputs_in_evaluation_are_the_originals_step_by_step(plain):
    net, x = plain
    net.eval()
    converted = convert(net, example=x)
    assert not converted.training
    close(converted(x.unsqueeze(0))[0], net(x))
    sequence = torch.stack([x, -x, 2 * x])
    close(converted(sequence), torch.stack([net(step) for step in sequence]))
    constant = converted(nn.constant(x, 3))
    assert constant.stride(0) == 0
    close(constant[2], net(x))


def test_outputs_and_statistics_in_training_are_the_originals(plain):
    net, x = plain
    twin = copy.deepcopy(net)
    converted = convert(net)
    assert converted.training
    torch.manual_seed(1)
    expected = twin.train()(x)
    torch.manual_seed(1)
    with rules.using(converted, rules.Gradient()):
        close(converted(x.unsqueeze(0))[0], expected)
    for name, buffer in twin.named_buffers():
        close(net.get_buffer(name), buffer)


@pytest.mark.parametrize("name", ["mlp", "vgg16-bn", "resnet18"])
def test_batch_statistics_in_training_are_those_of_all_steps(name):
    make, shape = NETS[name]
    net, x = awake(make()), torch.randn(3, *shape, dtype=torch.float64)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    twin, converted = copy.deepcopy(net), convert(net)
    sequence = torch.stack([x, -x, 2 * x])
    close(converted(sequence).flatten(0, 1), twin(sequence.flatten(0, 1)))


@pytest.mark.parametrize("mode", [True, False])
def test_gradients_under_the_gradient_rule_are_autograds(plain, mode):
    net, x = plain
    net.train(mode)
    labels = torch.tensor([0, 1, 3])
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    F.cross_entropy(twin(x), labels).backward()
    converted = convert(net)
    torch.manual_seed(1)
    with rules.using(converted, rules.Gradient()):
        F.cross_entropy(converted(x.unsqueeze(0))[0], labels).backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-11, msg=name)


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "vgg16-bn"])
def test_theorem_1(name):
    """LFP with r = −o dL/do is |w| times gradient descent in ReLU networks in evaluation mode (v3, Theorem 1)."""
    make, shape = NETS[name]
    net = awake(make()).eval()
    x, labels = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 1, 3])
    F.cross_entropy(net(x), labels, reduction="sum").backward()
    gradient = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    converted = convert(net)
    with rules.using(converted, rules.Zero()):
        out = converted(x.unsqueeze(0))
    propagate(out, rewards.Softmax()(out, labels), eps=1e-14)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, p.detach().abs() * gradient[name], rtol=1e-7, atol=1e-10)


def test_training_the_converted_network_trains_the_original():
    net = VGG(classes=2, batch_norm=True, side=1)
    before = copy.deepcopy(net.state_dict())
    converted = convert(net)
    assert list(converted.state_dict()) == list(net.state_dict())
    assert all(p is q for p, q in zip(converted.parameters(), net.parameters(), strict=True))
    labels = torch.arange(16) % 2
    images = 0.2 * torch.randn(16, 3, 32, 32) + labels.view(-1, 1, 1, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    reward, first = rewards.Softmax(), 0.0
    for _ in range(12):
        optimizer.zero_grad()
        out = converted(images.unsqueeze(0))
        propagate(out, reward(out, labels) / 16)
        optimizer.step()
        loss = F.cross_entropy(out[0].detach(), labels).item()
        first = first or loss
    assert loss < 0.5 * first
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in before if "bias" not in name} <= changed


def test_converting_twice_shares_again_and_converting_the_result_changes_nothing():
    net, x = resnet18().eval(), torch.randn(1, 2, 3, 32, 32)
    first, second = convert(net), convert(net)
    assert convert(first) is first
    with torch.no_grad():
        first.fc.weight.mul_(2)
    assert torch.equal(first(x), second(x))
    assert torch.equal(net(x[0]), second(x)[0])


def test_buffers_stay_shared_when_the_dtype_changes():
    net = resnet18()
    converted = convert(net)
    converted.double()
    converted(torch.randn(1, 2, 3, 32, 32, dtype=torch.float64))
    assert net.bn1.running_mean.dtype == torch.float64
    assert torch.equal(net.bn1.running_mean, converted.bn1.running_mean)
    assert net.bn1.num_batches_tracked == 1


def test_copies_are_whole_and_independent():
    net, x = Functional().eval(), torch.randn(2, 3, 3, 8, 8)
    converted = convert(net)
    for twin in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted)), convert(copy.deepcopy(net))):
        assert torch.equal(twin(x), converted(x))
        twin.fc2.bias.data.add_(1)
        assert not torch.equal(twin(x), converted(x))


def test_parts_in_evaluation_mode_stay_so():
    net = resnet18()
    net.bn1.eval()
    converted = convert(net)
    assert converted.training
    assert converted.layer1.training
    assert not converted.bn1.training
    assert net.training
    assert not net.bn1.training


def test_one_layer_is_converted_too():
    linear, conv = torch.nn.Linear(4, 3), torch.nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")
    assert isinstance(convert(linear), nn.Linear)
    x = torch.randn(5, 2, 6, 6)
    assert torch.equal(convert(conv, example=x)(x.unsqueeze(0))[0], conv(x))


def test_values_changed_in_place_are_seen_by_everyone_who_uses_them_later():
    class Aliased(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu = torch.nn.Linear(6, 6), torch.nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.fc(x)
            shortcut = x
            y = self.fc(self.relu(x))
            x += y
            x.mul_(3)
            return x + shortcut

    net, x = Aliased(), torch.randn(4, 6)
    close(convert(net)(x.unsqueeze(0))[0], net(x))


def test_layers_of_this_package_are_taken_as_they_are_and_keep_their_state():
    class Spiking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = torch.nn.Linear(6, 20), torch.nn.Linear(20, 4)
            self.lif = nn.LIF(threshold=0.3)

        def forward(self, x):
            return self.lif(self.fc2(self.lif(self.fc1(torch.flatten(x, 1)))))

    net = Spiking()
    by_hand = nn.Sequential(nn.Linear(6, 20), nn.LIF(threshold=0.3), nn.Linear(20, 4), nn.LIF(threshold=0.3))
    by_hand[0].load_state_dict(net.fc1.state_dict())
    by_hand[2].load_state_dict(net.fc2.state_dict())
    converted = convert(net)
    assert converted.lif is net.lif
    for x in (torch.randn(7, 3, 2, 3), nn.constant(torch.randn(3, 2, 3), 7)):
        whole = converted(x)
        assert 0 < whole.mean() < 1
        assert torch.equal(whole, by_hand(x.flatten(2)))
        head, state = converted.run(x[:3])
        tail, _ = converted.run(x[3:], state)
        assert torch.equal(torch.cat([head, tail]), whole)


def test_sigmoid_warns_at_first_use_and_not_before():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    converted = convert(net)
    with pytest.warns(SignWarning, match="Sigmoid"):
        converted(torch.randn(1, 2, 3))


def test_an_input_without_time_is_refused():
    with pytest.raises(ShapeError, match="time first"):
        convert(resnet18())(torch.randn(2, 3))
    with pytest.raises(UserError, match="input channels"):
        convert(resnet18())(torch.randn(1, 2, 1, 32, 32))


def test_layers_of_a_converted_network_run_with_their_hooks():
    """What watches layers, such as the search for a value that is not finite, sees those of this network too."""
    net = convert(torch.nn.Sequential(torch.nn.Linear(4, 3), nn.Heaviside(), torch.nn.Linear(3, 2)))
    assert list(record(net, torch.randn(2, 5, 4))) == ["1"]


def test_checkpoints_of_earlier_versions_know_the_class_by_this_name():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x).relu()

    assert checkpoint.constants(convert(Net()))[""] == "Converted(from Net)"
