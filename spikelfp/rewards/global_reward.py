"""Rewards of what was chosen, made initial rewards by how close the outputs have come: LFP v3, eq. 12-13."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import NonFiniteError, ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.base import Reward, counted, prediction

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


def initial_reward(
    outputs: Tensor,
    global_reward: Tensor,
    convergence: str | Convergence | None = "none",
    magnitude: bool | None = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""``r_c = sign(o_c) · ρ(f(x)) · R_c`` with ``sign(0) = 1`` (v3, eq. 13; eq. 12 for ``convergence="none"``).

    outputs: ``[…, B, C]``, one neuron for each outcome; global_reward: ``R_c`` of any shape that broadcasts to it.
    With a single neuron (``C = 1``), whose sign decides between two outcomes, ``R`` belongs to the outcome that was
    chosen and ``r = ρ · R`` (section 3.2): the activation behind that outcome is ``|o|``, of which ``ρ`` is taken.
    convergence: ``none``, ``softmax``, ``sigmoid``, ``spike-count`` (:mod:`spikelfp.rewards.global_reward`) or a
    function ``(outputs, wanted) → factors in [0, 1]``, where ``wanted`` is ``R_c > 0``.
    magnitude: multiply ``R_c`` by ``|o_c|``, as rows 3 and 4 of Table 2 do (rows 1 and 2 do not). The message that
    starts at a linear output is then ``ρ R_c``, without it ``ρ R_c / |o_c|``, which grows without bound near 0.

    ``None`` for either chooses by the outputs: ``spike-count`` without magnitude for spikes (all 0 or 1; ``sign`` is
    always 1 there, and a reward reaches a neuron that stayed silent too), ``softmax`` with magnitude for real values.

    mask: boolean ``[T, B]``, the steps of outputs ``[…, T, B, C]`` that count, outputs being 0 at the others: ``T`` of
    ``spike-count`` is then their number.

    Returns ``r`` of the outputs' shape and dtype. Raises :class:`~spikelfp.errors.ShapeError` for an ``R`` that does
    not broadcast, :class:`~spikelfp.errors.NonFiniteError` for one that holds NaN or infinity, and
    :class:`~spikelfp.errors.UserError` for a factor outside [0, 1].
    """
    if convergence is None or magnitude is None:
        spikes = are_spikes(outputs)
        convergence = ("spike-count" if spikes else "softmax") if convergence is None else convergence
        magnitude = not spikes if magnitude is None else magnitude
    if outputs.shape[-1] == 1:
        outputs = outputs.abs()
    reward = global_reward.to(outputs)
    try:
        reward = reward.expand_as(outputs)
    except RuntimeError:
        raise ShapeError(
            f"the global reward has shape {tuple(global_reward.shape)}, which does not broadcast to the outputs' "
            f"{tuple(outputs.shape)}"
        ) from None
    if not torch.isfinite(reward).all():
        raise NonFiniteError("the global reward holds NaN or infinity")
    rho = factor(convergence, outputs, reward > 0, mask)
    return rho * reward * (outputs if magnitude else sign(outputs))


def sign(values: Tensor) -> Tensor:
    """1 for 0 and above, −1 below (v3, section 3.1.2)."""
    return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def are_spikes(outputs: Tensor) -> bool:
    """Whether every output is 0 or 1."""
    return bool(((outputs == 0) | (outputs == 1)).all())


class GlobalReward(Reward):
    """A reward that judges outcomes; eq. 13 turns its verdict into the rewards of the output neurons.

    Subclasses write :meth:`global_reward`; ``convergence`` and ``magnitude`` are those of :func:`initial_reward`.
    """

    def __init__(self, convergence: str | Convergence | None = None, magnitude: bool | None = None) -> None:
        if convergence is not None:
            find(convergence)  # a misspelt name is told here, not in the middle of training
        self.convergence, self.magnitude = convergence, magnitude

    @abstractmethod
    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        """``R_c``, of a shape that broadcasts to the outputs' ``[…, B, C]``."""

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        return initial_reward(outputs, self.global_reward(outputs, target), self.convergence, self.magnitude, mask)


class FromCallback(GlobalReward):
    """Global rewards from a function, made initial rewards by eq. 12-13 of LFP v3.

    callback: ``(outputs, context)`` to global rewards, asked once for every batch. ``outputs`` are ``[…, B, C]``
    without a graph, ``context`` is whatever was handed in as labels (classes, states of an environment, nothing at
    all). It returns, as a tensor, array or list of numbers, either

    * ``[B]``: the reward of the outcome that was chosen (the largest output summed over the steps; the sign of a single
      output); the outcomes that were not chosen get nothing, as in reinforcement learning; or
    * ``[B, C]`` or ``[…, B, C]``: the reward of every outcome.

    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward`; by default chosen by the outputs, so that
    a reward fades as the outcome becomes as likely (or unlikely) as it should be.

    Raises :class:`~spikelfp.errors.ShapeError` for any other shape, and
    :class:`~spikelfp.errors.NonFiniteError` for NaN or infinity.
    """

    def __init__(
        self,
        callback: Callable[[Tensor, Any], Any],
        *,
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        self.callback = callback

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """The context as it is."""
        if outputs.dim() < 2:
            raise ShapeError(f"FromCallback takes outputs [..., B, C], got {tuple(outputs.shape)}")
        return labels

    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        given = torch.as_tensor(self.callback(outputs, target), dtype=outputs.dtype, device=outputs.device)
        batch, classes = outputs.shape[-2:]
        if given.shape == (batch,):
            chosen = torch.nn.functional.one_hot(prediction(outputs), classes)
            return given.unsqueeze(-1) * chosen
        if given.shape in (outputs.shape, outputs.shape[-2:]):
            return given
        raise ShapeError(
            f"the callback should return rewards [{batch}] or [{batch}, {classes}], got shape {tuple(given.shape)}"
        )
