"""Whether the state in a checkpoint is one that an optimiser, a schedule and the layers of a network can go on from."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from spikelfp.errors import CheckpointError
from spikelfp.terminal import brief
from spikelfp.training.optim import Momentum, Planned, Schedule
from spikelfp.training.standin import HOW, schedule_of, states_of
from spikelfp.untrusted.text import MOST, Field

_POSITIVE = frozenset(
    (
        "step", "exp_avg_sq", "max_exp_avg_sq", "sum", "square_avg", "acc_delta", "exp_inf", "step_size", "row_var",
        "col_var", "variance", "mu_product", "eta", "mu",
        "lr", "initial_lr", "max_lr", "min_lr", "weight_decay", "eps", "lr_decay", "lambd", "t0",
    )
)  # fmt: skip
"""States and options of torch's optimisers that are 0 or more; with others their steps are NaN."""

_SHARES = frozenset(("betas", "momentum", "alpha", "rho", "base_momentum", "max_momentum"))
"""Options that lie in [0, 1]."""

_MOVING = frozenset(("last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs", "cooldown_counter", "T_cur",
                     "T_i", "_is_initial", "_get_lr_called_within_step"))  # fmt: skip
"""States of torch's schedules that change as they step."""

_FORMER, _RECENT = ("verbose",), ("_is_initial", "_get_lr_called_within_step")
"""States that only earlier versions of torch have, and that only later ones do."""


