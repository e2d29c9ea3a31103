"""Task of real values for each sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from spikelfp.errors import ShapeError, UserError
from spikelfp.options import one_of, option
from spikelfp.registry import check_name
from spikelfp.rewards import Reward, SpikeRate
from spikelfp.scalars import as_number
from spikelfp.tasks.base import READ, ReadOut, Readout, TaskReward, check_outputs, tasks

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale

LOSSES = ("mse", "mae", "huber")


@tasks.register("regression")
class Regression(ReadOut):
    """Task of real values ``y`` ``[B, K]`` by the reading ``ŷ`` of ``K`` outputs of :class:`~spikelfp.nn.LI`.

    Scores, over ``N`` samples and ``K`` outputs::

        RMSE = √(Σ (y − ŷ)² / (N K))        MAE = Σ |y − ŷ| / (N K)        R² = 1 − Σ_n (y − ŷ)² / Σ_n (y − ȳ)²

    R² is the mean over the outputs, as in scikit-learn; targets that are all equal have none, and it is left out. Data
    that know the scale of their targets (:class:`~spikelfp.data.TargetScale`) have RMSE and MAE in their own units. The
    loss is that of the targets as they are given.

    Args:
        readout: ``mean`` over the steps that count, the ``last`` of them, or ``decay``, a mean that forgets.
        loss: a mean over outputs and samples: ``mse``, the squared error; ``mae``, the absolute one; ``huber``, half
            the squared error up to ``delta`` and a straight line beyond.
        delta: δ > 0 of ``huber``, in the units of the targets as they are given.

    Raises:
        UnknownNameError: for another readout or loss.
        UserError: for a δ out of range, or of another loss.
    """

    name = "regression"
    score = "rmse"
    title = "RMSE"
    meaning = "root of the mean squared error"
    kind = "values"
    rises = False
    share = False
    reads_spikes = True
    predicts_reading = True
    delta: float

    def __init__(
        self,
        readout: Readout = "mean",
        loss: Annotated[str, option(names=LOSSES, name="error")] = "mse",
        delta: Annotated[
            float, option("δ, in the units of the targets", within="(0, ∞)", owner=one_of("error", ("huber",)))
        ] = 1.0,
    ) -> None:
        super().__init__(readout)
        self.loss_name = check_name("loss", loss, LOSSES)
        number = as_number(delta)
        if number is None or not 0 < number < math.inf:
            raise UserError(f"the delta of a Huber loss is a finite number above 0, got {delta!r}")
        if delta != 1 and loss != "huber":
            raise UserError(f'delta={delta} belongs to loss="huber", and the loss is {loss}')
        self.delta: float = number

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "loss": self.loss_name}

    def check(
        self,
        targets: Tensor,
        outputs: Tensor,
        whole: Tensor | None = None,
        *,
        of: str = "",
        spikes: bool = False,
        first: int = 0,
    ) -> None:
        check_outputs(self.name, outputs)
        check_values(self.name, targets, outputs.shape[-1])
        known = targets if whole is None else whole
        wrong = (~torch.isfinite(known)).nonzero()
        if len(wrong):
            raise ShapeError(
                f"target {float(known[tuple(wrong[0])])} of sample {first + int(wrong[0, 0])} is not finite"
            )
        if spikes and bool(((known < 0) | (known > 1)).any()):
            raise ShapeError(
                f"the outputs of this network are spikes, whose rates lie in [0, 1], and targets go from "
                f"{float(known.min()):.4g} to {float(known.max()):.4g}: let the network end in nn.LI() "
                '(models.lif_mlp(…, readout="li")), or scale the targets'
            )

    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        check_values(self.name, targets, outputs.shape[-1])
        return targets.to(outputs.dtype).reshape(len(targets), outputs.shape[-1])

    def loss_of(self, reading: Tensor, targets: Tensor) -> Tensor:
        if self.loss_name == "huber":
            return huber_loss(reading, targets, reduction="none", delta=self.delta).mean(-1)
        error = reading - targets
        return (error.square() if self.loss_name == "mse" else error.abs()).mean(-1)

    def decided(self, reading: Tensor) -> Tensor:
        """Return the values ``[B, K]``."""
        return reading

    def sums_of(self, reading: Tensor, targets: Tensor) -> dict[str, Tensor]:
        targets, error = targets.double(), reading.double() - targets.double()
        return {
            "squares": error.square().sum(0),
            "errors": error.abs().sum(0),
            "targets": targets.sum(0),
            "target_squares": targets.square().sum(0),
        }

    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        if not sums:
            return {}
        count = float(sums["samples"])
        squares, errors = sums["squares"].double() / count, sums["errors"].double() / count
        spread = sums["target_squares"].double() / count - (sums["targets"].double() / count).square()
        found = {}
        rounding = 1e-12 * sums["target_squares"].double() / count
        if count > 1 and bool((spread > rounding).all()):
            found["r2"] = float((1 - squares / spread).mean())
        if scale is not None:
            std = squares.new_tensor(scale.std)
            squares, errors = squares * std.square(), errors * std
        return {"rmse": float(squares.mean().sqrt()), "mae": float(errors.mean()), **found}

    @property
    def loss_meaning(self) -> str:
        name = {"mse": "squared", "mae": "absolute", "huber": f"Huber (δ = {self.delta:g})"}[self.loss_name]
        return f"mean {name} error of the {READ[self.reads]}, in the units of training"

    def reward(self, spikes: bool) -> Reward:
        """Make the reward of this loss for real values; :class:`~spikelfp.rewards.SpikeRate` for the rates of spikes.

        Args:
            spikes: whether the outputs of the network are spikes.

        Raises:
            UserError: for spikes with another readout than the mean, or another loss than the squared error.
        """
        if not spikes:
            return TaskReward(self)
        if self.reads != "mean" or self.loss_name != "mse":
            raise UserError(
                f"{self!r} has no reward for outputs that spike, whose rates are read by their mean and rewarded by "
                'the squared error: let the network end in nn.LI() (models.lif_mlp(…, readout="li"))'
            )
        return SpikeRate()


def check_values(name: str, targets: Tensor, count: int) -> None:
    """Check that targets are real values ``[B, K]``.

    Args:
        name: of the task, for the error.
        targets: ``[B, K]``, or ``[B]`` for a single output.
        count: ``K``, number of outputs.

    Raises:
        ShapeError: for other targets.
    """
    if not targets.is_floating_point():
        raise ShapeError(
            f"{name} takes real targets (floats), got {targets.dtype} of shape {list(targets.shape)}: y.float(), or "
            'task="classification" if they are classes'
        )
    if targets.shape[1:] == (count,) or (targets.dim() == 1 and count == 1):
        return
    wanted = targets.shape[-1] if targets.dim() == 2 else 1
    raise ShapeError(
        f"{name} takes targets [B, {count}] for a network with {count} outputs, got shape {list(targets.shape)}: "
        + (f"let the network have {wanted}" if targets.dim() < 3 else "flatten them, y.flatten(1)")
    )
