"""The dense float32 products of one step and nothing else: a bound for any method that makes them all."""

from itertools import pairwise

import torch
import torch.nn.functional as F


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes the products of one training step: forward, message to the input, weight update."""
    steps, batch = network["steps"], len(images)
    if network["kind"] == "lenet":
        first, second = torch.nn.Conv2d(1, 12, 5), torch.nn.Conv2d(12, 64, 5)
        hidden = (torch.rand(steps * batch, 12, 12, 12) < 0.1).float().requires_grad_()
        dense = [(torch.randn(1024, 1024), 1024, 1024), (torch.randn(10, 1024), 1024, 10)]
        grad1, grad2 = torch.randn(batch, 12, 24, 24), torch.randn(steps * batch, 64, 8, 8)
    else:
        sizes = network["sizes"]
        first = second = None
        dense = [(torch.randn(b, a), a, b) for a, b in pairwise(sizes)]
    constant = images.flatten(1)
    inputs = [torch.rand(steps * batch, a) for _, a, _ in dense]
    messages = [torch.rand(steps * batch, b) for _, _, b in dense]

    def step() -> None:
        if first is not None:
            torch.autograd.grad(first(images), first.weight, grad1)
            torch.autograd.grad(second(hidden), (second.weight, hidden), grad2)
        for index, (weight, _, _) in enumerate(dense):
            x, m = inputs[index], messages[index]
            if index == 0 and first is None:  # a constant image: one product, one update
                F.linear(constant, weight)
                m[:batch].T @ constant
            else:
                F.linear(x, weight)
                m.T @ x
                m @ weight

    return step
