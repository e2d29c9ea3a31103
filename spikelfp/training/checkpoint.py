"""Checkpoints: tensors and plain data only, so they load with ``torch.load(weights_only=True)``.

A checkpoint holds the weights, the states of optimiser and schedule, the random states, the position in the epoch
with the sums so far, and which layers made their last products event by event. Training that goes on from it is the
same, bit for bit, as if never stopped.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from spikelfp.described import described
from spikelfp.errors import CheckpointError
from spikelfp.files import write_tensors
from spikelfp.nn import Recomputed
from spikelfp.rules import Composite, Rule, lending

FORMAT = 1
"""Version of the layout below."""


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    write_tensors(path, {"format": FORMAT, **content})


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint; :class:`~spikelfp.errors.CheckpointError` when it is missing or broken."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); it may be truncated or of another program"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "weights" not in content:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} is no checkpoint of this version (format {found}, expected {FORMAT})")
    return content


def load_weights(path: str | Path, net: torch.nn.Module, content: dict[str, Any] | None = None) -> None:
    """Load the weights saved at ``path`` into ``net``, which must be the network that they were trained in.

    Raises:
        CheckpointError: naming the first parameter, or constant of a layer, that differs.
    """
    content = content or read(path)
    check_weights(path, net, content)
    check_constants(path, net, content)
    net.load_state_dict(content["weights"])


def check_weights(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` naming the first parameter of ``content`` that does not fit."""
    weights = content["weights"]
    own = net.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own or own[name].shape != weights[name].shape:
            has, wants = (tuple(d[name].shape) if name in d else "nothing" for d in (weights, own))
            raise CheckpointError(
                f"{path} is from another model: {name} is {has} in the checkpoint, {wants} in the network"
            )


def constants(net: torch.nn.Module) -> dict[str, str]:
    """Describe each layer by its kind and its constants, by name: what weights alone do not tell.

    That is what a layer prints (``extra_repr``): β, θ, reset, denominator, strides, the ε of a norm, … A β that learns
    is among the weights.
    """
    found = {}
    for name, layer in net.named_modules():
        if not isinstance(layer, Recomputed):  # how it runs, not what comes out
            text = " ".join(layer.extra_repr().split())
            if isinstance(getattr(layer, "decay", None), torch.nn.Parameter):
                text = re.sub(r"\bbeta=[^,]*", "beta=learned", text, count=1)
            own = type(layer).__module__.partition(".")[0] not in ("spikelfp", "torch") and any(layer.children())
            found[name] = f"{'module' if own else type(layer).__name__}({text})"  # one's own class may be renamed
    return found


def layer_rules(net: torch.nn.Module, rule: Rule | Composite) -> dict[str, str]:
    """Describe the rule of each layer while a method lends ``rule`` to those without one of their own, by name."""
    with lending(net, rule):
        own = {name: getattr(layer, "rule", None) for name, layer in net.named_modules()}
    return {name: described(each) for name, each in own.items() if isinstance(each, Rule)}


def check_constants(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for the first layer whose constants differ, with both.

    Checkpoints of the first version do not know them, and pass.
    """
    _check_layers(path, "", content.get("network"), constants(net))


def check_rules(path: str | Path, own: dict[str, str], content: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for the first layer that was trained by another rule."""
    _check_layers(path, "the rule of ", content.get("rules"), own)


def _check_layers(path: str | Path, what: str, there: dict[str, str] | None, own: dict[str, str]) -> None:
    for name in () if there is None else dict.fromkeys([*there, *own]):
        before, now = (each.get(name, "missing") for each in (there or {}, own))
        if before != now:
            layer = f"layer {name}" if name else "the network"
            raise CheckpointError(
                f"{path} is from another network: {what}{layer} is {before} in the checkpoint, {now} here"
            )


def check_complete(path: str | Path, content: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for weights alone, from which training cannot go on."""
    missing = [name for name in ("optimizer", "position", "tally", "history", "random") if name not in content]
    if missing:
        raise CheckpointError(
            f"{path} holds weights alone, without the state of training ({', '.join(missing)}): "
            "training.checkpoint.load_weights(path, net) loads them for a new start"
        )


def check_settings(
    path: str | Path, content: dict[str, Any], settings: dict[str, Any], who: str = "this trainer has"
) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for the first of the settings that the content has otherwise."""
    for what, own in settings.items():
        there = content.get(what, own)  # the first version wrote fewer of them
        if there != own:
            raise CheckpointError(f"{path} was written with {what} {there}, {who} {own}")


def restore_schedule(scheduler: Any, optimizer: Optimizer, content: dict[str, Any]) -> None:
    """Bring a schedule, and its optimiser, to where the checkpoint left them.

    Raises:
        CheckpointError: for a schedule of another kind.
    """
    kind = type(scheduler).__name__
    if content["schedule_kind"] not in (None, kind):
        raise CheckpointError(
            f"the checkpoint was written with schedule_kind {content['schedule_kind']}, this trainer has {kind}"
        )
    scheduler.load_state_dict(content["schedule"])
    optimizer.load_state_dict(content["optimizer"])  # the schedule has put it to its start


def random_states() -> dict[str, Any]:
    """States of torch's (all devices), numpy's and Python's random generators."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            cached,
        ),
        "python": (version, list(internal), gauss),
    }


def restore_random(states: dict[str, Any]) -> None:
    """Bring the random generators back to :func:`random_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """A schedule's state without the functions it may hold: they are made anew with it."""
    keep = (bool, int, float, str, list, dict, tuple, type(None), torch.Tensor)
    return {key: value for key, value in state.items() if isinstance(value, keep)}
