"""Encodings of static images ``[B, …]`` as sequences ``[T, B, …]``, time first, by snntorch's encoders.

Every encoder of :data:`encodings` is called as ``encode(images, steps)``, takes floating-point images and keeps their
device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from snntorch import spikegen
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import check_images
from spikelfp.functional.sequence import direct_current as constant
from spikelfp.registry import Registry

Encoder = Callable[..., Tensor]

encodings: Registry[Encoder] = Registry("encoding")
"""Encoders ``encode(images [B, ...], steps) -> [T, B, ...]``, some with further keyword settings."""


def encode(name: str, images: Tensor, steps: int, **settings: Any) -> Tensor:
    """Encode images as sequences by an encoding's name.

    Args:
        name: of the encoding, in :data:`encodings`.
        images: floating point ``[B, …]``.
        steps: ``T``, at least 1.
        settings: those of the encoding.

    Returns:
        ``[T, B, …]``.

    Raises:
        UnknownNameError: for an unknown encoding.
        UserError: for ``steps`` below 1 or a setting out of range.
        ShapeError: for images that the encoding cannot take (NaN, outside [0, 1], not floating point).
    """
    return encodings[name](images, steps, **settings)


encodings.register("constant")(constant)


@encodings.register("rate")
def rate(images: Tensor, steps: int) -> Tensor:
    """Encode brightness as a rate: an independent Bernoulli draw ``P(x[t] = 1) = image`` at every step.

    The draws come from torch's global generator of the images' device: ``torch.manual_seed`` makes them repeatable.
    This is :func:`snntorch.spikegen.rate`.

    Args:
        images: floating point ``[B, …]`` in [0, 1].
        steps: ``T``, at least 1.

    Returns:
        float32 ``[T, B, …]`` of 0 and 1.

    Raises:
        UserError: for ``steps`` below 1.
        ShapeError: for images outside [0, 1], with NaN, or not floating point.
    """
    check_images(images, steps, unit_range=True)
    return spikegen.rate(images.to(torch.float32), num_steps=int(steps))


@encodings.register("latency")
def latency(images: Tensor, steps: int, *, threshold: float = 0.01) -> Tensor:
    """Encode brightness as the time of a spike: each pixel spikes once, the brighter the earlier, or never.

    A pixel ``v`` in ``[threshold, 1]`` spikes at step ``round((1 − v) (T − 1))`` (halves to the even step): 1 at step
    0, and the darkest near step ``T − 1``. Pixels below ``threshold`` never spike; these are all pixels of value 0 and,
    by default, the 8-bit values 1 and 2. The code of an image does not depend on the others of its batch (snntorch's
    logarithmic code, when normalised, does). This is :func:`snntorch.spikegen.latency` with ``normalize``, ``linear``
    and ``clip``.

    Args:
        images: floating point ``[B, …]`` in [0, 1].
        steps: ``T``, at least 1.
        threshold: of the brightness, between 0 and 1, exclusive.

    Returns:
        float32 ``[T, B, …]`` of 0 and 1.

    Raises:
        UserError: for ``steps`` below 1, or a threshold out of range.
        ShapeError: for images outside [0, 1], with NaN, or not floating point.
    """
    if not 0 < threshold < 1:
        raise UserError(f"the latency threshold must lie between 0 and 1, got {threshold}")
    check_images(images, steps, unit_range=True)
    if images.numel() == 0:  # snntorch takes the extrema of the batch, which an empty one lacks
        return images.new_zeros((steps, *images.shape), dtype=torch.float32)
    values = images.to(torch.float32)
    return spikegen.latency(values, num_steps=int(steps), threshold=threshold, normalize=True, linear=True, clip=True)


@encodings.register("delta")
def delta(images: Tensor, steps: int, *, threshold: float = 0.1, off_spike: bool = False) -> Tensor:
    """Encode the onset of static images: :func:`delta_series` of their constant sequence, preceded by rest.

    Pixels of at least ``threshold`` spike at step 0, when the image appears; a still image causes no spike after that.

    Args:
        images: floating point ``[B, …]``.
        steps: ``T``, at least 1.
        threshold: of the brightness, above 0.
        off_spike: give −1 at step 0 for pixels of at most ``−threshold``.

    Returns:
        float32 ``[T, B, …]``.

    Raises:
        UserError: for ``steps`` below 1, or a threshold that is not positive.
        ShapeError: for images that are not finite or not floating point.
    """
    return delta_series(constant(images, steps), threshold=threshold, off_spike=off_spike)


def delta_series(series: Tensor, *, threshold: float = 0.1, off_spike: bool = False) -> Tensor:
    """Detect the changes of a time series, as an event camera does.

    With ``d[t] = series[t] − series[t−1]`` and ``series[−1] = 0``: +1 where ``d ≥ threshold`` and, with ``off_spike``,
    −1 where ``d ≤ −threshold``; else 0. This is :func:`snntorch.spikegen.delta`.

    Args:
        series: floating point ``[T, B, …]``.
        threshold: of a change, above 0.
        off_spike: mark falls too.

    Returns:
        float32 ``[T, B, …]``.

    Raises:
        UserError: for a threshold that is not positive: every pixel at rest would spike.
        ShapeError: for a series of no steps, or one that is not finite or not floating point.
    """
    if not threshold > 0:
        raise UserError(f"the delta threshold must be positive, got {threshold}")
    if not isinstance(series, Tensor):
        raise ShapeError(f"a time series is a tensor [T, B, …], got {type(series).__name__}: torch.as_tensor(series)")
    if series.ndim == 0 or len(series) == 0:
        raise ShapeError(f"a time series needs at least one step, got shape {list(series.shape)}")
    check_images(series, len(series))
    return spikegen.delta(series.to(torch.float32), threshold=threshold, off_spike=off_spike)
