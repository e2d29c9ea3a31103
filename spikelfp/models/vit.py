"""Vision Transformers, with activations and with LIF neurons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.models.ann import Activation, maker
from spikelfp.models.base import Size, Width, check_classes, check_shape, he, is_count, models
from spikelfp.nn.attention import check_dim
from spikelfp.options import option
from spikelfp.registry import check_name, checked_keywords
from spikelfp.terminal import brief

HEAD_WIDTH = 512
"""Hidden neurons of the classifier that reads all tokens, those of the F³ paper's code."""


Tokens = Annotated[
    Literal["class", "all", "mean"],
    option("what the classifier of a transformer reads: its class token, all tokens, or the mean of all"),
]
Positions = Annotated[bool, option("learned positions of the tokens")]
HeadWidth = Annotated[
    int | None,
    option(
        "hidden neurons of the classifier that reads all tokens",
        within="[1, ∞)",
        automatic=f"{HEAD_WIDTH} with --tokens all",
    ),
]
Embedding = Annotated[
    Literal["patches", "image"], option("what a token of a transformer is made of: its patch, or the whole image")
]
HeadDim = Annotated[
    int | None,
    option("features of a token in each head of a transformer", within="[1, ∞)", automatic="--width over --heads"),
]


@checked_keywords()
def vit(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    patch: int = 4,
    dim: int = 192,
    depth: int = 6,
    heads: int = 3,
    activation: Activation = "gelu",
    tokens: Tokens = "class",
    positions: bool = True,
    head_width: int | None = None,
    head_dim: int | None = None,
    embedding: Embedding = "patches",
) -> nn.Sequential:
    """Make a Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), pre-norm, with a class token and GELU.

    Patches of ``patch`` × ``patch`` pixels become tokens of ``dim`` features, with learned positions; ``depth`` blocks
    ``x + attention(LN(x))``, ``x + MLP(LN(x))`` with ``heads`` heads and ``4 dim`` hidden neurons; LayerNorm, and a
    dense layer on the class token. It takes ``[T, B, *shape]`` and returns real values ``[T, B, classes]``.

    The simplified one of the F³ paper (Flügel et al. 2024, section 4.4) has no class token, no positions and no last
    LayerNorm, and an MLP that reads all tokens. Each of its transformer blocks is one :class:`spikelfp.nn.Block`, as it
    is with the mean of the tokens. For MNIST its authors' code has 16 tokens of 32 features, each of which is made of
    the whole image, and heads of 64 features::

        vit(
            (1, 28, 28), patch=7, dim=32, depth=4, heads=8, head_dim=64, activation="tanh", tokens="all",
            positions=False, embedding="image",
        )

    Args:
        shape: ``(channels, height, width)`` of the images; ``patch`` divides the sides.
        classes: number of outputs.
        patch: side of a patch that becomes a token, in pixels.
        dim: features of a token.
        depth: blocks.
        heads: heads of the attention; without ``head_dim`` a divisor of ``dim``.
        activation: name of :data:`.activations`, or a function without arguments that makes the layer.
        tokens: what the classifier reads: ``class``, the token that was put before the others; ``mean``, the mean of
            all; ``all`` in a row, through a hidden layer.
        positions: whether to add a learned vector to each token.
        head_width: hidden neurons of the classifier that reads all tokens; ``None`` for 512.
        head_dim: features of a token in each head; ``None`` for ``dim / heads``.
        embedding: what a token is made of: ``patches``, its patch by weights that all share; ``image``, the whole image
            by one dense layer. There are as many tokens as patches.

    Raises:
        ShapeError: for a shape that is no image, or whose sides ``patch`` does not divide.
        UnknownNameError: for an activation or a choice of tokens that is not known.
        UserError: for classes, a depth and sizes that are no whole numbers of at least 1, a ``head_width`` without a
            hidden layer, ``positions`` other than true and false, and an activation that makes no layer.
    """
    check_name("tokens", tokens, get_args(get_args(Tokens)[0]))
    check_name("embedding", embedding, get_args(get_args(Embedding)[0]))
    if head_width is not None and (not is_count(head_width) or tokens != "all"):
        raise UserError(
            "the hidden layer of the classifier has a whole number of neurons, 1 neuron or more, and stands there with "
            f"tokens=all only, got head_width={brief(head_width)} and tokens={tokens}"
        )
    checks.truth("positions", positions)
    shape, phi = check_shape(shape), maker(activation)
    count, classes, dim = patches(shape, patch), check_classes(classes), check_dim(dim)
    with_class = tokens == "class"
    # Before the rest, as old seeds have it.
    parts = [_block(dim, heads, head_dim, phi) for _ in range(check_depth(depth))]
    layers: list[nn.Layer] = [nn.Conv2d(shape[0], dim, patch, patch), nn.ToTokens()]
    if embedding == "image":
        layers = [nn.Flatten(), nn.Linear(math.prod(shape), count * dim), nn.ToTokens(count)]
    layers += [nn.ClassToken(dim)] if with_class else []
    layers += [nn.PositionEmbedding(count + with_class, dim)] if positions else []
    if embedding == "image" and not (with_class or positions):  # they learn with the first block
        parts[0], layers = layers + parts[0], []
    for part in parts:
        layers += part if with_class else [nn.Block(*part)]
    if tokens == "all":
        hidden = HEAD_WIDTH if head_width is None else head_width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(count * dim, hidden), phi(), nn.Linear(hidden, classes))
    reader = nn.FirstToken() if with_class else nn.MeanToken()
    return nn.Sequential(*layers, nn.LayerNorm(dim), reader, nn.Linear(dim, classes))


