r"""Convergence factors ``ρ(f(x))`` of LFP v3, eq. 13: how much is left of a reward once the outputs are right.

Each maps outputs ``o`` ``[…, B, C]`` and ``wanted`` (boolean, of the same shape: where the global reward is
positive, so that there should be more of the output) to factors in [0, 1]::

    none           1                                                    Table 2, rows 1 and 2
    softmax        1 − SM(o)_c where wanted, else SM(o)_c               Table 2, row 3
    sigmoid        1 − σ(o_c) where wanted, else σ(o_c)                 Table 2, row 4
    spike-count    1 − σ(n_c − T/2) where wanted, else σ(n_c − T/2)     A.4, with n_c = Σ_t o_c[t]

In the table "wanted" reads ``y_c = 1``; there the two are the same. With a mask ``[T, B]`` of the steps that count,
``T`` is their number, of each sample; outputs are 0 at the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.mask import counted

Convergence = Callable[[Tensor, Tensor], Tensor]


def none(outputs: Tensor, wanted: Tensor) -> Tensor:
    """1: the reward never fades, and training needs another way to end (v3, footnote 5)."""
    return torch.ones_like(outputs)


def softmax(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Row 3 of Table 2: the softmax over the outputs of a step."""
    share = outputs.softmax(-1)
    return (1 - share).where(wanted, share)


def sigmoid(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Row 4 of Table 2: the sigmoid of each output."""
    on = outputs.sigmoid()
    return (1 - on).where(wanted, on)


def spike_count(outputs: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """A.4, for spikes ``[…, T, B, C]``: wanted outputs should spike in half the steps, the others be silent in half.

    With a global reward of 1 for the right class and −1 for the others, eq. 13 is then A.4 itself.
    """
    steps: int | Tensor = outputs.shape[-3] if outputs.dim() > 2 else 1
    if mask is not None:
        steps = counted(mask, outputs)
    count = outputs.sum(-3, keepdim=True) if outputs.dim() > 2 else outputs
    on = (count - steps / 2).sigmoid().expand_as(outputs)
    return (1 - on).where(wanted, on)


CONVERGENCES: dict[str, Convergence] = {
    "none": none,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "spike-count": spike_count,
}


def find(convergence: str | Convergence) -> Convergence:
    """The factor of that name, or the function itself; ``UnknownNameError`` for a name that is none of them."""
    if isinstance(convergence, str):
        return CONVERGENCES[check_name("convergence", convergence, CONVERGENCES)]
    return convergence


def factor(convergence: str | Convergence, outputs: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """``ρ(f(x))``; raises :class:`~spikelfp.errors.UserError` for a user's function that leaves [0, 1].

    A user's function may return any shape that broadcasts to the outputs' (one factor for each sample, say).
    mask: of the steps that count; a user's function is told by outputs of 0 alone.
    """
    chosen = find(convergence)
    rho = spike_count(outputs, wanted, mask) if chosen is spike_count else chosen(outputs, wanted)
    if isinstance(convergence, str):
        return rho
    rho = torch.as_tensor(rho, dtype=outputs.dtype, device=outputs.device)
    try:
        rho = rho.expand_as(outputs)
    except RuntimeError:
        raise ShapeError(
            f"the convergence factor has shape {tuple(rho.shape)}, which does not broadcast to the outputs' "
            f"{tuple(outputs.shape)}"
        ) from None
    outside = rho[~((rho >= 0) & (rho <= 1))]
    if len(outside):
        raise UserError(f"a convergence factor lies in [0, 1] (eq. 13), got {float(outside[0])}")
    return rho
