"""Checks of a checkpoint before it is used: its values, and the state of optimiser and schedule against a trainer's."""

from __future__ import annotations

import copy
import math
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from spikelfp.errors import CheckpointError
from spikelfp.methods.base import GENERATOR
from spikelfp.tasks import tasks
from spikelfp.terminal import brief
from spikelfp.training.optim import Momentum, Planned, Schedule
from spikelfp.training.update import Position
from spikelfp.untrusted.text import MOST, Field

_WORD = 2**32
_TWISTER = 624  # words of a Mersenne twister

_TORCH = np.dtype(
    [
        ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"), ("state", "<u8", _TWISTER),
        ("x", "<f8"), ("y", "<f8"), ("rho", "<f8"), ("has_normal", "<i4"), ("gap", "<i4"),
        ("normal", "<f4"), ("has_float", "u1"), ("end", "V3"),
    ]
)  # fmt: skip
"""State of torch's generator on the CPU, as bytes."""

_SHARES = ("train_accuracy", "update_density")
"""Entries of a row of the history that lie in [0, 1]."""

_NUMBERS = ("reward", "reward_magnitude", "loss", "seconds")
"""Other entries that are numbers, though not always finite ones; so are scores and losses of the parts of the data."""


def _numbers() -> set[str]:
    measured = ["loss", *(tasks[name].score for name in tasks)]
    return {*_NUMBERS, *(f"{part}_{name}" for part in ("train", "validation", "test") for name in measured)}


def check_content(path: str | Path, content: dict[str, Any]) -> None:
    """Check all of a checkpoint that can be checked without the trainer that goes on from it.

    Args:
        path: path of the checkpoint, named in errors.
        content: its content, canonical (:func:`spikelfp.untrusted.tensors.canonical`); a checkpoint of weights alone
            lacks the rest.

    Raises:
        CheckpointError: naming the first value that is wrong.
    """
    whole = Field(path, "", content)
    checks = {
        "weights": _check_weights, "optimizer": _check_optimizer, "schedule": _check_schedule, "tally": _check_tally,
        "position": check_position, "history": _check_history, "random": _check_random, "events": _check_events,
        "network": _check_texts, "attributes": _check_texts, "rules": _check_texts, "method_state": _check_method_state,
        "schedule_kind": _check_kind,
    }  # fmt: skip
    for name, field in whole.items():
        if name in checks:
            checks[name](field)
        else:
            _check_plain(field)


def check_position(field: Field) -> Position:
    """Read where training stands."""
    field.mapping(("epoch", "batch", "step"), ("epoch", "batch", "step"))
    place = Position(*(field.at(name).whole() for name in ("epoch", "batch", "step")))
    if place.step < place.batch:
        field.at("step").refuse(f"at least the {place.batch} batches of the epoch")
    return place


def check_place(path: str | Path, content: dict[str, Any]) -> None:
    """Check position, plan, tally and history against each other.

    Raises:
        CheckpointError: naming the first value that does not fit the others.
    """
    place, whole = Position(**content["position"]), Field(path, "", content)
    whole.mapping(("total_steps",))
    total = content["total_steps"]
    if total is not None:
        whole.at("total_steps").whole()
    for name, most in (("schedule_start", MOST if total is None else total), ("epoch_steps", MOST)):
        if content.get(name) is not None:
            whole.at(name).whole(0, most)
    steps = content.get("epoch_steps")
    if steps is not None and place.batch > steps:
        whole.at("position").at("batch").refuse(f"at most the {steps} steps of an epoch")
    if "tally" in content and content["tally"]["batches"] != place.batch:
        whole.at("tally").at("batches").refuse(f"the {place.batch} batches of the position")
    if "history" in content:
        if len(content["history"]) != place.epoch:
            whole.at("history").refuse(f"a row for each of the {place.epoch} epochs that are done")
        for i, row in enumerate(whole.at("history").sequence()):
            if row.value["epoch"] != i + 1:
                row.at("epoch").refuse(str(i + 1))
    if content.get("schedule") is not None and total is None:
        whole.at("schedule").refuse("none, since total_steps is none")


def _check_weights(field: Field) -> None:
    for name, each in field.items():
        if not isinstance(each.value, Tensor) and not name.endswith("_extra_state"):
            each.refuse("a tensor")
    versions = vars(field.value).get("_metadata") if isinstance(field.value, OrderedDict) else None
    if versions is not None:
        for _, each in Field(field.source, "weights._metadata", versions).items():
            if each.mapping().get("version") is not None:
                each.at("version").whole()