@models.register("vit", spiking=False, normalizes=True)
def _vit(
    shape: tuple[int, ...],
    classes: int,
    *,
    width: Width = 192,
    depth: Size = 6,
    heads: Size = 3,
    patch: Size = 4,
    activation: Activation = "gelu",
    tokens: Tokens = "class",
    positions: Positions = True,
    head_width: HeadWidth = None,
    head_dim: HeadDim = None,
    embedding: Embedding = "patches",
) -> nn.Sequential:
    """Vision Transformer.

    Args:
        depth: blocks of a transformer.
        heads: of the attention.
        patch: side of a patch that becomes a token.
    """
    return vit(
        shape,
        classes,
        dim=width,
        depth=depth,
        heads=heads,
        patch=patch,
        activation=activation,
        tokens=tokens,
        positions=positions,
        head_width=head_width,
        head_dim=head_dim,
        embedding=embedding,
    )


def _block(dim: int, heads: int, head_dim: int | None, phi: Callable[[], nn.Layer]) -> list[nn.Layer]:
    attention = nn.Sequential(nn.LayerNorm(dim), nn.SelfAttention(dim, heads, head_dim=head_dim))
    dense = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), phi(), nn.Linear(4 * dim, dim))
    return [nn.Sum(nn.Identity(), attention), nn.Sum(nn.Identity(), dense)]


def patches(shape: Sequence[int], patch: int) -> int:
    """Count the patches of an image.

    Args:
        shape: ``(channels, height, width)`` of the image.
        patch: side of a patch.

    Raises:
        ShapeError: if they do not fill it.
    """
    _, height, width = check_shape(shape)
    if not is_count(patch) or height % patch or width % patch:
        raise ShapeError(
            f"the side of a patch must be a whole number that divides those of the images, got {brief(patch)} for "
            f"{height}×{width}"
        )
    return (height // patch) * (width // patch)


def check_depth(depth: int) -> int:
    """Return ``depth``, a whole number of at least 1.

    Raises:
        UserError: if it is none.
    """
    return checks.count("the depth of a transformer", depth)


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
        UserError: for classes, a depth and sizes that are no whole numbers of at least 1.
    """
    shape = check_shape(shape)
    patches(shape, patch)
    classes, dim = check_classes(classes), check_dim(dim)
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
