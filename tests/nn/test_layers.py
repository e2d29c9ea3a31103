"""Shapes, state and errors of the layers."""

import copy

import numpy as np
import pytest
import torch
from reference import RESETS
from torch.nn.utils import parametrizations

from spikelfp import methods, models, nn, propagate, rewards, rules
from spikelfp.errors import ShapeError, UserError


def spiking_net():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.LIF(0.8, 0.3), nn.Flatten(), nn.Linear(27, 5), nn.LIF(0.8, 0.3)
    )


def test_static_layers_treat_every_step_alike():
    x = torch.randn(4, 2, 3, 8, 8)
    conv, pool, avg = nn.Conv2d(3, 5, 3, stride=2), nn.MaxPool2d(2), nn.AvgPool2d(2)
    for layer in (conv, pool, avg, nn.Flatten()):
        y = layer(x)
        for t in range(4):
            torch.testing.assert_close(y[t], layer(x[t : t + 1])[0], rtol=1e-5, atol=1e-6)
        constant = layer(nn.constant(x[0], 6))
        assert constant.stride(0) == 0
        torch.testing.assert_close(constant[5], y[0], rtol=1e-5, atol=1e-6)


def test_constant_input_is_not_copied_and_the_first_product_is_made_once():
    images = torch.rand(7, 11)
    x = nn.constant(images, 25)
    assert x.shape == (25, 7, 11)
    assert x.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
    assert nn.Linear(11, 3)(x).stride(0) == 0


def test_a_forward_pass_leaves_no_state_behind():
    net, x = spiking_net(), torch.randn(6, 2, 1, 8, 8)
    first = net(x)
    assert 0 < first.mean() < 1
    net(torch.randn(9, 5, 1, 8, 8))
    assert torch.equal(net(x), first)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_sequence_in_parts_equals_the_whole(cut, reset):
    net = nn.Sequential(nn.Linear(6, 9), nn.LIF(0.9, 0.4, reset), nn.Linear(9, 4), nn.LIF(0.9, 0.4, reset)).double()
    x = torch.randn(8, 3, 6, dtype=torch.float64)
    whole, _ = net.run(x)
    head, state = net.run(x[:cut])
    tail, _ = net.run(x[cut:], state)
    assert torch.equal(torch.cat([head, tail]), whole)
    # The state carries reward back as well as membrane forward.
    reward = torch.randn_like(whole)
    propagate(whole, reward)
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    propagate([head, tail], [reward[:cut], reward[cut:]])
    for p, grad in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-9, atol=1e-10)


def test_one_step_of_lif_is_a_heaviside_neuron():
    linear = nn.Linear(5, 7).double()
    x = torch.randn(1, 4, 5, dtype=torch.float64)
    reward = torch.randn(1, 4, 7, dtype=torch.float64)
    grads = []
    for neuron in (nn.LIF(0.9, 1e-12), nn.Heaviside()):
        linear.zero_grad()
        out = neuron(linear(x))
        propagate(out, reward)
        grads.append((out.detach(), linear.weight.grad.clone(), linear(x).sign()))
    assert torch.equal(grads[0][0], grads[1][0])
    # LIF normalises by |z|, Heaviside by z: the same for z > 0.
    firing = nn.Sequential(nn.Linear(5, 7), nn.LIF(0.9, 1e-12)).double()
    with torch.no_grad():
        firing[0].weight.abs_()
        firing[0].bias.abs_()
    positive = x.abs()
    propagate(firing(positive), reward)
    lif_grad = firing[0].weight.grad.clone()
    firing.zero_grad()
    propagate(nn.Heaviside()(firing[0](positive)), reward)
    torch.testing.assert_close(firing[0].weight.grad, lif_grad)


def test_batch_order_does_not_matter():
    net, x = spiking_net().double(), torch.randn(5, 6, 1, 8, 8, dtype=torch.float64)
    order = torch.randperm(6)
    assert torch.equal(net(x)[:, order], net(x[:, order]))


def test_dropout_is_the_same_at_every_step_and_off_in_evaluation():
    layer = nn.Dropout(0.5)
    y = layer(torch.ones(9, 4, 100))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert all(torch.equal(step, y[0]) for step in y)
    assert layer(nn.constant(torch.ones(4, 100), 9)).stride(0) == 0
    assert torch.equal(layer.eval()(torch.ones(9, 4, 100)), torch.ones(9, 4, 100))


def test_networks_can_be_copied_saved_and_cast():
    net, x = spiking_net(), torch.randn(6, 2, 1, 8, 8)
    assert torch.equal(copy.deepcopy(net)(x), net(x))
    other = spiking_net()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    assert net.double()(x.double()).dtype == torch.float64


