"""Attention and tokens, against products and Jacobians written out (AttnLRP, arXiv:2402.05602)."""

import copy

import numpy as np
import pytest
import torch
from references.cases import RULES, build, plant
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import CheckpointError, ShapeError, UserError
from spikelfp.nn import graph
from spikelfp.pruning import shrink
from spikelfp.training import checkpoint


@pytest.mark.parametrize(("heads", "head_dim"), [(1, None), (2, None), (3, 2)])
@pytest.mark.parametrize("rule", RULES)
def test_self_attention(rule, heads, head_dim):
    net = build(RULES[rule], nn.SelfAttention(4, heads, head_dim=head_dim), nn.MeanToken(), nn.Linear(4, 3))
    assert_equals_slow(plant(net), torch.randn(2, 2, 3, 4).double(), linear=True)


@pytest.mark.parametrize("rule", RULES)
def test_spiking_self_attention(rule):
    attention = nn.SpikingSelfAttention(4, 2, scale=0.4, beta=0.8, threshold=0.3)
    net = build(RULES[rule], nn.Sum(attention, nn.Identity()), nn.MeanToken(), nn.Linear(4, 3))
    x = torch.randn(4, 2, 3, 4).double()
    assert_equals_slow(plant(net), x, linear=True, tolerance=1e-9)
    assert attention(x).any()


@pytest.mark.parametrize("rule", RULES)
def test_vision_transformer_block(rule):
    net = build(
        RULES[rule],
        nn.Conv2d(1, 4, 2, stride=2), nn.ToTokens(), nn.ClassToken(4), nn.PositionEmbedding(5, 4),
        nn.Sum(nn.Sequential(nn.LayerNorm(4), nn.SelfAttention(4, 2)), nn.Identity()),
        nn.Sum(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)), nn.Identity()),
        nn.FirstToken(), nn.Linear(4, 3),
    )  # fmt: skip
    assert_equals_slow(plant(net), torch.randn(2, 2, 1, 4, 4).double(), linear=True)


@pytest.mark.parametrize("rule", RULES)
def test_tokens_of_features_in_a_row(rule):
    net = build(RULES[rule], nn.Linear(5, 12), nn.ToTokens(4), nn.SelfAttention(3, 3), nn.MeanToken(), nn.Linear(3, 2))
    assert_equals_slow(plant(net), torch.randn(2, 2, 5).double(), linear=True)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("end", [nn.LIF(0.9, 0.3), nn.Tanh()])
def test_tokens_in_front_of_neurons(rule, end):
    net = build(RULES[rule], nn.ClassToken(3), nn.PositionEmbedding(4, 3), end, nn.MeanToken(), nn.Linear(3, 2))
    assert_equals_slow(plant(net), torch.randn(4, 2, 3, 3).double(), linear=True)


def test_embeddings_are_updated_by_the_reward_they_earn():
    """``d_w = |w| Σ m`` with ``a = 1`` (eq. 7): for a class token ``sign(w)`` times its reward."""
    layer = nn.ClassToken(3).double()
    torch.nn.init.normal_(layer.token)
    out = layer(torch.randn(2, 4, 5, 3).double())
    reward = torch.randn_like(out)
    propagate(out, reward, eps=1e-14)
    torch.testing.assert_close(-layer.token.grad, layer.token.detach().sign() * reward[:, :, 0].sum((0, 1)))


def test_a_product_credits_each_factor_with_one_half():
    a, b = torch.randn(2, 1, 2, 3, 3).double()
    a.requires_grad_(), b.requires_grad_()
    factor = rules.Epsilon().factor
    out = factor(a) @ factor(b)
    reward = torch.randn_like(out)
    propagate(out, reward, eps=1e-14)
    for signal in (a, b):
        torch.testing.assert_close((signal * signal.grad).sum(), reward.sum() / 2, rtol=1e-9, atol=1e-9)