def _check_optimizer(field: Field) -> None:
    field.mapping(("state", "param_groups"), ("state", "param_groups"))
    state = field.at("state")
    for number in state.mapping():
        if type(number) is not int or number < 0:
            state.refuse("numbers of parameters", f"a mapping with the key {brief(number)}")
        for _, each in state.at(number).items():
            _check_plain(each, tensors=True)
    for group in field.at("param_groups").sequence():
        group.mapping(("params",))
        for number in group.at("params").sequence():
            number.whole()
        for _, each in group.items():
            _check_plain(each, tensors=True)


def _check_schedule(field: Field) -> None:
    if field.value is None:
        return
    for _, each in field.items():
        _check_plain(each, tensors=True)
    for name in ("last_epoch", "_step_count"):
        if name in field.value:
            field.at(name).whole(0 if name == "_step_count" else -1)


def _check_method_state(field: Field) -> None:
    """Check the state of a method: plain values and finite tensors, and states of generators."""
    for name, each in field.items():
        if name == GENERATOR:
            _check_generator(each)
        elif isinstance(each.value, dict) and all(isinstance(key, str) for key in each.value):
            _check_method_state(each)
        else:
            _check_plain(each, tensors=True)


def _check_generator(field: Field) -> None:
    if isinstance(field.value, Tensor) and field.value.shape == (16,):
        _check_cuda(field)
    else:
        _check_torch(field)


def _check_kind(field: Field) -> None:
    if field.value is not None:
        field.text()


def _check_plain(field: Field, tensors: bool = False) -> None:
    """Check a value of any plain type, and tensors in it for being finite."""
    value = field.value
    if isinstance(value, Tensor):
        if not tensors:
            field.refuse("a number, text or containers of them")
        field.tensor()
    elif isinstance(value, dict):
        for key in value:
            _check_plain(field.at(key), tensors)
    elif isinstance(value, list | tuple):
        for i in range(len(value)):
            _check_plain(field.at(i), tensors)
    elif type(value) is float and math.isnan(value):
        field.refuse("a number")


def _check_tally(field: Field) -> None:
    needed = ("samples", "batches", "sums", "density", "density_looks")
    field.mapping(needed, (*needed, "correct", "counts", "classified", "score", "judged"))
    batches = field.at("batches").whole()
    samples = field.at("samples").whole(min(batches, 1))
    looks = field.at("density_looks").whole(0, batches)
    field.at("density").number(0, looks)
    if "correct" in field.value:
        _number(field.at("correct"), 0, samples)
    for name in ("classified", "judged"):
        if name in field.value:
            field.at(name).flag()
    for name, each in field.at("score").items() if "score" in field.value else ():
        if not isinstance(each.value, Tensor):
            each.refuse("a tensor")
        value = each.tensor()
        if value.dtype == torch.bool or value.dim() > 1:
            each.refuse("a number, or a row of them")
        if name == "samples" or (name == "correct" and "steps" not in field.value["score"]):
            _number(each, 0, samples)
    for _, each in field.at("sums").items():
        _number(each)
    counts = field.value.get("counts")
    if counts is not None:
        field.at("counts").mapping(field.value["sums"], field.value["sums"])
        for _, each in field.at("counts").items():
            each.whole(1, batches)


def _number(field: Field, low: float = -math.inf, high: float = math.inf) -> None:
    """Check a finite number, or a tensor of one."""
    value = field.value
    if isinstance(value, Tensor):
        value = field.tensor(())
        if value.dtype == torch.bool:
            field.refuse("a number")
        Field(field.source, field.name, value.item()).number(low, high)
    else:
        field.number(low, high)


def _check_history(field: Field) -> None:
    """Check the rows of all epochs; callers may add entries of their own to them."""
    known = _numbers()
    for row in field.sequence():
        row.mapping(("epoch", "lr"))
        row.at("epoch").whole(1)
        for name, each in row.items():
            if name == "lr":
                _number(each, 0)
            elif name in _SHARES:
                each.number(0, 1)
            elif name in known and type(each.value) not in (int, float):
                _number(each)


def _check_events(field: Field) -> None:
    for _, each in field.items():
        each.flag()


def _check_texts(field: Field) -> None:
    for _, each in field.items():
        each.text()


