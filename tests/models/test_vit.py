"""Vision Transformers: what their classifier reads, and the weights that seeds and old files stand for."""

import functools

import numpy as np
import pytest
import torch

from spikelfp import models, nn, rules
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.models import ModelSpec, build
from spikelfp.nn import graph

PAPER = {
    "width": 32, "depth": 4, "heads": 8, "patch": 7, "activation": "tanh", "tokens": "all", "positions": False,
}  # fmt: skip


def test_the_default_has_the_names_and_weights_that_seeds_and_files_stand_for():
    def block():
        attention = nn.Sequential(nn.LayerNorm(8), nn.SelfAttention(8, 2))
        dense = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        return [nn.Sum(nn.Identity(), attention), nn.Sum(nn.Identity(), dense)]

    torch.manual_seed(5)
    blocks = [*block(), *block()]
    before = [nn.Conv2d(1, 8, 4, 4), nn.ToTokens(), nn.ClassToken(8), nn.PositionEmbedding(5, 8)]
    written = nn.Sequential(*before, *blocks, nn.LayerNorm(8), nn.FirstToken(), nn.Linear(8, 3))
    torch.manual_seed(5)
    made = build(ModelSpec("vit", (1, 8, 8), 3, width=8, depth=2, heads=2, patch=4)).state_dict()
    assert list(made) == list(written.state_dict())
    assert all(torch.equal(made[name], weight) for name, weight in written.state_dict().items())
    x = torch.rand(1, 2, 1, 8, 8)
    assert str(written) == str(models.vit((1, 8, 8), 3, dim=8, depth=2, heads=2))
    assert written(x).shape == (1, 2, 3)


def test_the_transformer_of_the_paper():
    """Flügel et al. 2024, section 4.4: four blocks of eight heads, no class token, no positions, tanh, all tokens."""
    net = build(ModelSpec("vit", (1, 28, 28), 10, **PAPER))
    blocks = [layer for layer in net if isinstance(layer, nn.Block)]
    assert len(blocks) == 4
    assert [layer.heads for layer in net.modules() if isinstance(layer, nn.SelfAttention)] == [8] * 4
    assert not any(isinstance(layer, nn.ClassToken | nn.PositionEmbedding | nn.GELU) for layer in net.modules())
    assert sum(isinstance(layer, nn.Tanh) for layer in net.modules()) == 5
    head = [layer for layer in net[-4:] if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in head] == [(512, 16 * 32), (10, 512)]
    x = torch.rand(1, 2, 1, 28, 28)
    tokens = torch.nn.functional.unfold(x[0], 7, stride=7).transpose(1, 2) @ net[0].weight.flatten(1).T + net[0].bias
    tokens = tokens[None]
    for block in blocks:
        attention, dense = block
        tokens = tokens + attention.branches[1](tokens)
        norm, first, _, second = dense.branches[1]
        tokens = tokens + second(torch.tanh(first(norm(tokens))))
    torch.testing.assert_close(net(x), head[1](torch.tanh(head[0](tokens.flatten(2)))))


CODE = PAPER | {"head_dim": 64, "embedding": "image", "head_width": 512}


def test_the_transformer_of_the_papers_code():
    """One dense layer makes all tokens of the whole image, and learns with the first block; heads have 64 features."""
    net = build(ModelSpec("vit", (1, 28, 28), 10, **CODE))
    assert [type(layer) for layer in net] == [nn.Block] * 4 + [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]
    flat, dense, split, *_ = net[0]
    assert (type(flat), tuple(dense.weight.shape), split.tokens) == (nn.Flatten, (16 * 32, 784), 16)
    attention = [layer for layer in net.modules() if isinstance(layer, nn.SelfAttention)]
    assert [tuple(layer.project.weight.shape) for layer in attention] == [(3 * 8 * 64, 32)] * 4
    assert [tuple(layer.out.weight.shape) for layer in attention] == [(32, 8 * 64)] * 4
    rules.attach(net, rules.Gradient())
    x = torch.rand(1, 2, 1, 28, 28, requires_grad=True)
    net(x)[0, 0, 0].backward()
    assert x.grad[0, 0].any()
    assert not x.grad[0, 1].any()
    tokens = dense(x.flatten(2)).view(1, 2, 16, 32)
    torch.testing.assert_close(split(dense(flat(x))), tokens)


@pytest.mark.parametrize(("tokens", "positions"), [("class", False), ("mean", True), ("all", True)])
def test_tokens_of_the_whole_image_with_what_stands_before_the_blocks(tokens, positions):
    net = models.vit((1, 8, 8), 3, dim=8, depth=2, heads=2, embedding="image", tokens=tokens, positions=positions)
    before = [nn.Flatten, nn.Linear, nn.ToTokens]
    before += [nn.ClassToken] if tokens == "class" else []
    before += [nn.PositionEmbedding] if positions else []
    assert [type(layer) for layer in net][: len(before)] == before
    assert net(torch.rand(1, 2, 1, 8, 8)).shape == (1, 2, 3)


def test_the_mean_of_the_tokens():
    net = build(ModelSpec("vit", (1, 8, 8), 3, width=8, depth=2, heads=2, patch=4, tokens="mean"))
    assert [type(layer) for layer in net] == [
        nn.Conv2d, nn.ToTokens, nn.PositionEmbedding, nn.Block, nn.Block, nn.LayerNorm, nn.MeanToken, nn.Linear,
    ]  # fmt: skip
    assert net[2].positions.shape == (4, 8)
    assert net(torch.rand(1, 2, 1, 8, 8)).shape == (1, 2, 3)