def test_attention_gives_torchs_outputs():
    ours, theirs = nn.SelfAttention(6, 3).double(), torch.nn.MultiheadAttention(6, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.project.weight, "in_proj_bias": ours.project.bias,
            "out_proj.weight": ours.out.weight, "out_proj.bias": ours.out.bias,
        }
    )  # fmt: skip
    x = torch.randn(2, 3, 5, 6).double()
    tokens = x.flatten(0, 1)
    torch.testing.assert_close(ours(x).flatten(0, 1), theirs(tokens, tokens, tokens, need_weights=False)[0])


def test_mistakes_are_named():
    with pytest.raises(UserError, match="4 for 6"):
        nn.SelfAttention(6, 4)
    with pytest.raises(UserError, match="heads must be a whole number of at least 1, got 0"):
        nn.SpikingSelfAttention(6, 0)
    for heads, head_dim, said in (
        (0, 4, "heads.* got 0"), (2.0, None, "heads.* got 2.0"), (2, 0, "head_dim.* got 0"),
        (2, 3.0, "head_dim.* got 3.0"), (2, True, "head_dim.* got True"), (2, "3", "head_dim.* got '3'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            nn.SelfAttention(6, heads, head_dim=head_dim)
    with pytest.raises(ShapeError, match="ToTokens takes"):
        nn.ToTokens()(torch.zeros(2, 3, 4))
    with pytest.raises(ShapeError, match="ToTokens takes"):
        nn.ToTokens(2)(torch.zeros(2, 3, 4, 2, 2))
    with pytest.raises(ShapeError, match="5 features cannot be divided into 2 tokens"):
        nn.ToTokens(2)(torch.zeros(2, 3, 5))
    for tokens in (0, 2.0, True):
        with pytest.raises(UserError, match=f"tokens must be a whole number of at least 1, got {tokens}"):
            nn.ToTokens(tokens)


OF_TOKENS = {
    "SelfAttention": lambda: nn.SelfAttention(8, 2),
    "SpikingSelfAttention": lambda: nn.SpikingSelfAttention(8, 2),
    "ClassToken": lambda: nn.ClassToken(8),
    "PositionEmbedding": lambda: nn.PositionEmbedding(3, 8),
    "FirstToken": nn.FirstToken,
    "MeanToken": nn.MeanToken,
    "TokenNorm": lambda: nn.TokenNorm(8),
}


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (2, 1, 1, 3, 8)], ids=str)
@pytest.mark.parametrize("kind", OF_TOKENS)
def test_tokens_have_four_axes(kind, shape):
    layer = OF_TOKENS[kind]()
    for way in (layer, layer.run):
        with pytest.raises(ShapeError, match=rf"{kind} takes \[T, B, tokens, features\], .*got shape \({shape[0]},"):
            way(torch.rand(shape))


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (nn.SelfAttention(8, 2), (2, 1, 3, 7), r"SelfAttention was built for tokens of 8 features, .*, got 7 \("),
        (nn.SelfAttention(8, 2), (2, 1, 8, 3), "of 8 features.*got 3"),
        (nn.SpikingSelfAttention(8, 2), (2, 1, 3, 7), "SpikingSelfAttention was built for tokens of 8 features.*got 7"),
        (nn.TokenNorm(8), (2, 1, 3, 7), "TokenNorm was built for tokens of 8 features, got 7"),
        (nn.ClassToken(8), (2, 1, 3, 7), r"ClassToken was built for \[features\] = \[8\], got \[7\]"),
        (nn.ClassToken(1), (2, 1, 3, 7), r"= \[1\], got \[7\]"),
        (nn.ClassToken(7), (2, 1, 3, 1), r"= \[7\], got \[1\]"),
        (nn.PositionEmbedding(5, 8), (2, 1, 4, 8), r"PositionEmbedding was built for .* = \[5, 8\], got \[4, 8\]"),
        (nn.PositionEmbedding(1, 8), (2, 1, 4, 8), r"= \[1, 8\], got \[4, 8\]"),
        (nn.PositionEmbedding(4, 8), (2, 1, 1, 8), r"= \[4, 8\], got \[1, 8\]"),
        (nn.PositionEmbedding(4, 1), (2, 1, 4, 8), r"= \[4, 1\], got \[4, 8\]"),
        (nn.PositionEmbedding(4, 8), (2, 1, 4, 1), r"= \[4, 8\], got \[4, 1\]"),
        (nn.MeanToken(), (2, 1, 0, 8), "MeanToken takes .* with at least one token"),
        (nn.FirstToken(), (2, 1, 0, 8), "FirstToken takes .* with at least one token"),
        (nn.ToTokens(2), (2, 1, 0), "0 features cannot be divided into 2 tokens"),
    ],
)  # fmt: skip
def test_sizes_that_torch_would_broadcast_or_refuse_are_named(layer, shape, said):
    with pytest.raises(ShapeError, match=said):
        layer(torch.rand(shape))


