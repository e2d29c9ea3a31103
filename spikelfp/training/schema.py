"""Schema of a checkpoint, value by value: anything else is refused before a trainer looks at it."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelfp.errors import RunFolderError
from spikelfp.methods.base import GENERATOR
from spikelfp.tasks import tasks
from spikelfp.terminal import brief
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

_MOST_ELEMENTS, _MOST_CLASSES = 1 << 26, 1 << 20  # of a sample
_MOST_AXES = 8

_SHARES = ("train_accuracy", "update_density")
"""Entries of a row of the history that lie in [0, 1]."""

_NUMBERS = ("reward", "reward_magnitude", "loss", "seconds")
"""Other entries that are numbers, though not always finite ones; so are scores and losses of the parts of the data."""


def _numbers() -> set[str]:
    measured = ["loss", *(tasks[name].score for name in tasks)]
    return {*_NUMBERS, *(f"{part}_{name}" for part in ("train", "validation", "test") for name in measured)}


def check_content(path: str | Path, content: dict[str, Any]) -> None:
    """Check all of a checkpoint that can be told without the trainer that goes on from it.

    Args:
        path: of the checkpoint, named in errors.
        content: canonical (:func:`spikelfp.untrusted.tensors.canonical`); a checkpoint of weights alone lacks the rest.

    Raises:
        CheckpointError: naming the first value that is none.
    """
    whole = Field(path, "", content)
    checks = {
        "weights": _check_weights, "optimizer": _check_optimizer, "schedule": _check_schedule, "tally": _check_tally,
        "position": check_position, "history": _check_history, "random": _check_random, "events": _check_events,
        "network": _check_texts, "attributes": _check_texts, "rules": _check_texts, "method_state": _check_state,
        "schedule_kind": _check_kind,
    }  # fmt: skip
    for name, field in whole.items():
        if name in checks:
            checks[name](field)
        else:
            _check_plain(field)


def check_found(path: str | Path, values: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Read what ``config.yaml`` of a run says of its data, and check what it says of layers that were woken.

    Returns:
        Shape of a sample, and number of classes or other outputs.

    Raises:
        RunFolderError: naming the first value that is none.
    """
    found = Field(path, "", values, RunFolderError)
    outputs = "classes" if "classes" in values else "outputs"
    found.mapping(("shape", outputs))
    axes = found.at("shape").sequence()
    if not 1 <= len(axes) <= _MOST_AXES:
        found.at("shape").refuse(f"a list of 1 to {_MOST_AXES} sizes")
    shape = tuple(each.whole(1, _MOST_ELEMENTS) for each in axes)
    if not 1 <= math.prod(shape) <= _MOST_ELEMENTS:
        found.at("shape").refuse(f"a sample of at most {_MOST_ELEMENTS} elements")
    if values.get("woken") is not None:
        for _, factor in found.at("woken").items():
            factor.number(5e-324)
    for names in ("class_names", "names"):
        for name in found.at(names).sequence() if values.get(names) is not None else ():
            if not isinstance(name.value, str | int | float):
                name.refuse("text")
    if values.get("samples") is not None:
        for _, each in found.at("samples").items():
            each.text()
    return shape, found.at(outputs).whole(1, _MOST_CLASSES)


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


def _check_state(field: Field) -> None:
    """Check the state of a method: plain values and finite tensors, and states of generators."""
    for name, each in field.items():
        if name == GENERATOR:
            _check_generator(each)
        elif isinstance(each.value, dict) and all(isinstance(key, str) for key in each.value):
            _check_state(each)
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
    """Check the rows of all epochs; those who train add what they like to them."""
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
    """Check the state of torch's generator, which takes any bytes, and then reads beyond its own memory."""
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
