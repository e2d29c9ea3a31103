"""What a pass through a network depends on besides its input, its state and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikelfp.kernels.choice import Choice, choices
from spikelfp.rules import Rule, restore, rules_in, rules_of


@dataclass(frozen=True)
class Setting:
    """The setting of a pass, in which another one gives the same result, bit for bit.

    modes: training or evaluation of each layer. rules: of each layer that follows one. events: how each layer last
    chose to compute its product, which decides the order of summation. cpu, cuda: states of the random generators.
    autocast: makes a context as autocast was set, without its cache, which would hand casts that were made without a
    graph to a pass with one.
    """

    modes: dict[torch.nn.Module, bool]
    rules: dict[torch.nn.Module, Rule]
    events: list[tuple[Choice, bool]]
    cpu: Tensor
    cuda: Tensor | None
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]

    @classmethod
    def now(cls, net: torch.nn.Module, device: torch.device) -> Setting:
        """That in which a pass through ``net`` on ``device`` would run."""
        layers = list(net.modules())
        return cls(
            {layer: layer.training for layer in layers},
            rules_in(net),
            [(choice, choice.events) for choice in choices(net).values()],
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            device,
            _autocast(device.type),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within the block all is as it was then, but autocast; behind it as it was before the block."""
        modes, rules = {layer: layer.training for layer in self.modes}, rules_of(self.modes)
        events = [(choice, choice.events) for choice, _ in self.events]
        with torch.random.fork_rng(devices=[] if self.cuda is None else [self.device]):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            _restore(self.modes, self.events)
            for layer, rule in self.rules.items():
                setattr(layer, "rule", rule)  # noqa: B010  (torch types attributes of modules as tensors)
            try:
                yield
            finally:
                _restore(modes, events)
                restore(rules)


def _restore(modes: dict[torch.nn.Module, bool], events: list[tuple[Choice, bool]]) -> None:
    for layer, training in modes.items():
        layer.training = training
    for choice, taken in events:
        choice.events = taken


def _autocast(kind: str) -> Callable[[], AbstractContextManager[Any]]:
    if not torch.amp.is_autocast_available(kind):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return partial(torch.autocast, kind, dtype, enabled, cache_enabled=False)