@pytest.mark.parametrize(
    "make", [lambda: nn.SelfAttention(8, 2), lambda: nn.SpikingSelfAttention(8, 2, 2.0, threshold=0.05)]
)
def test_a_sample_does_not_depend_on_those_beside_it(make):
    torch.manual_seed(0)
    layer, x = make().eval(), torch.rand(4, 3, 4, 8)
    assert layer(x)[:, 1].any()
    torch.testing.assert_close(layer(x)[:, 1:2], layer(x[:, 1:2]))


def test_positions_are_added_to_their_tokens():
    layer, x = nn.PositionEmbedding(3, 2), torch.rand(2, 4, 3, 2)
    assert torch.equal(layer(x)[1, 2], x[1, 2] + layer.positions)


NO_COUNTS = (0, -8, 8.0, "8", True, None, 2**70)


@pytest.mark.parametrize("wrong", NO_COUNTS, ids=str)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (nn.ClassToken, "dim, the features of a token,"),
        (lambda size: nn.PositionEmbedding(size, 8), "the number of tokens"),
        (lambda size: nn.PositionEmbedding(8, size), "dim, the features of a token,"),
        (lambda size: nn.SelfAttention(size, 1), "dim, the features of a token,"),
        (lambda size: nn.SelfAttention(size, 1, head_dim=2), "dim, the features of a token,"),
        (lambda size: nn.SelfAttention(8, size), "the number of heads"),
        (lambda size: nn.SpikingSelfAttention(size, 2), "dim, the features of a token,"),
        (lambda size: nn.SpikingSelfAttention(8, size), "the number of heads"),
    ],
)
def test_sizes_are_whole_numbers(make, what, wrong):
    least = "most 2147483647" if wrong == 2**70 else "a whole number of at least 1"
    with pytest.raises(UserError, match=rf"^{what} must be (at )?{least}, got {wrong!r}$"):
        make(wrong)


def test_sizes_may_be_numbers_of_numpy():
    layer = nn.SelfAttention(np.int64(8), np.int32(2), head_dim=np.int64(3))
    assert (layer.dim, layer.heads, layer.head_dim) == (8, 2, 3)
    assert [type(size) for size in (layer.dim, layer.heads, layer.head_dim)] == [int] * 3


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.ToTokens(4), ["tokens"]),
        (nn.ClassToken(8), ["dim"]),
        (nn.PositionEmbedding(3, 8), ["tokens", "dim"]),
        (nn.SelfAttention(8, 2), ["dim", "heads", "head_dim"]),
        (nn.SpikingSelfAttention(8, 2), ["dim", "heads"]),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("value", [0, 3, "2", torch.nn.Parameter(torch.ones(2)), nn.Identity()], ids=str)
def test_sizes_stay_as_they_were_chosen(layer, names, value):
    kind = type(layer).__name__
    for name in names:
        before = getattr(layer, name)
        with pytest.raises(UserError, match=rf"^{name} of {kind} is chosen where .*, got .*: make a new layer$"):
            setattr(layer, name, value)
        assert getattr(layer, name) == before
    assert {name: getattr(copy.deepcopy(layer), name) for name in names} == {
        name: getattr(layer, name) for name in names
    }


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "x", None, True, 1j, 10**400, torch.ones(())], ids=str)
def test_a_scale_is_a_finite_number(wrong):
    with pytest.raises(UserError, match="scale must be a finite number, got"):
        nn.SpikingSelfAttention(8, 2, scale=wrong)
    layer = nn.SpikingSelfAttention(8, 2, 0.25)
    with pytest.raises(UserError, match="scale must be a finite number, got"):
        layer.scale = wrong
    assert layer.scale == 0.25


