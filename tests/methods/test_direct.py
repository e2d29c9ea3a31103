"""Gradients of a plain block by two formulas, beside those of autograd's engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikelfp import methods, nn, rules, training
from spikelfp.methods.direct import learn_directly

BATCH, INPUTS, WIDTH = 32, 250, 150  # enough multiplications for the products in memory that is used again


def block(activation: nn.Module, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, WIDTH, bias=bias), activation)


def gradients(net: nn.Module, learn: Callable[[Tensor, Tensor], object], times: int = 1) -> list[Tensor]:
    """Return the gradients of the parameters after ``learn`` has seen the block's output ``times`` times."""
    net.zero_grad()
    generator = torch.Generator().manual_seed(1)
    with rules.using(net, rules.Gradient()):
        for _ in range(times):
            hidden = net(torch.rand(1, BATCH, INPUTS, generator=generator) + 0.01)
            learn(hidden, torch.randn(1, BATCH, WIDTH, generator=generator))
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def directly(net: nn.Sequential) -> Callable[[Tensor, Tensor], object]:
    def learn(hidden: Tensor, gradient: Tensor) -> None:
        assert learn_directly(tuple(net), hidden, gradient)

    return learn


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.ReLU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_gradients_are_those_of_the_engine_bit_for_bit(activation: type[nn.Module], bias: bool, times: int) -> None:
    net = block(activation(), bias)
    ours, engine = gradients(net, directly(net), times), gradients(net, torch.autograd.backward, times)
    assert len(ours) == len(engine) == 1 + bias
    assert all(torch.equal(own, other) for own, other in zip(ours, engine, strict=True))
    assert all(own.abs().max() > 0 for own in ours)


def test_gradients_are_those_of_the_formula() -> None:
    net = block(nn.Tanh())
    seen: list[Tensor] = []
    net[0].register_forward_pre_hook(lambda _, given: seen.append(given[0][0].double()))
    told: list[Tensor] = []

    def learn(hidden: Tensor, gradient: Tensor) -> None:
        told.extend((hidden[0].detach().double(), gradient[0].double()))
        directly(net)(hidden, gradient)

    to_weight, to_bias = gradients(net, learn)
    hidden, gradient = told
    messages = gradient * (1 - hidden**2)
    assert torch.allclose(to_weight.double(), messages.T @ seen[0], rtol=1e-4, atol=1e-5)
    assert torch.allclose(to_bias.double(), messages.sum(0), rtol=1e-4, atol=1e-5)


def test_frozen_weights_stay_without_gradients() -> None:
    net = block(nn.Tanh())
    net[0].weight.requires_grad_(False)
    (to_bias,) = gradients(net, directly(net))
    assert net[0].weight.grad is None
    (engine,) = gradients(net, torch.autograd.backward)
    assert torch.equal(to_bias, engine)


@pytest.mark.parametrize("kind", ["output", "hidden", "weight", "after", "small", "steps", "gelu"])
def test_what_is_watched_or_is_no_plain_block_is_left_to_autograd(kind: str) -> None:
    net = block(nn.GELU() if kind == "gelu" else nn.Tanh())
    if kind == "output":
        net[0].register_forward_hook(lambda _, given, out: out.register_hook(lambda message: 2 * message) and None)
    if kind == "weight":
        net[0].weight.register_hook(lambda grad: 2 * grad)
    if kind == "after":
        net[0].weight.register_post_accumulate_grad_hook(lambda p: None)
    x = torch.rand(1, 2 if kind == "small" else BATCH, INPUTS)
    x = x.expand(3, *x.shape[1:]) if kind == "steps" else x
    with rules.using(net, rules.Gradient()):
        hidden = net(x)
    if kind == "hidden":
        hidden.register_hook(lambda message: 2 * message)
    assert not learn_directly(tuple(net), hidden, torch.ones_like(hidden))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("method", [methods.F3, methods.DFA, methods.DRTP])
def test_training_is_the_same_with_and_without(method: type[methods.Method], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(2 * BATCH, INPUTS), torch.randint(10, (2 * BATCH,))
    found, count = [], []

    def counted(*given: object) -> bool:
        count.append(learn_directly(*given))  # type: ignore[arg-type]
        return count[-1]

    for instead in (counted, lambda *given: False):
        monkeypatch.setattr("spikelfp.methods.feedback.learn_directly", instead)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 250), nn.Tanh(), nn.Linear(250, 10))
        training.Trainer(net, method=method(), batch_size=BATCH, device="cpu").fit((x, y), 2)
        found.append([p.detach().clone() for p in net.parameters()])
    assert count == [True] * 8  # two blocks, two batches, two epochs
    assert all(torch.equal(own, other) for own, other in zip(*found, strict=True))