def _check_random(field: Field) -> None:
    field.mapping(("torch", "cuda", "numpy", "python"), ("torch", "cuda", "numpy", "python"))
    _check_torch(field.at("torch"))
    for each in field.at("cuda").sequence():
        _check_cuda(each)
    kind, keys, position, has_gauss, cached = field.at("numpy").sequence(5, tuple)
    kind.text(("MT19937",))
    words = keys.tensor((_TWISTER,), torch.int64)
    if int(words.min()) < 0 or int(words.max()) >= _WORD:
        keys.refuse("words of 32 bits", "a tensor of other numbers")
    position.whole(0, _TWISTER)
    has_gauss.whole(0, 1)
    cached.number()
    version, internal, gauss = field.at("python").sequence(3, tuple)
    version.whole(3, 3)
    numbers = internal.sequence(_TWISTER + 1)
    for each in numbers[:-1]:
        each.whole(0, _WORD - 1)
    numbers[-1].whole(0, _TWISTER)
    if gauss.value is not None:
        gauss.number()


def _check_cuda(field: Field) -> None:
    offset = int(field.tensor((16,), torch.uint8).contiguous()[8:].numpy().view("<i8")[0])
    if offset % 4 or offset < 0:
        field.refuse("a state of a generator on a GPU", "a state with an offset that is none")


def _check_torch(field: Field) -> None:
    """Check the state of torch's generator, which takes any bytes and then reads beyond its own memory."""
    state = field.tensor((_TORCH.itemsize,), torch.uint8).contiguous().numpy().view(_TORCH)[0]
    left, place = int(state["left"]), int(state["next"])
    fits = (
        state["seeded"] == 1
        and 1 <= left <= _TWISTER
        and (left + place == _TWISTER + 1 or (left, place) == (1, 0))
        and int(state["state"].max()) < _WORD
        and state["has_normal"] in (0, 1)
        and state["has_float"] in (0, 1)
        and all(math.isfinite(state[name]) for name in ("x", "y", "rho", "normal"))
    )
    if not fits:
        field.refuse("a state of torch's random generator", "5056 bytes that are none")


# State of an optimiser and a schedule, checked against those of the trainer that goes on from it.

COMPUTE_OPTIONS = ("fused", "foreach", "capturable", "differentiable")
"""Options of torch's optimisers that change how they compute and not the result."""


_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)
"""Sizes of the axes of small parameters, told apart from each other."""


def parameter_states(optimizer: Optimizer) -> list[dict[str, Any] | None]:
    """Find the state that ``optimizer`` keeps for each parameter once it has stepped, in the order of its state.

    An optimiser of the same class and settings steps once over small parameters of zeros.

    Returns:
        State by name: tensors without memory, and other values as they are after a step by zeros; ``None`` where that
        cannot be found out.
    """
    found: list[dict[str, Any] | None] = []
    known: dict[Any, dict[str, Any] | None] = {}
    for number, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            kind = (number, tuple(p.shape), p.dtype)
            if kind not in known:
                known[kind] = _state_of(optimizer, group, p)
            found.append(known[kind])
    return found


def remake_schedule(
    optimizer: Optimizer, groups: list[dict[str, Any]], schedule: Schedule, steps: int
) -> tuple[LRScheduler, list[dict[str, Any]]] | None:
    """Make a schedule over ``steps`` steps once more, for the state that it has at its start.

    Args:
        optimizer: its optimiser, which is left as it is.
        groups: options of the optimiser's parameter groups before any schedule.
        schedule: the trainer's schedule.
        steps: number of its steps.

    Returns:
        The schedule and the options of the groups under it; ``None`` where it cannot be made for another optimiser.
    """
    if schedule.made:
        made = schedule.make(optimizer, steps)
        return made, [_options(group) for group in optimizer.param_groups]
    try:
        with _quietly():
            other = _stand_in(optimizer, [{**_options(group), "params": [torch.zeros(1)]} for group in groups])
            return schedule.make(other, steps), [_options(group) for group in other.param_groups]
    except Exception:  # a function of the user, which may take this optimiser alone
        return None