def test_a_scale_may_be_set_later():
    def made(scale):
        torch.manual_seed(0)
        return nn.SpikingSelfAttention(8, 2, scale, threshold=0.05).eval()

    layer, x = made(0.0), torch.rand(4, 2, 3, 8)
    before = layer(x)
    layer.scale = 2
    assert "heads=2, scale=2\n" in repr(layer)
    assert torch.equal(layer(x), made(2.0)(x))
    assert not torch.equal(layer(x), before)


@pytest.mark.parametrize("state", [0, "", (), [None] * 4, (None,) * 6, {}, torch.zeros(5)], ids=str)
def test_states_of_spiking_attention_are_those_of_its_parts(state):
    layer = nn.SpikingSelfAttention(8, 2, threshold=0.1).eval()
    with pytest.raises(ShapeError, match="starts from the states that run returned, one for each of its 5 parts"):
        layer.run(torch.rand(2, 1, 3, 8), state)


def test_spiking_attention_goes_on_from_its_states():
    layer, x = nn.SpikingSelfAttention(8, 2, 3.0, threshold=0.1).eval(), torch.rand(6, 2, 3, 8)
    first, state = layer.run(x[:2])
    torch.testing.assert_close(torch.cat([first, layer.run(x[2:], list(state))[0]]), layer(x))


def test_layers_print_their_sizes():
    assert [repr(nn.ToTokens()), repr(nn.ToTokens(4))] == ["ToTokens()", "ToTokens(tokens=4)"]
    assert repr(nn.ClassToken(8)) == "ClassToken(dim=8)"
    assert repr(nn.PositionEmbedding(3, 8)) == "PositionEmbedding(tokens=3, dim=8)"
    assert repr(nn.SelfAttention(8, 2)).startswith("SelfAttention(\n  heads=2\n")
    assert repr(nn.SpikingSelfAttention(8, 2, 1)).startswith("SpikingSelfAttention(\n  heads=2, scale=1\n")


def test_positions_put_in_place_of_others_tell_their_sizes():
    layer = nn.PositionEmbedding(3, 8)
    layer.positions = torch.nn.Parameter(torch.zeros(5, 8))
    assert repr(layer) == "PositionEmbedding(tokens=5, dim=8)"
    assert graph.arguments(layer) == {"tokens": 5, "dim": 8}
    assert layer(torch.rand(1, 1, 5, 8)).shape == (1, 1, 5, 8)


def saved(path, net):
    checkpoint.write(path, {"weights": net.state_dict(), **checkpoint.network_description(net)})
    return path


def test_a_checkpoint_of_other_tokens_is_refused(tmp_path):
    def made(tokens):
        return nn.Sequential(nn.Linear(5, 12), nn.ToTokens(tokens), nn.MeanToken(), nn.Flatten())

    path = saved(tmp_path / "c.pt", made(2))
    checkpoint.load_weights(path, made(2))
    with pytest.raises(CheckpointError, match=r"ToTokens\(tokens=2\) in the checkpoint, ToTokens\(tokens=3\) here"):
        checkpoint.load_weights(path, made(3))


def test_checkpoints_tell_of_tokens_what_old_ones_told():
    net = nn.Sequential(nn.ToTokens(), nn.ClassToken(8), nn.PositionEmbedding(5, 8), nn.SelfAttention(8, 2))
    told = checkpoint.constants(net)
    assert [told[name] for name in "0123"] == [
        "ToTokens()", "ClassToken()", "PositionEmbedding()", "SelfAttention(heads=2)",
    ]  # fmt: skip


def test_attention_behind_a_layer_that_was_made_smaller():
    net = nn.Sequential(nn.ToTokens(2), nn.Linear(3, 8), nn.SelfAttention(8, 2), nn.MeanToken(), nn.Linear(8, 2))
    with torch.no_grad():
        net[1].weight[5], net[1].bias[5] = 0, 0
    small, x = shrink(net), torch.rand(2, 2, 6)
    assert small[2].dim == 7
    torch.testing.assert_close(small(x), net(x))
