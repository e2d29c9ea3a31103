"""Direct feedback alignment: the present error reaches every hidden block through fixed random weights."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from spikelfp.methods.base import Batch, methods
from spikelfp.methods.feedback import BlockMethod
from spikelfp.tasks import Task


@methods.register("dfa")
class DFA(BlockMethod):
    """Direct feedback alignment (Nøkland 2016, arXiv:1609.01596), for networks with and without spikes::

        δh_i = B_iᵀ e,    e = y* − ŷ of this batch

    Hidden blocks wait for the outputs, so their activations are kept until the network has run. The sign is that of
    F³, eq. 1: feedback weights are symmetric about 0, so it does not matter.

    With ``credit="online"`` the error is that of each step: its reward, for outputs that spike, else ``y* − ŷ`` of the
    outputs so far. Hidden blocks wait for the outputs of the step alone.

    Args:
        credit: as for :class:`~spikelfp.methods.feedback.BlockMethod`, like the others.
        feedback_init: name in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
        feedback_as: ``reward`` or ``message``.
        reward: of the outputs.
        loss: of the outputs.
        rule: of the layers.
        reduction: ``mean`` or ``sum``.
    """

    words = "direct feedback alignment"

    def error_of(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.error_now(outputs, batch)

    def error_of_step(self, outputs: Tensor, reward: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        if getattr(self.reward, "suits", None) == "spikes":
            return reward
        task = cast(Task, self._task)
        return task.expected(targets, outputs) - task.predicted(outputs, mask)