def test_bfloat16_autocast_keeps_the_membrane_in_float32():
    net, x = spiking_net(), torch.randn(6, 2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        spikes = net(x)
    propagate(spikes, torch.ones_like(spikes))
    assert spikes.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_torch_compile_gives_the_same_updates():
    net, x = spiking_net(), torch.randn(6, 2, 1, 8, 8)
    spikes = net(x)
    propagate(spikes, torch.ones_like(spikes))
    grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    compiled = torch.compile(net, backend="aot_eager")
    again = compiled(x)
    assert torch.equal(again, spikes)
    propagate(again, torch.ones_like(again))
    for p, grad in zip(net.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, grad)


@pytest.mark.parametrize(
    ("layer", "shape", "named"),
    [
        (nn.Linear(4, 2), (3, 4), "Linear takes"),
        (nn.Linear(4, 2), (2, 3, 5), "4 input features, got 5"),
        (nn.Conv2d(1, 2, 3), (3, 1, 8, 8), "Conv2d takes"),
        (nn.Conv2d(1, 2, 3), (2, 3, 2, 8, 8), "1 input channels, got 2"),
        (nn.MaxPool2d(2), (3, 1, 8, 8), "MaxPool2d takes"),
        (nn.LIF(), (3,), "LIF takes"),
        (nn.LIF(), (0, 3, 4), "at least one step"),
    ],
)
def test_wrong_shapes_are_named(layer, shape, named):
    with pytest.raises(ShapeError, match=named):
        layer(torch.zeros(shape))


def test_wrong_states_types_and_steps_are_named():
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        nn.LIF().run(torch.zeros(2, 3, 4), torch.zeros(9))
    with pytest.raises(ShapeError, match="int64"):
        nn.LIF()(torch.zeros(2, 3, 4, dtype=torch.int64))
    with pytest.raises(UserError, match="steps=0"):
        nn.constant(torch.zeros(3, 4), 0)


def test_models_have_the_papers_shapes():
    images = torch.rand(2, 1, 28, 28)
    x = nn.constant(images, 3)
    lenet = models.lif_lenet()
    assert [tuple(p.shape) for p in lenet.parameters()][::2] == [
        (12, 1, 5, 5),
        (64, 12, 5, 5),
        (1024, 1024),
        (10, 1024),
    ]
    for net in (lenet, models.lenet(), models.lif_mlp([784, 1000, 10]), models.mlp([784, 50, 10])):
        assert net(x).shape == (3, 2, 10)
    assert models.lif_mlp([784, 30, 10], beta=0.5, reset="zero")[2].beta == 0.5
    for spec in ("lif-mlp", "lif-lenet", "mlp", "lenet"):
        assert models.build(models.ModelSpec(spec, (1, 28, 28), 7))(x).shape == (3, 2, 7)


def test_models_refuse_what_they_cannot_be():
    with pytest.raises(ShapeError, match="16×16"):
        models.lif_lenet((1, 8, 8))
    with pytest.raises(UserError, match="sizes"):
        models.lif_mlp([10])
    with pytest.raises(UserError, match="did you mean 'avg'"):
        models.lif_lenet(pool="avgg")


def nested():
    return torch.nested.nested_tensor([torch.rand(3, 4), torch.rand(2, 4)])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layer", [nn.Flatten(), nn.FlattenAxes(0, 1), nn.Dropout(0.5), nn.Linear(4, 3), nn.LIF()])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), r"got ndarray: torch.as_tensor\(x\)"),
        ([[[0.0]]], r"got list: torch.as_tensor\(x\)"),
        ((torch.zeros(2, 3, 4), None), "got tuple: run"),
        (nested, "got a nested one"),
    ],
    ids=["array", "list", "tuple", "nested"],
)
def test_only_plain_tensors_are_taken(layer, x, message):
    with pytest.raises(ShapeError, match=rf"{type(layer).__name__} takes a tensor .*{message}"):
        layer(x() if callable(x) else x)


def test_tensors_of_inference_mode_are_refused_where_something_learns():
    layer, x = nn.Linear(4, 3), torch.rand(2, 3, 4)
    with torch.inference_mode():
        spared, made, (_, state) = x.clone(), nn.Linear(4, 3), nn.LIF().run(torch.rand(2, 3, 3))
    for refused in (lambda: layer(spared), lambda: made(x), lambda: nn.LIF().run(layer(x), state)):
        with pytest.raises(UserError, match="inference_mode, whose tensors hand nothing back"):
            refused()
    with torch.no_grad():
        assert torch.equal(layer(spared), layer(x))
    assert layer.requires_grad_(False)(x.clone().requires_grad_()).requires_grad


def test_another_device_is_told():
    with pytest.raises(ShapeError, match="weights on cpu and was given an input on meta"):
        nn.Linear(4, 3)(torch.rand(2, 3, 4, device="meta"))


