"""Readouts, losses and rewards of tasks, written slowly from their formulas, sample by sample and step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FORGETS = 0.9


def shares(readout: str, mask: Tensor) -> list[list[float]]:
    """Weights of the steps ``[T][B]`` in the reading of its sample."""
    steps, samples = mask.shape
    found = [[0.0] * samples for _ in range(steps)]
    for b in range(samples):
        own = [t for t in range(steps) if bool(mask[t, b])]
        for place, t in enumerate(own):
            behind = len(own) - 1 - place
            found[t][b] = {"mean": 1 / len(own), "last": float(behind == 0), "decay": FORGETS**behind}[readout]
        if readout == "decay":
            total = sum(found[t][b] for t in own)
            for t in own:
                found[t][b] /= total
    return found


def reading(outputs: Tensor, readout: str, mask: Tensor) -> Tensor:
    """``[B, C]``."""
    weights, (steps, samples, count) = shares(readout, mask), outputs.shape
    values = torch.zeros(samples, count, dtype=torch.float64)
    for b in range(samples):
        for c in range(count):
            for t in range(steps):
                if weights[t][b]:
                    values[b, c] += weights[t][b] * float(outputs[t, b, c])
    return values


def value_loss(name: str, error: float, delta: float = 1.0) -> tuple[float, float]:
    """Loss of one error ``ŷ − y``, and its derivative by ŷ."""
    if name == "mse":
        return error**2, 2 * error
    if name == "mae":
        return abs(error), math.copysign(1.0, error) if error else 0.0
    if abs(error) <= delta:
        return error**2 / 2, error
    return delta * (abs(error) - delta / 2), math.copysign(delta, error)


def regression(
    outputs: Tensor, targets: Tensor, mask: Tensor, readout: str, name: str, delta: float = 1.0
) -> tuple[float, Tensor]:
    """The loss, a mean over samples and outputs, and the reward ``o · (−∂L/∂o)`` of the summed loss of the samples."""
    weights, read = shares(readout, mask), reading(outputs, readout, mask)
    samples, count = targets.shape
    loss, reward = 0.0, torch.zeros_like(outputs, dtype=torch.float64)
    for b in range(samples):
        for c in range(count):
            value, slope = value_loss(name, float(read[b, c]) - float(targets[b, c]), delta)
            loss += value / samples / count
            for t in range(len(outputs)):
                if weights[t][b]:
                    reward[t, b, c] = float(outputs[t, b, c]) * -(slope / count * weights[t][b])
    return loss, reward


def multi_label(outputs: Tensor, targets: Tensor, mask: Tensor, readout: str) -> tuple[float, Tensor]:
    """Binary cross-entropy, and its reward."""
    weights, read = shares(readout, mask), reading(outputs, readout, mask)
    samples, count = targets.shape
    loss, reward = 0.0, torch.zeros_like(outputs, dtype=torch.float64)
    for b in range(samples):
        for c in range(count):
            p, y = 1 / (1 + math.exp(-float(read[b, c]))), float(targets[b, c])
            loss += -(y * math.log(p) + (1 - y) * math.log(1 - p)) / samples / count
            for t in range(len(outputs)):
                if weights[t][b]:
                    reward[t, b, c] = float(outputs[t, b, c]) * (y - p) / count * weights[t][b]
    return loss, reward


def sequence_labels(outputs: Tensor, targets: Tensor, mask: Tensor) -> tuple[float, Tensor]:
    """Softmax cross-entropy of each step, a mean over a sample's own steps and the samples, and its reward."""
    steps, samples, count = outputs.shape
    loss, reward = 0.0, torch.zeros_like(outputs, dtype=torch.float64)
    for b in range(samples):
        own = [t for t in range(steps) if bool(mask[t, b])]
        for t in own:
            powers = [math.exp(float(outputs[t, b, c])) for c in range(count)]
            right = int(targets[b, t])
            loss += -math.log(powers[right] / sum(powers)) / len(own) / samples
            for c in range(count):
                step = (float(c == right) - powers[c] / sum(powers)) / len(own)
                reward[t, b, c] = float(outputs[t, b, c]) * step
    return loss, reward
