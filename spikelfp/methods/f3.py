"""Feed-Forward with delayed Feedback (F³): hidden blocks learn from the error of the epoch before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from torch import Tensor

from spikelfp import checks
from spikelfp.errors import UserError
from spikelfp.methods.base import Batch, Reduction, methods
from spikelfp.methods.error_table import MEMORIES, ErrorTable
from spikelfp.methods.feedback import FEEDBACK_AS, BlockMethod, Feedback
from spikelfp.methods.gradient import GradientDescent, Loss
from spikelfp.options import NOT_AN_OPTION, one_of, option, other_than
from spikelfp.registry import check_name
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Rule
from spikelfp.tasks import Task

if TYPE_CHECKING:
    from spikelfp.training.parallel import World

INFORMATION = ("error", "loss")
"""Error information that is kept of a sample."""

_AVERAGED = other_than("error_memory", "sample", "--error-memory class or hash")
_RATE, _BUCKETS = 0.1, 65536


@methods.register("f3")
class F3(BlockMethod):
    """Feed-Forward with delayed Feedback (Flügel et al. 2024, ICONIP; Algorithm 1), with and without spikes::

        δh_i = B_iᵀ e^{t−1},    e^{t} = y* − ŷ of epoch t,    e⁰ = y*        (eq. 1)

    A block learns as soon as it has run, from the error that the same sample had in the epoch before, and its
    activations are freed at once. The errors are kept for every sample, by its number in the original data set
    (:mod:`spikelfp.methods.error_table`). The first epoch is that of :class:`~spikelfp.methods.DRTP`.

    The sign of ``e`` is that of the paper. As a gradient it points uphill for the output, which the last layer makes up
    for; feedback weights that are all positive (``binomial``) are then less useful than symmetric ones.

    Args:
        error_information: ``error``: ``y* − ŷ``, or the mean reward of outputs that spike; ``loss``: the negative
            slope of the loss of one sample, ``−∂L/∂ŷ``.
        one_hot: whether only the entry of the right class is kept (F³-OneHot).
        softmax: whether ``ŷ`` goes through a softmax before the error is computed (F³-Softmax).
        error_memory: whether errors are kept by ``sample``, or as averages by ``class`` or by a ``hash`` of the inputs.
        error_rate: weight of a new error in these averages.
        error_buckets: number of averages by hash.
        credit: way in which credit runs inside a block (:class:`~spikelfp.methods.feedback.BlockMethod`).
        feedback_init: name in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
        feedback_as: ``reward`` or ``message``, for the credit ``scan`` and ``step``.
        reward: of the outputs, for ``scan`` and ``step``; ``None``: that of the task.
        loss: of the outputs, for ``gradient`` and ``surrogate``; ``None``: that of the task.
        rule: of the layers; ``None``: the one that fits ``credit``.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.

    Raises:
        UserError: for an unknown name and a number out of range; in training, for samples without a number, and for
            targets that have no right class where one is asked for.
    """

    words = "delayed feedback (F³)"

    def __init__(
        self,
        *,
        error_information: Annotated[
            str, option("error of a sample: target less output, or the slope of its loss", names=INFORMATION)
        ] = "error",
        one_hot: Annotated[bool, option("keep the error of the right class only")] = False,
        softmax: Annotated[bool, option("outputs go through a softmax before the error is computed")] = False,
        error_memory: Annotated[
            str, option("errors of every sample, or averages by class or by a hash of the inputs", names=MEMORIES)
        ] = "sample",
        error_rate: Annotated[
            float, option("weight of a new error in an average", within="(0, 1]", owner=_AVERAGED)
        ] = _RATE,
        error_buckets: Annotated[
            int, option("averages by hash", within="[1, ∞)", owner=one_of("error_memory", ["hash"]))
        ] = _BUCKETS,
        credit: Annotated[str | None, NOT_AN_OPTION] = None,
        feedback_init: Feedback = "kaiming",
        feedback_as: Annotated[
            str, option("form of the feedback under LFP: of every neuron, or per spike", names=FEEDBACK_AS)
        ] = "reward",
        reward: Reward | None = None,
        loss: Loss | None = None,
        rule: Rule | Composite | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            credit=credit, feedback_init=feedback_init, feedback_as=feedback_as, reward=reward, loss=loss, rule=rule,
            reduction=reduction,
        )  # fmt: skip
        for name, value in (("one_hot", one_hot), ("softmax", softmax)):
            checks.truth(name, value)
        if error_memory == "sample" and error_rate != _RATE:
            raise UserError(
                f"error_rate={error_rate!r} weighs a new error in an average, and the errors of every sample are kept: "
                'leave it out, or say error_memory="class" or "hash"'
            )
        if error_memory in ("sample", "class") and error_buckets != _BUCKETS:
            raise UserError(f'error_buckets={error_buckets!r} is of error_memory="hash": leave it out, or say that')
        self.error_information = check_name("error information", error_information, INFORMATION)
        self.one_hot, self.softmax = one_hot, softmax
        self.error_memory, self.error_rate, self.error_buckets = error_memory, error_rate, error_buckets
        self.table = ErrorTable(error_memory, error_rate, error_buckets)

    def suit(self, net: torch.nn.Module, task: Task) -> None:
        super().suit(net, task)
        if (self.one_hot or self.softmax) and not task.has_classes:
            raise UserError(f"{'one_hot' if self.one_hot else 'softmax'} is for classes, and the task is {task.name}")
        if self.softmax and self.loss is not None:
            raise UserError(
                "softmax=True changes the prediction ŷ of a loss of the task, and a loss of your own does not tell "
                "what its ŷ is: leave one of them out"
            )

    def error_before(self, batch: Batch, like: Tensor) -> Tensor:
        expected = self.expected(batch, like)
        if batch.share == 0:  # samples that stand for none
            return expected
        return self.table.of(batch, expected)

    def error_of(self, outputs: Tensor, batch: Batch) -> None:
        if batch.share == 0:
            return
        expected = self.expected(batch, outputs)
        error = self._information(outputs, batch, expected)
        self.table.keep(batch, error * expected if self.one_hot else error, expected)

    def _information(self, outputs: Tensor, batch: Batch, expected: Tensor) -> Tensor:
        """Compute the error information ``[B, C]`` of the outputs."""
        task = cast(Task, self._task)
        counts_spikes = not self.gradient and getattr(self.reward, "suits", None) == "spikes"
        if self.loss is not None and self.error_information == "loss":
            return self._slope_of_loss(outputs, batch)
        if self.error_information == "error" and not self.softmax:
            return self.error_now(outputs, batch)
        if counts_spikes:
            predicted = outputs if batch.mask is None else outputs * batch.mask.unsqueeze(-1)
            predicted = predicted.sum(0)
        else:
            predicted = task.predicted(outputs, batch.mask)
        if self.softmax:
            predicted = predicted.softmax(-1)
        elif counts_spikes:
            predicted = task.predicted(outputs, batch.mask)
        error = expected - predicted if self.error_information == "error" else task.slope(predicted, expected)
        return self.share_of(error, batch)

    def _slope_of_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return ``−∂L/∂o`` of a loss of the user's, summed over the steps that count, of each sample."""
        last = cast(GradientDescent, self._last)
        with torch.enable_grad():
            free = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(last.loss_of(free, batch.targets, batch.mask, batch.steps), free)
        return -slope.sum(0) * max(len(batch.targets), 1)

    def begin_training(self, samples: str, drawn: bool) -> None:
        self.table.begin_training(samples, drawn)

    def begin_update(self) -> None:
        self.table.forget()

    def end_update(self, world: World) -> None:
        self.table.write(world)

    def state_dict(self) -> dict[str, Any]:
        """Copy the feedback weights and the table of errors."""
        return {**super().state_dict(), "table": self.table.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        table = state.get("table")
        if not isinstance(table, Mapping):
            raise UserError("the table of errors is missing")
        kept = ErrorTable(self.error_memory, self.error_rate, self.error_buckets)
        device = next((p.device for p in cast(torch.nn.Module, self._net).parameters()), None)
        kept.load_state_dict(table, device)
        super().load_state_dict(state)
        self.table = kept
