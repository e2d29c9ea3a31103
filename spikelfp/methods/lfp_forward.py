r"""LFP forward in time (``LFP(credit="online")``): an eligibility of each connection, a reward at each step.

The scan of one layer, ``n[t] = R[t] / D[t]`` with ``R[t] = r[t] + β U[t] n[t+1]`` (:mod:`spikelfp.functional.lif`),
gives the update ``|w| Σ_t n[t] x[t]``. Each reward ``r[s]`` enters ``n[t]`` at all steps ``t ≤ s``. Ordered by ``s``,
the same sum is::

    Σ_t n_j[t] x_i[t] = Σ_s r_j[s] e_ij[s],      e_ij[s] = (x_i[s] + β U_j[s−1] e_ij[s−1]) / D_j[s]

so the eligibility ``e`` and the reward of the step make it forward in time. Other parameters have the same form:

* a bias: ``x = 1``; recurrent connections: ``x_i[s]`` is the spike ``S_i[s−1]``; a β that learns: ``x_j = V_j``;
* synaptic currents ``Y[t] = α Y[t−1] + I[t]``: the trace ``y_i[s] = α y_i[s−1] + x_i[s]`` in the place of ``x``;
* leaky integrators ``U[t] = β U[t−1] + I[t]`` as outputs: ``Σ_t m[t] x̄[t]`` with ``x̄[t] = β x̄[t−1] + x[t]`` and the
  message ``m = r / (U + sign(U) ε)``.

The reward of the outputs is that of the sequence as it goes so far (:mod:`spikelfp.methods.online`). For a hidden
neuron the scan has ``r_j[t] = S_j[t] (Σ_k W_kj M_k[t] + Σ_k V_kj M_k[t+1])``, with ``M[t] = n[t] + α M[t+1]`` the
messages to the currents of the next layer, and of its own layer through recurrent connections. Of these, the part that
is known at step ``t`` is used::

    r_j[t] ≈ S_j[t] Σ_k W_kj r_k[t] / D_k[t]

These terms are dropped, and no others:

1. ``β U_k[t] n_k[t+1]`` of ``n_k[t]``, and ``α M_k[t+1]`` of ``M_k[t]`` (of integrators ``β M_k[t+1]``): rewards which
   the membranes and currents of the *next layer* get in later steps;
2. ``V_kj M_k[t+1]``: credit through recurrent connections to the spikes that came in by them.

Hence a network of one layer without recurrent connections learns exactly as by the scan, for the same rewards. The
terms of a layer's own membrane and currents are all kept, in every layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.credit import to_message
from spikelfp.functional.lif import carried
from spikelfp.kernels import scan_for
from spikelfp.methods import eligibility
from spikelfp.methods.base import Batch
from spikelfp.methods.eligibility import (
    Credit,
    ForwardLayer,
    WindowRun,
    layers_of,
    of_last_step,
    sliced,
    through_filter,
    windows,
)  # fmt: skip
from spikelfp.methods.online import RewardSoFar, check_online
from spikelfp.nn import LI, LIF, RecurrentLIF, RecurrentSynaptic, Synaptic
from spikelfp.nn.neurons.base import Neurons
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Epsilon, Rule, Zero
from spikelfp.tasks import Task

NEURONS = (LIF, RecurrentLIF, Synaptic, RecurrentSynaptic)
"""Neurons that learn forward in time."""


def check_forward(net: Module, rule: Rule | Composite, reward: Reward, task: Task) -> None:
    """Refuse a network, rule or reward that LFP cannot train forward in time.

    Args:
        net: the network.
        rule: of the layers that have none of their own.
        reward: of the outputs.
        task: the task.

    Raises:
        UserError: naming it, with what to do.
    """
    layers = _layers(net)
    check_online(net, rule, reward, task)
    assigned = rule.assign(net)
    for layer in layers:
        for each in (layer.dense, layer.neurons, layer.recurrent):
            if each is None:
                continue
            own = each.__dict__.get("_own_rule") or assigned.get(each, rule)
            if type(own) not in (Epsilon, Zero) or cast(Epsilon, own).normalize:
                raise UserError(
                    f'credit="online" follows LFP-ε and LFP-0 without normalisation, and {type(each).__name__} in '
                    f"layer {layer.name} has the rule {own}: choose rules.Epsilon() (--rule epsilon), or another credit"
                )


def learn_forward(net: Module, batch: Batch, reward: Reward, task: Task, cap: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the update of a batch to ``p.grad``, forward in time.

    Args:
        net: the network, whose layers follow their rules now.
        batch: whole sequences.
        reward: of the outputs.
        task: the task.
        cap: whether rewards above 0 are cut to 0.

    Returns:
        The outputs ``[T, B, C]`` without a graph, and values to watch.
    """
    layers, states = _layers(net), list[int]()
    for layer in layers:
        decay = layer.neurons.beta if isinstance(layer.neurons, LI) else getattr(layer.neurons, "alpha", None)
        layer.keep((decay,) if isinstance(decay, float) else ())
        states.append(layer.fires + isinstance(decay, Tensor))
    weight = batch.share / max(len(batch.targets), 1)
    outputs, watched = list[Tensor](), list[dict[str, Tensor]]()
    with torch.no_grad():
        for part in sliced(batch, layers, states, eligibility.WINDOW):
            so_far = RewardSoFar(reward, task, part, cap)
            for layer in layers:
                layer.rest()
            for _, x, last in windows(part, eligibility.WINDOW):
                _learn_window(layers, x, so_far, weight, last)
            assert so_far.outputs is not None
            outputs.append(so_far.outputs)
            share = len(part.targets) / max(len(batch.targets), 1)
            watched.append({name: value * share for name, value in so_far.watched().items()})
        for layer in layers:
            for _, each in layer.kept:
                each.ascend()
    found = {name: torch.stack([each[name] for each in watched]).sum() for name in watched[0]}
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1), found