def fitted_optimizer(
    path: str | Path, content: dict[str, Any], optimizer: Optimizer, groups: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Check the state of an optimiser against the optimiser that is to go on from it.

    Args:
        path: of the checkpoint, named in errors.
        content: of the checkpoint.
        optimizer: of the trainer, which is left as it is.
        groups: options of its parameter groups under the schedule of the checkpoint, or ``None`` if they are not known.

    Returns:
        The state to load: laid out in memory as the parameters are, and with options that say how this one computes.

    Raises:
        CheckpointError: naming the first value that does not fit.
    """
    field = Field(path, "optimizer", content["optimizer"])
    own = optimizer.state_dict()["param_groups"]
    theirs = field.at("param_groups").sequence()
    if [len(group["params"]) for group in own] != [len(group.value["params"]) for group in theirs]:
        raise CheckpointError(
            f"{path} holds the state of another optimiser: parameter groups of "
            f"{brief([len(group.value['params']) for group in theirs])} parameters, this trainer has "
            f"{brief([len(group['params']) for group in own])}"
        )
    fitted = []
    for number, group in enumerate(theirs):
        if group.value["params"] != own[number]["params"]:
            group.at("params").refuse(f"numbers of parameters from {own[number]['params'][0]} on")
        known = None if groups is None else groups[number]
        fitted.append(_fitted_group(group, own[number], known))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in own for number in group["params"]]
    state = field.at("state")
    expected = dict(zip(numbers, zip(parameters, states_of(optimizer), strict=True), strict=True))
    if isinstance(optimizer, Momentum):
        state.mapping(numbers)
    strict = _is_known(optimizer)
    for number in state.mapping(known=numbers):
        _, wanted = expected[number]
        each = state.at(number)
        if wanted is not None and each.value:
            each.mapping(wanted if strict else (), wanted if strict else None)
        for name, one in each.items():
            if wanted is not None and name in wanted:
                _check_state(one, name, wanted[name])
    placed = {
        number: {name: _laid_out(value, expected[number][0]) for name, value in one.items()}
        for number, one in state.value.items()
    }
    return {"state": placed, "param_groups": fitted}


def fitted_schedule(
    path: str | Path,
    content: dict[str, Any],
    optimizer: Optimizer,
    groups: list[dict[str, Any]],
    schedule: Schedule,
) -> list[dict[str, Any]] | None:
    """Check the state of a schedule against the one that a trainer would make.

    Returns:
        Options of the parameter groups under that schedule; ``None`` where they are not known.

    Raises:
        CheckpointError: for a schedule of another kind, and naming the first value of its state that does not fit.
    """
    if content.get("schedule") is None:
        return groups if not schedule.made else None
    plan = Planned.of(content)
    made = schedule_of(optimizer, groups, schedule, plan.scheduled)
    if made is None:
        return None
    scheduler, under = made
    check_schedule(path, content, scheduler)
    if not schedule.made and _is_known(scheduler) and not isinstance(scheduler, ReduceLROnPlateau):
        done = content["position"]["step"] - plan.schedule_start
        start = getattr(scheduler, "last_epoch", None)
        if start is not None and content["schedule"]["last_epoch"] != start + done:
            Field(path, "schedule", content["schedule"]).at("last_epoch").refuse(f"{start + done}, the steps it did")
    return under


def check_schedule(path: str | Path, content: dict[str, Any], scheduler: Any) -> None:
    """Check the state of a schedule against ``scheduler``, which stands at its start.

    Raises:
        CheckpointError: for a schedule of another kind, and naming the first value that does not fit.
    """
    kind = type(scheduler).__name__
    there = content.get("schedule_kind")
    if there not in (None, kind):
        raise CheckpointError(f"{path} was written with schedule_kind {brief(there)}, this trainer has {kind}")
    own = without_functions(scheduler.state_dict())
    field = Field(path, "schedule", content["schedule"])
    field.mapping([name for name in own if name in _MOVING and name not in _RECENT], (*own, *_FORMER))
    for name, each in field.items():
        if name in own:
            _check_alike(each, name, own[name], _is_known(scheduler))


def without_functions(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a schedule's state the functions it may hold: they are made anew with it."""
    keep = (bool, int, float, str, list, dict, tuple, type(None), Tensor)
    return {key: value for key, value in state.items() if isinstance(value, keep)}


def _is_known(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("torch", "spikelfp")


def _fitted_group(field: Field, own: dict[str, Any], wanted: dict[str, Any] | None) -> dict[str, Any]:
    """Check the options of a parameter group, and fill in flags that an earlier version of torch did not have."""
    known = {name: value for name, value in (own if wanted is None else wanted).items() if name != "params"}
    found = {name: each for name, each in field.items() if name != "params"}
    for name, value in known.items():
        if name not in found and not isinstance(value, bool | None):
            field.mapping((name,))
    if wanted is not None:
        field.mapping(known=(*known, "params"))
    for name, each in found.items():
        if name in known and name not in HOW:
            _check_option(each, name, known[name])
    values = {name: own[name] if name in HOW and name in own else value for name, value in field.value.items()}
    return {**values, **{name: value for name, value in known.items() if name not in values}}


def _check_option(field: Field, name: str, wanted: Any) -> None:
    value = field.value
    if isinstance(wanted, Tensor):
        _check_range(field, name, field.tensor(wanted.shape))
    elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
        _check_range(field, name, field.number())
    elif isinstance(wanted, tuple):
        for each, one in zip(field.sequence(len(wanted), tuple), wanted, strict=True):
            _check_option(each, name, one)
    elif isinstance(wanted, bool | str | None) and (type(value) is not type(wanted) or value != wanted):
        raise CheckpointError(
            f"{field.source} was written with {field.name} {brief(value)}, this trainer has {brief(wanted)}"
        )
    elif type(value) is not type(wanted):
        field.refuse(f"a {type(wanted).__name__}")


def _check_range(field: Field, name: str, value: float | Tensor) -> None:
    if isinstance(value, Tensor) and value.is_complex():
        return
    low, high = (0, math.inf) if name in _POSITIVE else (0, 1) if name in _SHARES else (-math.inf, math.inf)
    least, largest = (value.min(), value.max()) if isinstance(value, Tensor) and value.numel() else (value, value)
    if bool(torch.as_tensor(least < low)) or bool(torch.as_tensor(largest > high)):
        field.refuse("numbers of 0 or more" if high == math.inf else "numbers from 0 to 1")


def _check_state(field: Field, name: str, wanted: Any) -> None:
    """Check the state of a parameter against what its optimiser keeps under this name."""
    if isinstance(wanted, Tensor):
        scalar = wanted.dim() == 0 and wanted.is_floating_point()  # counts are of torch's default dtype then
        value = field.tensor(wanted.shape, None if scalar else wanted.dtype)
        if scalar and value.dtype not in (torch.float32, torch.float64, wanted.dtype):
            field.refuse("a tensor of torch.float32")
        _check_range(field, name, value)
        if name == "step" and scalar and (float(value) != round(float(value)) or float(value) > MOST):
            field.refuse("a number of steps", brief(float(value)))
    elif isinstance(wanted, bool):
        field.flag()
    elif isinstance(wanted, int | float):
        _check_range(field, name, field.number())
    elif type(field.value) is not type(wanted):
        field.refuse(f"a {type(wanted).__name__}")


def _check_alike(field: Field, name: str, wanted: Any, fixed: bool) -> None:
    """Check a value of a schedule against that at its start: equal, if it is ``fixed`` and does not change by steps."""
    value, moving = field.value, name in _MOVING or not fixed
    if isinstance(wanted, Tensor):
        if not isinstance(value, Tensor) or value.shape != wanted.shape or value.dtype != wanted.dtype:
            field.refuse(brief(wanted))
    elif isinstance(wanted, dict):
        field.mapping(wanted, wanted)
        for key, one in wanted.items():
            _check_alike(field.at(key), key if isinstance(key, str) else name, one, fixed)
    elif isinstance(wanted, list | tuple):
        for each, one in zip(field.sequence(len(wanted), type(wanted)), wanted, strict=True):
            _check_alike(each, name, one, fixed)
    elif isinstance(wanted, bool | str | None):
        if type(value) is not type(wanted) or not (moving or value == wanted):
            field.refuse(brief(wanted))
    elif type(value) not in (int, float) or (isinstance(wanted, int) and type(value) is not int and name != "best"):
        field.refuse("a whole number" if isinstance(wanted, int) else "a number")
    elif not moving and value != wanted:
        field.refuse(brief(wanted))
    elif name in ("_step_count", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i", "_last_lr") and value < 0:
        field.refuse("0 or more")


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """Bring a tensor of the shape of a parameter to the order in memory that the parameter has."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    placed = torch.empty_like(parameter, dtype=value.dtype, device="cpu")
    return placed.copy_(value)


def check_layers(path: str | Path, content: dict[str, Any], names: Collection[str]) -> None:
    """Check which layers are said to have made their products event by event; the first version did not say it.

    Raises:
        CheckpointError: for a layer that is missing or not there.
    """
    if "events" in content:
        Field(path, "events", content["events"]).mapping(names, names)
