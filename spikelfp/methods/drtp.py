"""Direct random target projection: the target itself is the feedback of every hidden block."""

from __future__ import annotations

from torch import Tensor

from spikelfp.methods.base import Batch, methods
from spikelfp.methods.feedback import BlockMethod


@methods.register("drtp")
class DRTP(BlockMethod):
    """Direct random target projection (Frenkel et al. 2021, Frontiers in Neuroscience 15), with and without spikes::

        δh_i = B_iᵀ y*

    A block learns as soon as it has run, and its activations are freed at once.

    Args:
        credit: as for :class:`~spikelfp.methods.feedback.BlockMethod`, like the others.
        feedback_init: name in :data:`~spikelfp.methods.feedback_weights.feedback_inits`.
        feedback_as: ``reward`` or ``message``.
        reward: of the outputs.
        loss: of the outputs.
        rule: of the layers.
        reduction: ``mean`` or ``sum``.
    """

    words = "direct random target projection"

    def error_before(self, batch: Batch, like: Tensor) -> Tensor:
        return self.expected(batch, like)

    def error_of(self, outputs: Tensor, batch: Batch) -> None:
        return None