def test_transforms_of_torch_func_are_refused_where_they_cannot_follow():
    x = torch.rand(2, 5, 3, 4)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(UserError, match=r"torch.func .* cannot follow a Linear"):
        torch.vmap(net)(x)
    rules.attach(net, rules.Gradient())
    torch.testing.assert_close(torch.vmap(net)(x)[1], net(x[1]))
    with pytest.raises(UserError, match=r"torch.func .* cannot follow a LIF"):
        torch.vmap(nn.LIF(rule=rules.Surrogate()))(x)


@pytest.mark.parametrize("layer", [nn.LIF(), nn.RecurrentLIF(4), nn.Sequential(nn.LIF())])
def test_a_call_with_a_state_says_how_to_go_on(layer):
    with pytest.raises(UserError, match=r"starts from rest .* outputs, state = layer.run\(x, state\)"):
        layer(torch.rand(2, 3, 4), torch.rand(3, 4))


@pytest.mark.parametrize("plain", [nn.Linear(4, 4), torch.nn.Identity(), nn.Flatten()])
def test_a_state_for_a_layer_without_one_is_refused(plain):
    net, x = nn.Sequential(plain, nn.LIF()), torch.rand(2, 3, 4)
    _, state = net.run(x)
    with pytest.raises(ShapeError, match=f"{type(plain).__name__} has no state, and was handed a Tensor"):
        net.run(x, state[::-1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(1, 2, 5), "Conv2d has windows of 5×5 pixels, which do not fit images of 4×4"),
        (lambda: nn.Conv2d(1, 2, 3, padding=1, dilation=3), r"windows of 7×7 .* 4×4 .* \(1, 1\) pixels of padding"),
        (lambda: nn.MaxPool2d(5), "MaxPool2d has windows of 5×5 pixels, which do not fit images of 4×4"),
        (lambda: nn.AvgPool2d((1, 5)), "AvgPool2d has windows of 1×5 pixels, which do not fit images of 4×4"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3)), "MaxPool2d has windows of 3×3 .* images of 2×2"),
        (lambda: nn.MaxPool2d(0), "each side of the windows of MaxPool2d is a whole number of at least 1, got 0"),
        (lambda: nn.MaxPool2d(2, return_indices=True), "leave out return_indices"),
        (lambda: nn.Conv2d(1, 2, 3, stride=0), "stride of a Conv2d is at least 1"),
    ],
)
def test_windows_that_do_not_fit(make, message):
    with pytest.raises(UserError, match=message):
        make()(torch.rand(2, 3, 1, 4, 4))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 2, 5, padding="same"), nn.Conv2d(1, 2, 6, padding=1), nn.MaxPool2d(5, ceil_mode=True),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.MaxPool2d(4)),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding="valid"), nn.MaxPool2d(2)),
    ],
)  # fmt: skip
def test_windows_that_just_fit(layer):
    x = torch.rand(2, 3, 1, 4, 4)
    parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
    expected = x[1]
    for part in parts:
        expected = getattr(torch.nn, type(part).__name__).forward(part, expected)
    torch.testing.assert_close(layer(x)[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear("4", 3), lambda: nn.Linear(4, -1), lambda: nn.Linear(4, 2.5), lambda: nn.Linear(True, 3),
        lambda: nn.BatchNorm1d(-1), lambda: nn.BatchNorm2d("3"), lambda: nn.FlattenAxes("0", 1),
    ],
)  # fmt: skip
def test_sizes_that_are_none(make):
    with pytest.raises(UserError, match="is a whole number"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LIF(learn_beta="no"), lambda: nn.RecurrentLIF(4, learn_beta=1), lambda: nn.Sigmoid("no"),
        lambda: nn.Linear(4, 3, "no"), lambda: nn.Conv2d(1, 2, 3, bias="no"), lambda: nn.BatchNorm1d(3, affine="no"),
        lambda: rules.Epsilon(constant_statistics="no"), lambda: rewards.CorrectClass(magnitude="no"),
        lambda: rewards.SpikeSequenceV1("no"), lambda: methods.LFP(rewards.Softmax(), cap_rewards="no"),
    ],
)  # fmt: skip
def test_truth_values_that_are_none(make):
    with pytest.raises(UserError, match=r"is true or false(, or None)?, got ('no'|1)"):
        make()


def test_truth_values_of_numpy():
    assert nn.LIF(learn_beta=np.True_).learn_beta
    assert not nn.LIF(learn_beta=np.False_).learn_beta


@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_computed_weight_is_named_with_its_cure(parametrize):
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF())
    parametrize(net[0])
    with pytest.raises(
        UserError, match=r"the weight of layer 0 is computed .*remove_parametrizations\(layer, .weight.\)"
    ):
        net(torch.rand(2, 3, 4))
    rules.attach(net, rules.Surrogate())
    assert net(torch.rand(2, 3, 4)).requires_grad
