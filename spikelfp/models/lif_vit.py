"""Spiking Vision Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikelfp import nn
from spikelfp.models.base import he
from spikelfp.models.vit import check_depth, patches
from spikelfp.registry import checked_keywords


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
    blocks = [layer for _ in range(check_depth(depth)) for layer in _block(dim, heads, neuron)]
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


def _block(dim: int, heads: int, neuron: dict[str, Any]) -> list[nn.Layer]:
    attention = nn.SpikingSelfAttention(dim, heads, **neuron)
    dense = nn.Sequential(he(nn.Linear(dim, 4 * dim)), nn.LIF(**neuron), he(nn.Linear(4 * dim, dim)), nn.LIF(**neuron))
    return [nn.Sum(nn.Identity(), attention), nn.Sum(nn.Identity(), dense)]
