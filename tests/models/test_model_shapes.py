"""Shapes, parameter counts, names, options and errors of the models."""

import inspect
from dataclasses import asdict, replace

import pytest
import torch
import yaml

from spikelfp import models, nn
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.models import ModelSpec, build

STATIC = ("mlp", "lenet", "vgg-like", "vgg16", "vgg16-bn", "resnet18", "resnet34")
SMALL = {"hidden": (12,), "width": 4, "depth": 1, "heads": 2}


def size(net):
    return sum(p.numel() for p in net.parameters())


def on_meta(name, shape=(3, 224, 224), classes=1000, **options):
    with torch.device("meta"):
        return build(ModelSpec(name, shape, classes, **options))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("vgg16", 138357544), ("vgg16-bn", 138365992), ("resnet18", 11689512), ("resnet34", 21797672)],
)
def test_as_many_parameters_as_in_torchvision(name, parameters):
    assert size(on_meta(name)) == parameters


@pytest.mark.parametrize("name", models.models)
def test_every_model_is_built_from_plain_data(name):
    spec = ModelSpec(name, (3, 32, 32), 7, **SMALL)
    net = build(ModelSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain(spec).items()}))
    x = torch.rand(2, 3, 3, 32, 32)
    out = net(x)
    assert out.shape == (2, 3, 7)
    assert out.requires_grad
    last = [layer for layer in net.modules() if not list(layer.children())][-1]
    assert isinstance(last, nn.LIF) is models.is_spiking(name)


def plain(spec):
    return yaml.safe_load(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items()}))


def test_vgg_like_has_the_layers_of_the_paper():
    net = models.vgg_like()
    convolutions = [tuple(m.weight.shape) for m in net if isinstance(m, nn.Conv2d)]
    assert [shape[0] for shape in convolutions] == [32, 64, 128, 128, 256, 256]
    assert {shape[2:] for shape in convolutions} == {(3, 3)}
    assert [tuple(m.weight.shape) for m in net if isinstance(m, nn.Linear)] == [(1024, 4096), (512, 1024), (10, 512)]
    assert sum(isinstance(m, nn.MaxPool2d) for m in net) == 3
    assert [m.p for m in net if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("shape", "dense"),
    [
        ((3, 224, 224), [(4096, 25088), (4096, 4096), (1000, 4096)]),
        ((3, 300, 260), [(4096, 25088), (4096, 4096), (1000, 4096)]),
        ((3, 32, 32), [(512, 512), (512, 512), (1000, 512)]),
        ((1, 64, 96), [(512, 3072), (512, 512), (1000, 512)]),
    ],
)
def test_the_classifier_of_vgg16_fits_the_image(shape, dense):
    net = on_meta("vgg16", shape)
    assert [tuple(m.weight.shape) for m in net if isinstance(m, nn.Linear)] == dense