@pytest.mark.parametrize("tokens", ["class", "all", "mean"])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("own", [{}, {"embedding": "image", "head_dim": 3}])
def test_every_weight_learns(tokens, positions, own):
    options = {"tokens": tokens, "positions": positions, "head_width": 7 if tokens == "all" else None} | own
    net = models.vit((1, 8, 8), 3, dim=8, depth=2, heads=2, activation="tanh", **options)
    rules.attach(net, rules.Gradient())
    net(torch.rand(1, 4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert all(graph.UNKNOWN not in sources for sources in graph.neighbours(net).before.values())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"tokens": "al"}, UnknownNameError, "unknown tokens 'al': did you mean 'all'"),
        ({"activation": "tan"}, UnknownNameError, "did you mean 'tanh'"),
        ({"head_width": 20}, UserError, "tokens=all only, got head_width=20 and tokens=class"),
        ({"embedding": "pixels"}, UnknownNameError, "unknown embedding 'pixels'"),
        ({"head_dim": 0}, UserError, "head_dim must be a whole number of at least 1, got 0"),
        ({"head_width": 0, "tokens": "all"}, UserError, "1 neuron or more.*got head_width=0"),
    ],
)
def test_what_does_not_fit_is_said(options, error, text):
    with torch.device("meta"), pytest.raises(error, match=text):
        models.vit(**options)


SMALL = {"shape": (1, 8, 8), "classes": 3, "dim": 8, "depth": 1, "heads": 2}
WHOLE = "must be a whole number of at least 1, got"
BOTH = [
    *(({"dim": value}, UserError, f"dim, the features of a token, {WHOLE} {value!r}$") for value in (8.0, 0, -8, True)),
    *(({"depth": value}, UserError, f"the depth of a transformer {WHOLE} {value!r}$") for value in (1.5, "2", True, 0)),
    *(({"heads": value}, UserError, f"the number of heads {WHOLE} {value!r}$") for value in (2.0, "2", True, 0)),
    *(
        ({"classes": value}, UserError, f"classes, the number of outputs, {WHOLE} {value!r}$")
        for value in (2.0, -1, 0, True, "3", None)
    ),
    *(
        ({"patch": value}, ShapeError, f"patch must be a whole number that divides.*, got {value!r} for 8×8$")
        for value in (2.0, True, "4", 0, -4, 3, None)
    ),
    *(
        ({"shape": value}, ShapeError, rf"whole numbers of at least 1, got {said}")
        for value, said in ((8, "8:"), ("188", "'188':"), (None, "None:"), ({1, 8}, "{"), ((1, 8), r"\(1, 8\)"))
    ),
    *(
        ({"shape": (1, value, 8)}, ShapeError, rf"whole numbers of at least 1, got \(1, {value}, 8\)")
        for value in (0, -8)
    ),
    *(
        ({"shape": (1, 8, value)}, ShapeError, rf"whole numbers of at least 1, got \(1, 8, {value!r}\)")
        for value in (8.0, "8", True, None)
    ),
]  # fmt: skip


@pytest.mark.parametrize("model", [models.vit, models.lif_vit])
@pytest.mark.parametrize(("options", "error", "text"), BOTH, ids=str)
def test_sizes_that_are_none_are_named(model, options, error, text):
    with pytest.raises(error, match=text):
        model(**{**SMALL, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        *(
            ({"tokens": "all", "head_width": value}, f"whole number of neurons.*, got head_width={value!r} and")
            for value in (1.5, True, "5", -1)
        ),
        *(({"head_dim": value}, f"head_dim {WHOLE} {value!r}$") for value in (1.5, True, "5", -1)),
        *(({"positions": value}, f"positions is true or false, got {value!r}$") for value in ("no", 1, None)),
        ({"activation": nn.Tanh()}, r"an activation is a name.* or a function without arguments.*, got Tanh\(\)$"),
        ({"activation": 3}, "an activation is a name.*, got 3$"),
        ({"activation": None}, "an activation is a name.*, got None$"),
        ({"activation": nn.Linear}, "an activation is a name.*, got .*Linear"),
        ({"activation": list}, "an activation is a name.*, got .*list.*, which makes list of 0$"),
    ],
    ids=str,
)  # fmt: skip
def test_choices_that_are_none_are_named(options, text):
    with pytest.raises(UserError, match=text):
        models.vit(**{**SMALL, **options})


@pytest.mark.parametrize("activation", ["tanh", nn.Tanh, lambda: nn.Tanh(), functools.partial(nn.Tanh)])
def test_activations_by_name_and_by_function(activation):
    net = models.vit(**SMALL, activation=activation)
    assert sum(isinstance(layer, nn.Tanh) for layer in net.modules()) == 1


@pytest.mark.parametrize("model", [models.vit, models.lif_vit])
def test_sizes_may_be_numbers_of_numpy(model):
    numbers = {name: np.int64(SMALL[name]) for name in ("classes", "dim", "depth", "heads")}
    net = model(**numbers, shape=list(np.array([1, 8, 8])), patch=np.int32(4))
    assert net(torch.rand(2, 2, 1, 8, 8)).shape == (2, 2, 3)
