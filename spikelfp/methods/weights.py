"""Means over the steps that count: of each sample's own, then over the samples."""

from __future__ import annotations

import torch
from torch import Tensor


def step_weights(mask: Tensor, steps: Tensor | int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """What each step of ``[T, B]`` weighs in such a mean: ``mask[t, b] / (steps[b] · B)``, of ``dtype``.

    mask: boolean ``[T, B]``, the steps that count. steps: ``[B]`` (or one number), how many of them the whole sequences
    have of which these steps are a part; by default they are the whole. The weights of all parts add up to 1.
    """
    own = mask.sum(0) if steps is None else steps
    return mask.to(dtype) / (own * mask.shape[1])


def mean_over_steps(values: Tensor, mask: Tensor | None = None, steps: Tensor | int | None = None) -> Tensor:
    """The mean of ``values`` ``[T, B, …]`` over a sample's own steps, then over the samples, as a scalar.

    With ``steps`` it is the share of these steps in the mean over the whole sequences: those of all parts add up to it.
    Without a mask all steps count.
    """
    if mask is not None:
        return (values.flatten(2).mean(-1) * step_weights(mask, steps, values.dtype)).sum()
    mean = values.mean()
    return mean if steps is None else mean * (len(values) / steps)
