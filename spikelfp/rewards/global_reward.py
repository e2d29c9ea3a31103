"""Global rewards of outcomes, and the initial rewards of output neurons made of them: LFP v3, eq. 12 and 13.

Convergence factors ``ρ(f(x))`` tell how much is left of a reward once the outputs are right. Each takes outputs ``o``
``[…, B, C]`` and ``wanted``, boolean of the same shape: where the global reward is positive. It returns factors in
[0, 1]::

    none           1                                                    Table 2, rows 1 and 2
    softmax        1 − SM(o)_c where wanted, else SM(o)_c               Table 2, row 3
    sigmoid        1 − σ(o_c) where wanted, else σ(o_c)                 Table 2, row 4
    spike-count    1 − σ(n_c − T/2) where wanted, else σ(n_c − T/2)     A.4, with n_c = Σ_t o_c[t]

The table writes ``y_c = 1`` for "wanted", which is equal for classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import NonFiniteError, ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.base import Reward, counted, numbers_of, prediction

Convergence = Callable[[Tensor, Tensor], Tensor]


def none(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Factor 1: the reward never fades, and training needs another way to end (LFP v3, footnote 5)."""
    return torch.ones_like(outputs)


def softmax(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Factor of Table 2, row 3: the softmax over the outputs of a step."""
    share = outputs.softmax(-1)
    return (1 - share).where(wanted, share)


def sigmoid(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Factor of Table 2, row 4: the sigmoid of each output."""
    on = outputs.sigmoid()
    return (1 - on).where(wanted, on)


def spike_count(outputs: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Factor of A.4: wanted outputs should spike in half of the steps, the others be silent in half of them.

    With a global reward of 1 for the right class and −1 for the others, eq. 13 becomes A.4 itself.

    Args:
        outputs: spikes ``[…, T, B, C]``.
        wanted: boolean, of the same shape.
        mask: of the steps that count, boolean ``[T, B]``; ``T`` is then their number for each sample.
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
    """Find a factor by its name; a function is returned as it is.

    Raises:
        UnknownNameError: for a name that is not in :data:`CONVERGENCES`.
    """
    if isinstance(convergence, str):
        return CONVERGENCES[check_name("convergence", convergence, CONVERGENCES)]
    return convergence


def factor(convergence: str | Convergence, outputs: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute ``ρ(f(x))``.

    Args:
        convergence: a name of :data:`CONVERGENCES`, or a function ``(outputs, wanted)`` that returns factors of any
            shape that broadcasts to the outputs', one for each sample for example.
        outputs: ``[…, B, C]``.
        wanted: boolean, of the same shape.
        mask: of the steps that count, for ``spike-count``; a function is given outputs of 0 at the other steps.

    Raises:
        ShapeError: for factors of a function that do not broadcast to the outputs.
        UserError: for factors of a function outside [0, 1].
    """
    chosen = find(convergence)
    rho = spike_count(outputs, wanted, mask) if chosen is spike_count else chosen(outputs, wanted)
    if isinstance(convergence, str):
        return rho
    rho = numbers_of("convergence factors", rho, outputs)
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
    """Make the initial reward of each output neuron from the global reward of its outcome (LFP v3, eq. 13)::

        r_c = sign(o_c) · ρ(f(x)) · R_c          sign(0) = 1

    With ``convergence="none"`` this is eq. 12. A single neuron (``C = 1``) decides by its sign between two outcomes:
    ``R`` belongs to the outcome that was chosen, ``r = ρ · R``, and ``ρ`` is taken of ``|o|`` (v3, section 3.2).

    ``None`` for ``convergence`` or ``magnitude`` chooses by the outputs. For spikes (all outputs 0 or 1) it means
    ``spike-count`` without magnitude: ``sign`` is always 1 there, and a neuron that stayed silent gets its reward too.
    For real values it means ``softmax`` with magnitude.

    Args:
        outputs: ``[…, B, C]``, one neuron for each outcome.
        global_reward: ``R_c``, of any shape that broadcasts to the outputs'.
        convergence: ``none``, ``softmax``, ``sigmoid``, ``spike-count`` (:data:`CONVERGENCES`), or a function
            ``(outputs, wanted) → factors in [0, 1]``, where ``wanted`` is ``R_c > 0``.
        magnitude: multiply ``R_c`` by ``|o_c|``, as rows 3 and 4 of Table 2 do (rows 1 and 2 do not). The message that
            starts at a linear output is then ``ρ R_c``; without it ``ρ R_c / |o_c|``, which grows without bound near 0.
        mask: of the steps that count, boolean ``[T, B]`` for outputs ``[T, B, C]``, which are 0 at the others; ``T`` of
            ``spike-count`` is then the number of these steps.

    Returns:
        ``r``, of the shape and dtype of the outputs.

    Raises:
        ShapeError: for an ``R`` that does not broadcast to the outputs.
        NonFiniteError: for an ``R`` that holds NaN or infinity.
        UserError: for a convergence factor outside [0, 1].
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
    """Compute 1 for 0 and above, −1 below (LFP v3, section 3.1.2)."""
    return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def are_spikes(outputs: Tensor) -> bool:
    """Whether every output is 0 or 1."""
    return bool(((outputs == 0) | (outputs == 1)).all())


class GlobalReward(Reward):
    """Base class of rewards that judge outcomes; eq. 13 makes them rewards of output neurons.

    Subclasses write :meth:`global_reward`.

    Args:
        convergence: factor that ends the reward, as in :func:`initial_reward`; ``None`` chooses by the outputs.
        magnitude: multiply the reward by the magnitude of the output; ``None`` chooses by the outputs.

    Raises:
        UnknownNameError: for a convergence factor that is not known.
    """

    def __init__(self, convergence: str | Convergence | None = None, magnitude: bool | None = None) -> None:
        if convergence is not None:
            find(convergence)  # a misspelt name fails here, not in the middle of training
        self.convergence, self.magnitude = convergence, magnitude

    @abstractmethod
    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        """Compute the global reward ``R_c`` of each outcome.

        Args:
            outputs: ``[…, B, C]``.
            target: of :meth:`~spikelfp.rewards.Reward.target`.

        Returns:
            ``R_c``, of a shape that broadcasts to the outputs'.
        """

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        return initial_reward(outputs, self.global_reward(outputs, target), self.convergence, self.magnitude, mask)


class FromCallback(GlobalReward):
    """Global rewards from a function: a person, a simulator, an environment (LFP v3, eq. 12 and 13).

    The function is asked once for every batch, ``callback(outputs, context)``: outputs are ``[…, B, C]`` without a
    graph, and ``context`` is whatever was passed as labels (classes, states of an environment, nothing at all). It
    returns, as a tensor, an array or a list of numbers, either

    * ``[B]``: the reward of the outcome that was chosen (the largest output summed over the steps; the sign of a single
      output). The other outcomes get nothing, as in reinforcement learning. Or
    * ``[B, C]`` or ``[…, B, C]``: the reward of every outcome.

    Args:
        callback: the function.
        convergence: factor that ends the reward, as in :func:`initial_reward`. ``None`` chooses by the outputs, so that
            a reward fades as its outcome becomes as likely, or as unlikely, as it should be.
        magnitude: multiply the reward by the magnitude of the output; ``None`` chooses by the outputs.

    Raises:
        UserError: for what is no function, and when it returns what are no numbers.
        ShapeError: when the function returns another shape.
        NonFiniteError: when the function returns NaN or infinity.
    """

    def __init__(
        self,
        callback: Callable[[Tensor, Any], Any],
        *,
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        if not callable(callback):
            raise UserError(f"FromCallback takes a function (outputs, context), got {callback!r:.80}")
        self.callback = callback

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """Return the context as it is."""
        if outputs.dim() < 2:
            raise ShapeError(f"FromCallback takes outputs [..., B, C], got {tuple(outputs.shape)}")
        return labels

    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        given = numbers_of("the rewards that a callback returns", self.callback(outputs, target), outputs)
        batch, classes = outputs.shape[-2:]
        if given.shape == (batch,):
            chosen = torch.nn.functional.one_hot(prediction(outputs), classes)
            return given.unsqueeze(-1) * chosen
        if given.shape in (outputs.shape, outputs.shape[-2:]):
            return given
        raise ShapeError(
            f"the callback should return rewards [{batch}] or [{batch}, {classes}], got shape {tuple(given.shape)}"
        )
