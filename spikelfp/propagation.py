"""Start a reward at the output of a network and run it back to every parameter."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from spikelfp.errors import NonFiniteError, ShapeError, UserError
from spikelfp.functional.credit import check_range
from spikelfp.functional.frontier import send_back
from spikelfp.suggest import checked_keywords

_NOT_FINITE = "the reward holds NaN or infinity"


@checked_keywords()
def propagate(
    outputs: Tensor | list[Tensor] | tuple[Tensor, ...],
    reward: Tensor | list[Tensor] | tuple[Tensor, ...],
    *,
    eps: float | None = None,
    retain_graph: bool = False,
    weight: float = 1.0,
    default_eps: float | None = None,
) -> None:
    """Add ``−d_w`` (v3, eq. 7) to ``p.grad`` of every parameter behind ``outputs``; summed over batch and time.

    A torch optimiser's step, which descends ``p.grad``, then ascends the reward. Calls accumulate, as ``backward``
    does. This call alone starts a reward: ``loss.backward()`` on layers under an LFP rule is refused.

    Outputs may be sliced, indexed, stacked, concatenated, permuted, summed over time, masked or multiplied with
    constants before they are rewarded: all of this is linear, and each output neuron gets the reward that is its own,
    spike or no spike (:mod:`spikelfp.functional.frontier`). A sum of spikes, ``spikes.sum(0)``, hands its reward to
    every step. A linear output starts with ``m_c = r_c / (o_c + sign(o_c) ε)``.

    Normalisation layers send rewards back by eq. 8-10 with constant mean and variance (the paper's rule, and the
    default of ``rules.Epsilon()``, which layers follow here); ``methods.LFP`` and the command line let messages pass
    through mean and variance instead (``constant_statistics=False``), which deep networks learn better from.

    Args:
        outputs: what the network returned, ``[T, B, C]`` or any shape; or several of them (the chunks of a long
            sequence, the heads of a network), with as many rewards, in one pass.
        reward: ``r_c`` for each element of the outputs, of their shape.
        eps: ε of the first division of linear outputs; ``None``: that of the rule of the last layer.
        retain_graph: keep the graph for another call.
        weight: what each sample counts, multiplied with its reward; 1 over the size of the batch makes a mean of the
            sum. A rule that normalises rewards divides by their largest magnitude first.
        default_eps: ε for ``eps=None`` where the last layer does not tell its own, as behind ``torch.compile``; 1e-6.

    Raises:
        UserError: for outputs without a graph, or made of neurons and linear layers at once; for parameters that follow
            no rule and functions for which there is none, by name.
        ShapeError: for a reward of another shape.
        NonFiniteError: for a reward that holds NaN or infinity, and for updates that do. On CUDA nothing waits for
            either: there a reward with NaN or infinity fails an assertion on the device, which torch reports later.
    """
    weights = send_rewards(outputs, reward, eps, default_eps, weight, retain_graph)
    _check_updates(weights)


def send_rewards(
    outputs: Tensor | list[Tensor] | tuple[Tensor, ...],
    reward: Tensor | list[Tensor] | tuple[Tensor, ...],
    eps: float | None = None,
    default_eps: float | None = None,
    weight: float = 1.0,
    retain_graph: bool = False,
) -> list[Tensor]:
    """Do what :func:`propagate` does, for callers that look at the updates themselves.

    Returns:
        The parameters behind the outputs.
    """
    check_start(eps, default_eps, weight)
    roots = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    rewards = list(reward) if isinstance(reward, (list, tuple)) else [reward]
    if len(roots) != len(rewards):
        raise ShapeError(f"{len(roots)} outputs need as many rewards, got {len(rewards)}")
    if not roots:
        raise UserError("propagate was given no outputs: hand it what the network returned, and its reward")
    given = [_checked(root, own) for root, own in zip(roots, rewards, strict=True)]
    if weight != 1:
        given = [own * weight for own in given]
    return send_back(roots, given, eps=eps, default_eps=default_eps, weight=weight, retain_graph=retain_graph)


def _check_updates(weights: list[Tensor]) -> None:
    """Raise :class:`~spikelfp.errors.NonFiniteError` where ``p.grad`` is not finite; CUDA is not waited for.

    Spikes do not show it: a membrane that is NaN does not fire.
    """
    updates = [p.grad for p in weights if p.grad is not None and not p.is_cuda]
    if not updates or torch.isfinite(torch.stack(torch._foreach_norm(updates))).all():
        return
    wrong = next((grad for grad in updates if not torch.isfinite(grad).all()), None)
    if wrong is not None:
        raise NonFiniteError(
            f"the update of a parameter of shape {tuple(wrong.shape)} holds NaN or infinity: look for them in the "
            "inputs, the states and the weights (torch.isfinite), or make rewards and learning rate smaller; "
            "optimizer.zero_grad() before the next try"
        )


def check_start(eps: float | None, default_eps: float | None, weight: float) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for an ε or a weight that is no finite number of at least 0."""
    for name, value in (("eps", eps), ("default_eps", default_eps), ("weight", weight)):
        if value is None or isinstance(value, Tensor):  # a weight may be on a device, where nothing waits for it
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
            raise UserError(f"{name} must be a finite number, 0 or more, got {value!r}")


def _checked(outputs: Tensor, reward: Tensor) -> Tensor:
    """The reward as the outputs have their numbers."""
    for what, given in (("outputs", outputs), ("reward", reward)):
        if not isinstance(given, Tensor):
            raise UserError(
                "propagate takes tensors: propagate(outputs, reward), where reward is "
                f"rewards.SpikeSequence()(outputs, labels) or the like; the {what} given are {type(given).__name__}"
            )
    if outputs.grad_fn is None:
        raise UserError(
            "the outputs carry no graph to propagate through: run the network outside torch.no_grad() "
            "and with parameters that require grad"
        )
    check_range(outputs)
    if reward.shape != outputs.shape:
        raise ShapeError(f"reward has shape {tuple(reward.shape)}, the outputs {tuple(outputs.shape)}")
    if reward.is_complex() or reward.layout is not torch.strided or reward.device != outputs.device:
        raise UserError(
            f"a reward is dense and real, on the device of the outputs ({outputs.device}), got {reward.dtype}, "
            f"{str(reward.layout).removeprefix('torch.')}, on {reward.device}"
        )
    reward = reward.detach().to(outputs.dtype)
    finite = torch.isfinite(reward).all()
    if finite.is_cuda:
        torch._assert_async(finite, _NOT_FINITE)
    elif not finite:
        raise NonFiniteError(_NOT_FINITE)
    return reward