@pytest.mark.parametrize("make", [models.resnet18, models.lif_resnet18])
@pytest.mark.parametrize(
    ("shape", "stem", "kernel", "side"),
    [
        ((3, 64, 64), "auto", (7, 7), 16),
        ((3, 63, 64), "auto", (3, 3), 63),
        ((3, 32, 32), "7x7", (7, 7), 8),
        ((3, 64, 64), "3x3", (3, 3), 64),
    ],
)
def test_stems_of_resnets(make, shape, stem, kernel, side):
    net = make(shape, 3, stem=stem, width=2)
    assert next(m for m in net.modules() if isinstance(m, nn.Conv2d)).kernel_size == kernel
    x = torch.rand(1, 2, *shape)
    for name, layer in net.named_children():
        x = layer(x)
        if name == "layer1":
            assert x.shape[3] == side
        if name == "layer4":
            assert x.shape[3] == -(-side // 8)


@pytest.mark.parametrize("name", STATIC)
def test_activations_by_name(name):
    for activation, kind in (("silu", nn.SiLU), ("heaviside", nn.Heaviside), ("leaky-relu", nn.LeakyReLU)):
        net = on_meta(name, (3, 32, 32), 7, activation=activation, **SMALL)
        used = [type(m) for m in net.modules() if isinstance(m, nn.Activation)]
        assert used
        assert set(used) == {kind}
    count = len(used)
    assert count == len([m for m in on_meta(name, (3, 32, 32), 7, **SMALL).modules() if isinstance(m, nn.ReLU)])


def test_each_activation_is_a_layer_of_its_own_kind():
    made = {name: models.activations[name]() for name in models.activations}
    assert len({repr(layer) for layer in made.values()}) == len(made)
    assert made["sigmoid-opposite"].opposite_sign
    assert not made["sigmoid"].opposite_sign
    net = models.mlp([3, 4, 2], activation=lambda: nn.ELU(0.5))
    assert net[2].alpha == 0.5
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        models.mlp([3, 4, 2], activation="relue")


@pytest.mark.parametrize("name", STATIC)
def test_noise_stands_in_front_of_every_layer_with_weights(name):
    spec = ModelSpec(name, (3, 32, 32), 7, noise=0.3, **SMALL)
    net, ran = build(spec), []
    for layer in net.modules():
        if not list(layer.children()) and not isinstance(layer, nn.Identity):
            layer.register_forward_hook(lambda module, given, out: ran.append(module))
    net(torch.rand(1, 2, 3, 32, 32))
    before = [ran[k - 1] for k, layer in enumerate(ran) if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert before
    assert all(isinstance(layer, nn.Noise) and layer.sigma == 0.3 for layer in before)
    assert not any(isinstance(layer, nn.Noise) for layer in build(replace(spec, noise=0.0)).modules())


def test_arguments_reach_the_neurons():
    neuron = {"beta": 0.5, "threshold": 0.7, "reset": "zero", "denominator": "increment"}
    for name in models.models:
        if models.is_spiking(name):
            net = on_meta(name, (1, 16, 16), 3, neuron=neuron, **SMALL)
            found = {tuple(getattr(m, key) for key in neuron) for m in net.modules() if isinstance(m, nn.LIF)}
            assert found == {tuple(neuron.values())}, name


def test_pooling_of_spiking_vgg():
    net = on_meta("lif-vgg-like", (3, 32, 32), 10, pool="avg")
    assert sum(isinstance(m, nn.AvgPool2d) for m in net) == 3
    assert not any(isinstance(m, nn.MaxPool2d) for m in net)


def test_transformers_have_the_size_asked_for():
    net = on_meta("vit", (3, 32, 32), 10, width=64, depth=5, heads=4, patch=8)
    assert sum(isinstance(m, nn.SelfAttention) for m in net.modules()) == 5
    assert net[3].positions.shape == (17, 64)
    spiking = on_meta("lif-vit", (3, 32, 32), 10, width=64, depth=3, heads=4, patch=8)
    assert sum(isinstance(m, nn.SpikingSelfAttention) for m in spiking.modules()) == 3


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: models.vgg_like((3, 7, 32)), ShapeError, "vgg-like needs images of at least 8×8, got 7×32"),
        (lambda: models.lif_vgg_like((3, 32, 7)), ShapeError, "8×8"),
        (lambda: models.vgg16((3, 31, 31)), ShapeError, "vgg16 needs images of at least 32×32"),
        (lambda: models.resnet18((3, 32)), ShapeError, "an image shape is"),
        (lambda: models.resnet18(stem="7×7"), UnknownNameError, "did you mean '7x7'"),
        (lambda: models.resnet34(width=0), UserError, "width of a network must be a whole number of at least 1, got 0"),
        (lambda: models.vgg16(width=-1), UserError, "got -1"),
        (lambda: models.vit((3, 30, 32)), ShapeError, "got 4 for 30×32"),
        (lambda: models.lif_vit(patch=0), ShapeError, "got 0"),
        (lambda: models.vit(dim=10, heads=3), UserError, "heads must divide"),
        (lambda: models.vit(depth=0), UserError, "depth"),
        (lambda: models.vgg_like(noise=-0.1), UserError, "sigma"),
        (lambda: models.lif_vgg_like(pool="median"), UnknownNameError, "pool"),
    ],
)
def test_what_cannot_be_built_is_said(make, error, text):
    with torch.device("meta"), pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("name", ["lif-mlp", "lif-lenet"])
def test_networks_without_biases(name):
    net = models.build(models.ModelSpec(name, (1, 28, 28), 10, bias=False))
    assert all(parameter_name.endswith("weight") for parameter_name, _ in net.named_parameters())
    assert any(n.endswith("bias") for n, _ in models.build(models.ModelSpec(name, (1, 28, 28), 10)).named_parameters())


IMAGE_MODELS = [
    models.lenet, models.lif_lenet, models.lif_conv, models.vgg_like, models.lif_vgg_like, models.vgg16,
    models.resnet18, models.resnet34, models.lif_resnet18, models.vit, models.lif_vit,
]  # fmt: skip


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_numbers_that_are_none_are_refused(model):
    for classes in (0, -1, 2.0, True, "3", None):
        with pytest.raises(UserError, match="number of outputs, must be a whole number of at least 1, got"):
            model((3, 32, 32), classes)
    for shape in (8, "abc", (3, 32), (3, 32, 32.0), (True, 32, 32), (3, 0, 32), None):
        with pytest.raises(ShapeError, match=r"\(channels, height, width\), whole numbers of at least 1, got"):
            model(shape, 10)
    if "width" in inspect.signature(model).parameters:
        for width in (0, 1.5, "4", 8.0, True, None):
            with pytest.raises(UserError, match="width of a network must be a whole number of at least 1, got"):
                model((3, 32, 32), 10, width=width)


@pytest.mark.parametrize("model", [models.mlp, models.lif_mlp, models.lif_rnn])
@pytest.mark.parametrize("size", [2.0, True, "4", 0, None])
def test_sizes_of_dense_layers_are_whole_numbers(model, size):
    with pytest.raises(UserError, match=r"whole numbers of at least 1, such as \[784, 1000, 10\], got"):
        model([5, size, 3])


@pytest.mark.parametrize("activation", [nn.Tanh(), 3, None, list, lambda: 3, nn.Linear])
def test_activations_are_names_or_functions_that_make_a_layer(activation):
    for make in (lambda: models.mlp([5, 4, 3], activation=activation), lambda: models.vgg_like(activation=activation)):
        with pytest.raises(UserError, match="a function without arguments that makes the layer"):
            make()


def test_truth_values_and_deviations_are_no_words():
    for make in (models.lif_mlp, models.lif_rnn):
        with pytest.raises(UserError, match="bias is true or false, got 'no'"):
            make([5, 4, 3], bias="no")
    for image in (models.lif_lenet, models.lif_conv):
        with pytest.raises(UserError, match="bias is true or false, got 'no'"):
            image((1, 28, 28), bias="no")
    for noise in ("x", float("nan"), True):
        with pytest.raises(UserError, match="sigma must be a finite number"):
            models.mlp([5, 4, 3], noise=noise)
