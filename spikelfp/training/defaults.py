"""What a trainer chooses by the network, and the numbers it does not take."""

from __future__ import annotations

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.rewards import Reward, Softmax, SpikeSequence


def default_reward(net: torch.nn.Module) -> Reward:
    """``SpikeSequence`` for a network whose last layer spikes, ``Softmax`` otherwise."""
    return SpikeSequence() if isinstance(nn.leaves(net)[-1], (nn.Neurons, nn.Heaviside)) else Softmax()


def check_numbers(batch_size: int, accumulate: int, clip: float, clip_norm: float) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first of these options of a trainer that is out of range."""
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, got {batch_size}")
    if accumulate < 1:
        raise UserError(f"a batch has at least one part, got accumulate={accumulate}")
    if clip < 0:
        raise UserError(f"the clipping factor must be 0 (none) or more, got {clip}")
    if clip_norm < 0:
        raise UserError(f"the norm to clip to must be 0 (no clipping) or more, got {clip_norm}")
