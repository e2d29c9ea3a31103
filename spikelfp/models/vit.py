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
    """Make a Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), pre-norm, with a class token and GELU.

    Patches of ``patch`` × ``patch`` pixels become tokens of ``dim`` features, with learned positions; ``depth`` blocks
    ``x + attention(LN(x))``, ``x + MLP(LN(x))`` with ``heads`` heads and ``4 dim`` hidden neurons; LayerNorm, and a
    dense layer on the class token. It takes ``[T, B, *shape]`` and returns real values ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images; ``patch`` divides the sides.
        classes: number of outputs.
        patch: side of a patch that becomes a token, in pixels.
        dim: features of a token.
        depth: blocks.
        heads: heads of the attention.

    Raises:
        ShapeError: for a shape that is no image, or whose sides ``patch`` does not divide.
        UserError: for a depth below 1.
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
    """Count the patches of an image.

    Raises:
        ShapeError: if they do not fill it.
    """
    _, height, width = check_shape(shape)
    if patch < 1 or height % patch or width % patch:
        raise ShapeError(f"the side of a patch must divide those of the images, got {patch} for {height}×{width}")
    return (height // patch) * (width // patch)


def check_depth(depth: int) -> int:
    """Return ``depth``, which is at least 1.

    Raises:
        UserError: if it is less.
    """
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
    """Make a small Spikformer (Zhou et al. 2023, arXiv:2209.15425): self-attention of spikes, without softmax.

    One convolution makes spikes of ``dim`` features from each patch of ``patch`` × ``patch`` pixels, in place of the
    paper's four; ``x + LIF(conv(x))`` adds the position. ``depth`` blocks ``x + SSA(x)``, ``x + MLP(x)`` with ``heads``
    heads and ``4 dim`` hidden neurons, which add spikes as in the paper; mean of the tokens; ``Linear, LIF``. BatchNorm
    stands in the attention only (:class:`spikelfp.nn.SpikingSelfAttention`); the other hidden layers start as in He et
    al. 2015 instead. (Digits of 16×16, dim 32, 4 epochs, held-out accuracy at learning rates 2e-3 and 5e-3: 0.31 and
    0.51; with BatchNorm everywhere, its statistics constant, 0.10 and 0.14; one seed.) It takes ``[T, B, *shape]`` and
    returns spikes ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images; ``patch`` divides the sides.
        classes: number of outputs.
        patch: side of a patch that becomes a token, in pixels.
        dim: features of a token.
        depth: blocks.
        heads: heads of the attention.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        ShapeError: for a shape that is no image, or whose sides ``patch`` does not divide.
        UserError: for a depth below 1.
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
