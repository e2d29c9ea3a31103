"""Vision Transformers, with activations and with LIF neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.models.base import Size, Width, check_shape, he, models
from spikelfp.registry import checked_keywords


@checked_keywords()
def vit(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    patch: int = 4,
    dim: int = 192,
    depth: int = 6,
    heads: int = 3,
) -> nn.Sequential:
    """Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), pre-norm, with a class token and GELU.

    Patches of ``patch`` × ``patch`` pixels become tokens of ``dim`` features, with learned positions; ``depth``
    blocks ``x + attention(LN(x))``, ``x + MLP(LN(x))`` with ``heads`` heads and ``4 dim`` hidden neurons; LayerNorm,
    and a dense layer on the class token: linear outputs. Takes ``[T, B, *shape]``, sides that ``patch`` divides.
    """
    tokens = patches(shape, patch)
    blocks = [layer for _ in range(check_depth(depth)) for layer in _block(dim, heads)]
    return nn.Sequential(
        nn.Conv2d(shape[0], dim, patch, patch),
        nn.ToTokens(),
        nn.ClassToken(dim),
        nn.PositionEmbedding(tokens + 1, dim),
        *blocks,
        nn.LayerNorm(dim),
        nn.FirstToken(),
        nn.Linear(dim, classes),
    )


@models.register("vit", spiking=False, normalizes=True)
def _vit(
    shape: tuple[int, ...], classes: int, *, width: Width = 192, depth: Size = 6, heads: Size = 3, patch: Size = 4
) -> nn.Sequential:
    """Vision Transformer.

    Args:
        depth: blocks of a transformer.
        heads: of the attention.
        patch: side of a patch that becomes a token.
    """
    return vit(shape, classes, dim=width, depth=depth, heads=heads, patch=patch)


def _block(dim: int, heads: int) -> list[nn.Layer]:
    attention = nn.Sequential(nn.LayerNorm(dim), nn.SelfAttention(dim, heads))
    dense = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
    return [nn.Sum(nn.Identity(), attention), nn.Sum(nn.Identity(), dense)]


def patches(shape: Sequence[int], patch: int) -> int:
    """Patches of an image, or :class:`~spikelfp.errors.ShapeError` unless they fill it."""
    _, height, width = check_shape(shape)
    if patch < 1 or height % patch or width % patch:
        raise ShapeError(f"the side of a patch must divide those of the images, got {patch} for {height}×{width}")
    return (height // patch) * (width // patch)


def check_depth(depth: int) -> int:
    """``depth``, which is at least 1."""
    if depth < 1:
        raise UserError(f"the depth of a transformer must be at least 1 block, got {depth}")
    return depth


@checked_keywords(nn.LIF)
def lif_vit(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    patch: int = 4,
    dim: int = 192,
    depth: int = 2,
    heads: int = 3,
    **neuron: Any,
) -> nn.Sequential:
    """Small Spikformer (Zhou et al. 2023, arXiv:2209.15425): self-attention of spikes, without softmax.

    One convolution makes spikes of ``dim`` features from each patch of ``patch`` × ``patch`` pixels, in place of the
    paper's four; ``x + LIF(conv(x))`` adds the position. ``depth`` blocks ``x + SSA(x)``, ``x + MLP(x)`` with
    ``heads`` heads and ``4 dim`` hidden neurons, which add spikes as in the paper; mean of the tokens; ``Linear,
    LIF``. BatchNorm stands in the attention only (:class:`spikelfp.nn.SpikingSelfAttention`); the other hidden layers
    start as in He et al. 2015 instead. (Digits of 16×16, dim 32, 4 epochs, held-out accuracy at learning rates 2e-3
    and 5e-3: 0.31 and 0.51; with BatchNorm everywhere, its statistics constant, 0.10 and 0.14; one seed.)

    neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer. Takes ``[T, B, *shape]``, sides that
    ``patch`` divides.
    """
    patches(shape, patch)
    position = nn.Sequential(he(nn.Conv2d(dim, dim, 3, padding=1)), nn.LIF(**neuron))
    blocks = [layer for _ in range(check_depth(depth)) for layer in _lif_vit_block(dim, heads, neuron)]
    return nn.Sequential(
        he(nn.Conv2d(shape[0], dim, patch, patch)),
        nn.LIF(**neuron),
        nn.Sum(nn.Identity(), position),
        nn.ToTokens(),
        *blocks,
        nn.MeanToken(),
        nn.Linear(dim, classes),
        nn.LIF(**neuron),
    )


def _lif_vit_block(dim: int, heads: int, neuron: dict[str, Any]) -> list[nn.Layer]:
    attention = nn.SpikingSelfAttention(dim, heads, **neuron)
    dense = nn.Sequential(he(nn.Linear(dim, 4 * dim)), nn.LIF(**neuron), he(nn.Linear(4 * dim, dim)), nn.LIF(**neuron))
    return [nn.Sum(nn.Identity(), attention), nn.Sum(nn.Identity(), dense)]


@models.register("lif-vit", spiking=True, normalizes=True)
def _lif_vit(
    shape: tuple[int, ...],
    classes: int,
    *,
    width: Width = 192,
    depth: Size = 6,
    heads: Size = 3,
    patch: Size = 4,
    **neuron: Any,
) -> nn.Sequential:
    """Spiking Vision Transformer.

    Args:
        depth: blocks of a transformer.
        heads: of the attention.
        patch: side of a patch that becomes a token.
    """
    return lif_vit(shape, classes, dim=width, depth=depth, heads=heads, patch=patch, **neuron)
