"""Checkpoints: tensors and plain data only, so they load with ``torch.load(weights_only=True)``.

A checkpoint holds the weights, the states of optimiser and schedule, the random states, the position in the epoch
with the sums so far, and which layers made their last products event by event. Training that goes on from it is the
same, bit for bit, as if never stopped.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from spikelfp.errors import CheckpointError
from spikelfp.files import write_tensors

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
    """The weights saved at ``path`` into ``net``, or an error that names the first parameter that does not fit."""
    content = content or read(path)
    check_weights(path, net, content)
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


def check_settings(path: str | Path, content: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for the first of the settings that the content has otherwise."""
    for what, own in settings.items():
        there = content.get(what, own)  # the first version wrote fewer of them
        if there != own:
            raise CheckpointError(f"{path} was written with {what} {there}, this trainer has {own}")


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
