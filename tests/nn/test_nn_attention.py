"""Attention and tokens, against products and Jacobians written out (AttnLRP, arXiv:2402.05602)."""

import pytest
import torch
from references.cases import RULES, build, plant
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import ShapeError, UserError


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
