"""Whole networks, slowly: reads the layers of a :mod:`spikelfp.nn` network and runs rewards back through them.

``updates(net, x, reward)`` is what ``propagate`` should leave, with the opposite sign, in ``.grad``.
"""

from __future__ import annotations

import numpy as np
import torch
from references import neurons, normalisation, parts, weighted
from references.contributions import ALMOST, SPLIT, Array, normalised, stabilise_all
from references.weighted import Back, Updates

from spikelfp import nn, rules

LAYERS = {
    nn.Linear: weighted.linear,
    nn.Conv2d: weighted.conv2d,
    nn.BatchNorm1d: normalisation.batch_norm,
    nn.BatchNorm2d: normalisation.batch_norm,
    nn.TokenNorm: normalisation.batch_norm,
    nn.LayerNorm: normalisation.layer_norm,
    nn.LIF: neurons.lif_neurons,
    nn.Synaptic: neurons.synaptic,
    nn.RecurrentLIF: neurons.recurrent,
    nn.LI: lambda layer, x, updates: neurons.leaky_sum(layer.beta, x),
    nn.MaxPool2d: parts.pool,
    nn.AvgPool2d: parts.pool,
    nn.ClassToken: parts.class_token,
    nn.PositionEmbedding: parts.position_embedding,
    **dict.fromkeys(neurons.PHI, neurons.activation),
}


def run(layer: torch.nn.Module, x: Array, updates: Updates) -> tuple[Array, Back]:
    """The output of a layer, and the way of a reward back through it."""
    if isinstance(layer, nn.Sequential):
        backs = []
        for place, part in enumerate(layer):
            if type(part) in neurons.PHI:
                x, back = neurons.activation(part, x, updates, whole=stabilises(layer[:place]))
            else:
                x, back = run(part, x, updates)
            backs.append(back)
        return x, chained(backs)
    if isinstance(layer, nn.Sum | nn.Concat):
        return branches(layer, x, updates)
    if isinstance(layer, nn.SelfAttention | nn.SpikingSelfAttention):
        return attention(layer, x, updates)
    if isinstance(layer, nn.Identity | nn.Flatten | nn.ToTokens | nn.FirstToken | nn.MeanToken):
        return moved(layer, x)
    return LAYERS[type(layer)](layer, x, updates)


def stabilises(layers: torch.nn.Module) -> bool:
    """Whether the last of ``layers`` shares the reward of its neurons by sums of its own, stabilised there (v1)."""
    if isinstance(layers, nn.Sequential):
        passed = (nn.Flatten, nn.MaxPool2d)
        last = next((layer for layer in reversed(layers) if not isinstance(layer, passed)), None)
        return last is not None and stabilises(last)
    return isinstance(layers, nn.Linear | nn.Conv2d) and isinstance(layers.rule, SPLIT)


def last_rule(net: torch.nn.Module) -> rules.Rule:
    """The rule of the last layer that has one: it governs the initial reward."""
    return [layer.rule for layer in net.modules() if isinstance(getattr(layer, "rule", None), rules.Rule)][-1]


def chained(backs: list[Back]) -> Back:
    """One after the other, the last layer first."""

    def back(reward: Array) -> Array:
        for step in reversed(backs):
            reward = step(reward)
        return reward

    return back


def branches(layer: nn.Sum | nn.Concat, x: Array, updates: Updates) -> tuple[Array, Back]:
    """Skip connections, eq. 11: a sum shares by contribution, a concatenation hands through."""
    results = [run(branch, x, updates) for branch in layer.branches]
    outs = [out for out, _ in results]
    if isinstance(layer, nn.Concat):
        edges = np.cumsum([out.shape[layer.dim] for out in outs])[:-1]
        return np.concatenate(outs, layer.dim), lambda reward: sum(
            back(part) for (_, back), part in zip(results, np.split(reward, edges, layer.dim), strict=True)
        )
    total = sum(outs)
    return total, lambda reward: sum(back(out * parts.per_unit(reward, total)) for out, back in results)


def moved(layer: torch.nn.Module, x: Array) -> tuple[Array, Back]:
    """Layers that move values, each with its reward, and the mean over tokens."""
    if isinstance(layer, nn.Flatten):
        return x.reshape(*x.shape[:2], -1), lambda reward: reward.reshape(x.shape)
    if isinstance(layer, nn.ToTokens) and layer.tokens is not None:
        return x.reshape(*x.shape[:2], layer.tokens, -1), lambda reward: reward.reshape(x.shape)
    if isinstance(layer, nn.ToTokens):
        swapped = x.reshape(*x.shape[:3], -1).swapaxes(2, 3)
        return swapped, lambda reward: reward.swapaxes(2, 3).reshape(x.shape)
    if isinstance(layer, nn.FirstToken):
        first = np.eye(x.shape[2])[0][:, None]
        return x[:, :, 0], lambda reward: first * reward[:, :, None]
    if isinstance(layer, nn.MeanToken):
        mean = x.sum(2) / x.shape[2]
        return mean, lambda reward: x / x.shape[2] * parts.per_unit(reward, mean)[:, :, None]
    return x, lambda reward: reward


def attention(layer: nn.SelfAttention | nn.SpikingSelfAttention, x: Array, updates: Updates) -> tuple[Array, Back]:
    """``A V`` with ``A = softmax(s Q Kᵀ)`` or ``s Q Kᵀ``, and what stands in front and behind."""
    soft = isinstance(layer, nn.SelfAttention)
    if soft:
        together, to_x = run(layer.project, x, updates)
        signals = np.split(together, 3, -1)
    else:
        runs = [run(part, x, updates) for part in (layer.query, layer.key, layer.value)]
        signals = [out for out, _ in runs]
    query, key, value = (parts.heads_of(signal, layer.heads) for signal in signals)
    scale = query.shape[-1] ** -0.5 if soft else layer.scale
    scores, to_query_key = parts.product(query, key.swapaxes(-1, -2))
    weights, to_scores = parts.softmax(scores * scale) if soft else (scores * scale, lambda reward: reward)
    mixed, to_weights_value = parts.product(weights, value)
    between, to_mixed = (parts.joined(mixed), lambda r: r) if soft else run(layer.mix, parts.joined(mixed), updates)
    out, to_between = run(layer.out, between, updates)

    def back(reward: Array) -> Array:
        of_weights, of_value = to_weights_value(parts.heads_of(to_mixed(to_between(reward)), layer.heads))
        of_query, of_key = to_query_key(to_scores(of_weights))
        rewards = [parts.joined(r) for r in (of_query, of_key.swapaxes(-1, -2), of_value)]
        if soft:
            return to_x(np.concatenate(rewards, -1))
        return sum(way(r) for (_, way), r in zip(runs, rewards, strict=True))

    return out, back


def updates(
    net: torch.nn.Module, x: torch.Tensor, reward: torch.Tensor, eps: float | None = None
) -> tuple[Array, Array, Updates]:
    """Output, reward of the input, and ``d_w`` of every parameter.

    eps: for linear outputs, the ε of their neurons; ``None`` if the network ends in neurons of its own.
    """
    found: Updates = {}
    out, back = run(net, x.detach().numpy(), found)
    given = reward.detach().numpy()
    if eps is not None and not stabilises(net):
        given = stabilise_all(out, given, eps)
    given = normalised(last_rule(net), given)
    # The reward of a neuron at the output is its own, spike or no spike.
    return out, back(np.where(out == ALMOST, ALMOST * given, given)), found