def _layers(net: Module) -> list[ForwardLayer]:
    return cast("list[ForwardLayer]", layers_of(net, 'LFP with credit="online"', NEURONS, (LI,)))


def _learn_window(layers: list[ForwardLayer], x: Tensor, so_far: RewardSoFar, weight: float, last: bool) -> None:
    """Run a window of steps, and let all layers learn from its rewards, the last layer first."""
    runs = []
    for layer in layers:
        runs.append(layer.run(x))
        x = runs[-1].outputs
    reward: Tensor | None = so_far(x) * weight
    message: Tensor | None = None
    for number in reversed(range(len(layers))):
        layer, run = layers[number], runs[number]
        credit, decay, here = _credit(layer, run, message, reward, last)
        layer.take(run, credit, decay)
        if number:
            message, reward = layer.to_inputs(here), None


def _credit(
    layer: ForwardLayer, run: WindowRun, message: Tensor | None, reward: Tensor | None, last: bool
) -> tuple[Credit, Credit | None, Tensor]:
    """Compute the credit of a layer and of a β that learns, and the messages of each step by itself.

    Args:
        layer: the layer.
        run: of the window.
        message: to the spikes, ``[k, B, n]``, of a hidden layer.
        reward: of the outputs, ``[k, B, C]``, of the last layer.
        last: whether nothing follows the window.
    """
    if not layer.fires:
        assert reward is not None
        eps = cast(Epsilon, layer.dense.rule).eps
        here = to_message(reward, run.outputs, eps)
        credit = Credit(here, [], [])
        beta = layer.neurons.beta if layer.neurons is not None else None
        return (through_filter(credit, beta, last) if isinstance(beta, Tensor) else credit), None, here
    neurons = cast(Neurons, layer.neurons)
    assert run.membrane is not None
    assert run.start is not None
    p, scan, eps = neurons.constants.fitted(run.start), scan_for(run.membrane), cast(Epsilon, neurons.rule).eps

    def back(message: Tensor | None, reward: Tensor | None, local: bool = False) -> tuple[Tensor, Tensor]:
        messages, to_start = scan.reverse(message, reward, None, run.membrane, run.start, p, eps, False, None, local)
        return messages, to_start * run.start

    messages, start = back(message, reward)
    here, _ = back(message, reward, True)
    ends: list[tuple[Tensor, list[Tensor | None]]] = []
    if not last:  # e after the window is the update of a reward of 1 at its last step
        fresh, kept = back(None, of_last_step(run.membrane))
        ends = [(fresh, [kept])]
    credit = Credit(messages, [start], ends)
    decay = None
    if neurons.decay is not None:
        before = carried(torch.cat([run.start.unsqueeze(0), run.membrane[:-1]]), p)
        decay = Credit(messages * before, [start], [(fresh * before, factors) for fresh, factors in ends])
    alpha = getattr(neurons, "alpha", None)
    return (through_filter(credit, alpha, last) if isinstance(alpha, Tensor) else credit), decay, here
