"""Vision Transformers."""

from __future__ import annotations

from collections.abc import Sequence

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.models.base import check_shape
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