def _state_of(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> dict[str, Any] | None:
    """Step once over a small parameter with as many axes and return its state; over one as large where that fails."""
    small = [size if size < 2 else prime for size, prime in zip(parameter.shape, _SIZES, strict=False)]
    if len(small) == parameter.dim():
        kept = _kept(optimizer, group, torch.zeros(small, dtype=parameter.dtype))
        large = dict(zip(small, parameter.shape, strict=True)) | {1: 1}
        if kept is None or all(size in large for each in kept.values() for size in _shape(each)):
            return kept and {name: _like(each, [large[size] for size in _shape(each)]) for name, each in kept.items()}
    kept = _kept(optimizer, group, torch.zeros(parameter.shape, dtype=parameter.dtype))
    return kept and {name: _like(each, _shape(each)) for name, each in kept.items()}


def _kept(optimizer: Optimizer, group: dict[str, Any], own: Tensor) -> dict[str, Any] | None:
    try:
        with _quietly():
            own.requires_grad_(True).grad = torch.zeros_like(own)
            options = {name: None if name in COMPUTE_OPTIONS[:2] else False if name in COMPUTE_OPTIONS else value
                       for name, value in _options(group).items()}  # fmt: skip
            made = _stand_in(optimizer, [{**options, "params": [own]}])
            type(made).step(made)
            return dict(made.state[own])
    except Exception:  # an optimiser of the user, which may want anything
        return None


def _shape(value: Any) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []


def _like(value: Any, shape: list[int]) -> Any:
    """Make a tensor without memory of this shape and the type of ``value``; anything else stays."""
    return torch.empty(shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _stand_in(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """Make an optimiser of the same class and settings over other parameters, without its hooks."""
    left = ("state", "param_groups", "step")
    own = {name: value for name, value in vars(optimizer).items() if name not in left and "hooks" not in name}
    made: Optimizer = object.__new__(type(optimizer))
    made.__setstate__({**copy.deepcopy(own), "state": defaultdict(dict), "param_groups": groups})
    return made


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave random states as they are and give no warnings within the block."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_POSITIVE = frozenset(
    (
        "step", "exp_avg_sq", "max_exp_avg_sq", "sum", "square_avg", "acc_delta", "exp_inf", "step_size", "row_var",
        "col_var", "variance", "mu_product", "eta", "mu",
        "lr", "initial_lr", "max_lr", "min_lr", "weight_decay", "eps", "lr_decay", "lambd", "t0",
    )
)  # fmt: skip
"""States and options of torch's optimisers that are 0 or more; with others their steps are NaN."""

_FRACTIONS = frozenset(("betas", "momentum", "alpha", "rho", "base_momentum", "max_momentum"))
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
        path: path of the checkpoint, named in errors.
        content: its content.
        optimizer: optimiser of the trainer, which is left as it is.
        groups: options of its parameter groups under the schedule of the checkpoint, or ``None`` if they are not known.

    Returns:
        The state to load: laid out in memory as the parameters are, with this optimiser's options on how to compute.

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
    expected = dict(zip(numbers, zip(parameters, parameter_states(optimizer), strict=True), strict=True))
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
                _check_parameter_state(one, name, wanted[name])
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

    Args:
        path: path of the checkpoint, named in errors.
        content: its content.
        optimizer: optimiser of the trainer.
        groups: options of its parameter groups before any schedule.
        schedule: schedule of the trainer.

    Returns:
        Options of the parameter groups under that schedule; ``None`` where they are not known.

    Raises:
        CheckpointError: for a schedule of another kind, and naming the first value of its state that does not fit.
    """
    if content.get("schedule") is None:
        return groups if not schedule.made else None
    plan = Planned.of(content)
    made = remake_schedule(optimizer, groups, schedule, plan.scheduled)
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
    """Check the state of a schedule against ``scheduler``, which is at its start.

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
    """Copy a schedule's state without its functions, which are made anew with it."""
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
        if name in known and name not in COMPUTE_OPTIONS:
            _check_option(each, name, known[name])
    values = {
        name: own[name] if name in COMPUTE_OPTIONS and name in own else value for name, value in field.value.items()
    }
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
    low, high = (0, math.inf) if name in _POSITIVE else (0, 1) if name in _FRACTIONS else (-math.inf, math.inf)
    least, largest = (value.min(), value.max()) if isinstance(value, Tensor) and value.numel() else (value, value)
    if bool(torch.as_tensor(least < low)) or bool(torch.as_tensor(largest > high)):
        field.refuse("numbers of 0 or more" if high == math.inf else "numbers from 0 to 1")


def _check_parameter_state(field: Field, name: str, wanted: Any) -> None:
    """Check the state of a parameter against the state that its optimiser keeps under this name."""
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
    """Copy a tensor of the shape of a parameter to the memory order of the parameter."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    placed = torch.empty_like(parameter, dtype=value.dtype, device="cpu")
    return placed.copy_(value)


def check_layers(path: str | Path, content: dict[str, Any], names: Collection[str]) -> None:
    """Check the layers that are recorded to have made their products event by event.

    Args:
        path: path of the checkpoint, named in errors.
        content: its content; that of the first version lacks them.
        names: layers of the network that may do so.

    Raises:
        CheckpointError: for a layer that is missing, and one that the network has not.
    """
    if "events" in content:
        Field(path, "events", content["events"]).mapping(names, names)
