"""Checkpoints: tensors and plain data only, so they load with ``torch.load(weights_only=True)``.

A checkpoint holds the weights, the states of optimiser and schedule, the random states, the position in the epoch
with the sums so far, and which layers made their last products event by event. Training that goes on from it is the
same, bit for bit, as if never stopped.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from spikelfp.errors import CheckpointError, UserError
from spikelfp.files import write_tensors
from spikelfp.kernels.choice import choices
from spikelfp.methods import Method
from spikelfp.methods.base import check_unsaved, unsaved_attributes
from spikelfp.nn import Recomputed, TapLinear
from spikelfp.nn.layer import Layer, plain_attributes
from spikelfp.nn.neurons.base import LEAST_DECAY, ConstantLayer
from spikelfp.options import described
from spikelfp.rules import Composite, Feedback, Rule, lending
from spikelfp.terminal import brief, first_line, plain
from spikelfp.training.optim import Planned
from spikelfp.training.schema import (
    check_content,
    check_layers,
    check_place,
    check_schedule,
    fitted_optimizer,
    fitted_schedule,
    without_functions,
)
from spikelfp.training.update import MEASURED, Position, Tally
from spikelfp.untrusted.tensors import NotPlainError, canonical, load_plain
from spikelfp.untrusted.text import is_finite

if TYPE_CHECKING:
    from spikelfp.training.trainer import Trainer

FORMAT = 1
"""Version of the layout below."""

_LONGEST = 300  # characters of a setting in an error


def save(path: str | Path, trainer: Trainer) -> None:
    """Write everything that :func:`load` needs to go on bit for bit; the file is written as a whole or not at all.

    Args:
        path: path of the checkpoint.
        trainer: a trainer between two steps or two epochs.

    Raises:
        UserError: for a method with state that would be lost, naming it.
        SaveError: when the file cannot be written.
    """
    net, method, source = trainer.net, trainer.method, trainer._source_now
    trainer._prepare_method()
    check_unsaved(trainer._unkept, unsaved_attributes(method, net))
    write(
        path,
        {
            "weights": net.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            **schedule_state(trainer),
            **trainer._settings(),
            **network_description(net),
            "rules": layer_rules(net, method.rule),
            "method_state": method.state_dict(),
            **vars(trainer.planned),
            "position": vars(trainer.position),
            "tally": vars(trainer.tally),
            "history": [{name: row[name] for name in row if name not in MEASURED} for row in trainer.history],
            "random": random_states(),
            "samples": trainer._samples if source is None else source.fingerprint(),
            "events": {name: choice.events for name, choice in choices(net).items()},
        },
    )


def schedule_state(trainer: Trainer) -> dict[str, Any]:
    """Return state and kind of a trainer's schedule, as ``schedule`` and ``schedule_kind``; both may be ``None``."""
    if trainer._restored is not None:  # loaded, and not gone on since
        return {name: trainer._restored[name] for name in ("schedule", "schedule_kind")}
    if trainer.scheduler is None:
        return {"schedule": None, "schedule_kind": None}
    state = without_functions(trainer.scheduler.state_dict())
    return {"schedule": state, "schedule_kind": type(trainer.scheduler).__name__}


def load(path: str | Path, trainer: Trainer) -> None:
    """Bring a trainer to where a checkpoint left another of the same network and settings.

    Everything is checked first; nothing changes where it does not fit.

    Args:
        path: path of the checkpoint. Those of the first version lack ``method_state``, ``samples`` and ``events``.
        trainer: a trainer of the same network, rules and settings.

    Raises:
        CheckpointError: for a file that is no checkpoint, and for the first parameter, constant of a layer, rule or
            setting that differs, with both values.
    """
    net, method, content = trainer.net, trainer.method, read(path)
    check_weights(path, net, content)
    check_constants(path, net, content)
    check_complete(path, content)
    check_settings(path, content, trainer._settings())
    check_rules(path, layer_rules(net, method.rule), content)
    groups = fitted_schedule(path, content, trainer.optimizer, trainer._groups, trainer.schedule)
    state = fitted_optimizer(path, content, trainer.optimizer, groups)
    check_layers(path, content, choices(net))
    tally = Tally.of(content["tally"])
    try:
        tally.judgement(trainer.task)
    except (KeyError, RuntimeError, ZeroDivisionError):
        raise CheckpointError(
            f"{path} holds sums {', '.join(tally.score)}, which are none of {trainer.task!r}"
        ) from None
    trainer._prepare_method()
    before = method.state_dict()
    _load_state(path, "method", method, content.get("method_state", {}))
    try:
        _load_state(path, "optimiser", trainer.optimizer, state)
        put_weights(path, net, content)
    except CheckpointError:
        method.load_state_dict(before)
        raise
    trainer._restored = {name: content.get(name) for name in ("schedule", "schedule_kind")}
    trainer._restored |= {"optimizer": state, "path": path}
    trainer.position, trainer.tally = Position(**content["position"]), tally
    trainer.history, trainer.planned = content["history"], Planned.of(content)
    trainer._source_now, trainer._samples = None, str(content.get("samples", ""))
    restore_random(content["random"])
    for name, choice in choices(net).items():
        choice.events = content.get("events", {}).get(name, choice.events)


def load_method(path: str | Path, trainer: Trainer, part: str | None = None) -> None:
    """Give a trainer's method the state that a run's method had, without anything else of the checkpoint.

    Feedback weights and errors of samples come back by it, where training goes on from the weights of a checkpoint.

    Args:
        path: path of the checkpoint. One without a state, such as that of initial weights, changes nothing.
        trainer: a trainer of the same network and method.
        part: ``"then"`` for a trainer without the warm-up that the run had.

    Raises:
        CheckpointError: for a file that is no checkpoint, and a state that does not fit.
    """
    state = read(path).get("method_state", {})
    if not state:
        return
    trainer._prepare_method()
    _load_state(path, "method", trainer.method, state if part is None else state.get(part, {}))


def _load_state(path: str | Path, what: str, owner: Method | Optimizer, state: dict[str, Any]) -> None:
    """Load the state of a method or an optimiser, all of it or nothing."""
    before = owner.state_dict()
    try:
        owner.load_state_dict(state)
    except Exception as error:  # of one that somebody else made
        owner.load_state_dict(before)
        raise CheckpointError(f"{path} holds the state of another {what}: {first_line(error)}") from None


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Write ``content`` as a whole or not at all; equal content gives equal bytes.

    Args:
        path: path of the checkpoint.
        content: tensors and plain data.

    Raises:
        UserError: for a value that would not load again, naming it.
        SaveError: when it cannot be written.
    """
    try:
        known = canonical({"format": FORMAT, **content})
    except NotPlainError as error:
        raise UserError(f"a checkpoint holds tensors, numbers and texts: {error}") from None
    write_tensors(path, known)


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint and check all that can be checked without a network.

    Args:
        path: path of the checkpoint.

    Returns:
        Its content, tensors and plain data.

    Raises:
        CheckpointError: when it is missing, damaged or of another program, naming the first fault.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        content = load_plain(path)
    except NotPlainError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except (UserError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({error}); it may be truncated or of another program"
        ) from None
    known = isinstance(content, dict) and type(content.get("format")) is int and content["format"] == FORMAT
    if not known or "weights" not in content:
        found = brief(content.get("format") if isinstance(content, dict) else type(content).__name__)
        raise CheckpointError(f"{path} is no checkpoint of this version (format {found}, expected {FORMAT})")
    check_content(path, content)
    return content


def load_weights(path: str | Path, net: torch.nn.Module, content: dict[str, Any] | None = None) -> None:
    """Load the weights of a checkpoint into the network that they were trained in.

    Args:
        path: path of the checkpoint.
        net: the network; it stays as it is when they do not fit.
        content: content of the checkpoint, if it was read already.

    Raises:
        CheckpointError: naming the first parameter, or constant of a layer, that differs.
    """
    content = content or read(path)
    check_weights(path, net, content)
    check_constants(path, net, content)
    put_weights(path, net, content)


def put_weights(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Load weights that were checked; where a layer of the user's refuses its own, all weights stay as they were.

    Raises:
        CheckpointError: with the reason of the layer.
    """
    own = net.state_dict()
    before = {name: value.clone() if isinstance(value, Tensor) else value for name, value in own.items()}
    try:
        net.load_state_dict(content["weights"])
    except Exception as error:
        _put_back(net, before)
        told = [
            line.strip() for line in str(error).splitlines() if line.strip()
        ]  # torch opens with a line of no reason
        raise CheckpointError(
            f"{path} does not load: {plain(told[1] if len(told) > 1 else first_line(error))}"
        ) from None


def _put_back(net: torch.nn.Module, before: dict[str, Any]) -> None:
    """Give a network back its values, also where a layer refuses them, such as a buffer expanded over itself."""
    with suppress(Exception):
        return net.load_state_dict(before)
    own = net.state_dict()
    for name, value in before.items():
        if isinstance(value, Tensor) and not torch.equal(own[name], value):
            own[name].copy_(value)


def check_shapes(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Check that ``content`` has weights of the shapes of a network, which may be on torch's meta device.

    Raises:
        CheckpointError: naming the first that is missing or of another shape.
    """
    weights = content["weights"]
    for name, own in net.state_dict().items():
        theirs = weights.get(name) if isinstance(weights, dict) else None
        if isinstance(own, Tensor) and (not isinstance(theirs, Tensor) or theirs.shape != own.shape):
            found = tuple(theirs.shape) if isinstance(theirs, Tensor) else "nothing"
            raise CheckpointError(
                f"{path} is from another model: {plain(name)} is {found} in the checkpoint, {tuple(own.shape)} in "
                "the network"
            )


def chosen_masks(net: torch.nn.Module, weights: Collection[str]) -> dict[str, Tensor]:
    """Return masks of chosen delays that the ``weights`` of a checkpoint have and a fresh network does not.

    Args:
        net: the network.
        weights: names of the weights.
    """
    names = {f"{name}.mask": layer for name, layer in net.named_modules() if isinstance(layer, TapLinear)}
    return {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in names.items() if name in weights}


def check_weights(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Check the weights of ``content`` against a network.

    Raises:
        CheckpointError: naming the first parameter that is missing, of another shape or type, or not finite.
    """
    weights = content["weights"]
    own, foreign = net.state_dict() | chosen_masks(net, weights), _foreign_buffers(net)
    for name in [*own, *weights]:
        mine, theirs = own.get(name), weights.get(name)
        shapes = [tuple(each.shape) if isinstance(each, Tensor) else "nothing" if each is None else brief(each)
                  for each in (theirs, mine)]  # fmt: skip
        if (name in weights) != (name in own) or shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{path} is from another model: {plain(name)} is {shapes[0]} in the checkpoint, {shapes[1]} in the "
                "network"
            )
        if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
            if mine.dtype != theirs.dtype:
                raise CheckpointError(
                    f"{path} is from another model: {name} is {theirs.dtype} in the checkpoint, {mine.dtype} in the "
                    "network"
                )
            if not is_finite(theirs) and not _is_kept(theirs, mine.cpu(), name in foreign):
                raise CheckpointError(
                    f"{path} cannot be used: {name} holds NaN or infinity; a smaller learning rate, or an earlier "
                    "checkpoint, may help"
                )
    _check_ranges(path, net, weights)


def _foreign_buffers(net: torch.nn.Module) -> set[str]:
    """Name the buffers of layers that are neither torch's nor of this package: their content is not checked."""
    return {
        f"{name}.{own}" if name else own
        for name, layer in net.named_modules()
        if type(layer).__module__.partition(".")[0] not in ("spikelfp", "torch")
        for own, _ in layer.named_buffers(recurse=False)
    }


def _is_kept(theirs: Tensor, mine: Tensor, foreign: bool) -> bool:
    """Whether all entries that are not finite are so in the network, too: a mask of −∞, a channel not yet seen.

    NaN passes only where it is ``foreign``: in the buffer of a layer of the user's.
    """
    theirs, mine = (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t.double() for t in (theirs, mine))
    both = theirs == mine
    if foreign:
        both |= theirs.isnan() & mine.isnan()
    return bool((both | theirs.isfinite()).all())


def _check_ranges(path: str | Path, net: torch.nn.Module, weights: dict[str, Any]) -> None:
    """Refuse variances, counts, scales and decays that training cannot have led to."""
    least = {"running_var": 0.0, "num_batches_tracked": 0.0, "weight_scale": 5e-324}
    for name, layer in net.named_modules():
        for own, low in least.items():
            key = f"{name}.{own}" if name else own
            value = weights.get(key)
            if isinstance(value, Tensor) and value.numel() and hasattr(layer, own) and value.min().item() < low:
                raise CheckpointError(
                    f"{path} is damaged: {key} is {value.min().item():g} in places, expected "
                    + ("0 or more" if low == 0 else "a number above 0")
                )
        if isinstance(layer, ConstantLayer):
            _check_neurons(path, name, layer, weights)


def _check_neurons(path: str | Path, name: str, layer: ConstantLayer, weights: dict[str, Any]) -> None:
    """Refuse constants of neurons that learn, or that each neuron has its own of, where they are out of range."""
    for constant, each in layer.neuron_constants().items():
        if each.parameter(layer) is not None:
            key = f"{name}.{each.learned}" if name else str(each.learned)
            for bound in weights[key].detach().aminmax():
                if not 0.99 * LEAST_DECAY <= float(bound) <= 1:
                    raise CheckpointError(
                        f"{path} is damaged: {key} is {float(bound):g}, expected a decay from {LEAST_DECAY} to 1"
                    )
        elif isinstance(getattr(layer, constant), Tensor):
            key = f"{name}.{each.buffer}" if name else each.buffer
            try:
                each.check(constant, weights[key])
            except UserError as error:
                raise CheckpointError(f"{path} is damaged: {key}: {error}") from None


def constants(net: torch.nn.Module) -> dict[str, str]:
    """Describe each layer by its kind and its constants, by name: all that weights alone do not tell.

    A layer prints them (``extra_repr``): β, θ, reset, denominator, strides, the ε of a norm, … A β that learns, and
    constants with one for each neuron, are among the weights; here stands their shape
    (:meth:`~spikelfp.nn.Layer.saved_repr`).
    """
    found = {}
    for name, layer in net.named_modules():
        if not isinstance(layer, Recomputed):  # how it runs, not what comes out
            told = layer.saved_repr() if isinstance(layer, Layer) else layer.extra_repr()
            text = " ".join(told.split())
            own = type(layer).__module__.partition(".")[0] not in ("spikelfp", "torch") and any(layer.children())
            kind = "module" if own else getattr(type(layer), "described_as", type(layer).__name__)
            found[name] = f"{kind}({text})"  # the user's own class may be renamed
    return found


def network_description(net: torch.nn.Module) -> dict[str, dict[str, str]]:
    """Describe a network as checkpoints keep it beside the weights: :func:`constants` and :func:`attributes`."""
    return {"network": constants(net), "attributes": attributes(net)}


def attributes(net: torch.nn.Module) -> dict[str, str]:
    """List the plain attributes of layers of the user's by name, ``"1.kappa"``, each as text (``plain_attributes``)."""
    found = {}
    for name, layer in net.named_modules():
        if not isinstance(layer, Recomputed):
            known = layer.neuron_constants() if isinstance(layer, ConstantLayer) else {}
            for attribute, text in plain_attributes(layer).items():
                if attribute not in known:
                    short = text if len(text) <= _LONGEST else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
                    found[f"{name}.{attribute}" if name else attribute] = short
    return found


def layer_rules(net: torch.nn.Module, rule: Rule | Composite) -> dict[str, str]:
    """Describe the rule of each layer by name, while a method lends ``rule`` to those without one."""
    with lending(net, rule):
        own = {name: getattr(layer, "rule", None) for name, layer in net.named_modules()}
    return {name: _described_rule(each) for name, each in own.items() if isinstance(each, Rule)}


def _described_rule(rule: Rule) -> str:
    """Describe the rule of a layer; there ``None`` and constant statistics are the same, and not written."""
    if isinstance(rule, Feedback) and rule.constant_statistics:
        rule = copy.copy(rule)
        object.__setattr__(rule, "constant_statistics", None)
    return described(rule)


def check_constants(path: str | Path, net: torch.nn.Module, content: dict[str, Any]) -> None:
    """Refuse a network whose constants differ from those of the checkpoint.

    Checkpoints of the first versions lack the constants, or the attributes of layers of the user's, and pass.

    Raises:
        CheckpointError: naming the first layer that differs, with both values.
    """
    _check_layers(path, "", content.get("network"), constants(net))
    there, own = content.get("attributes"), attributes(net)
    if there is None:
        return
    for name in dict.fromkeys([*there, *own]):
        before, now = (each.get(name, "missing") for each in (there, own))
        if before != now:
            layer, _, attribute = name.rpartition(".")
            raise CheckpointError(
                f"{path} is from another network: {plain(attribute)} of "
                f"{f'layer {plain(layer)}' if layer else 'the network'} is {plain(before)} in the checkpoint, {now} "
                "here; an attribute that changes as the network runs has a name that begins with _"
            )


def check_rules(path: str | Path, own: dict[str, str], content: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.CheckpointError` for the first layer that was trained by another rule."""
    _check_layers(path, "the rule of ", content.get("rules"), own)


def _check_layers(path: str | Path, what: str, there: dict[str, str] | None, own: dict[str, str]) -> None:
    if there is None:
        return
    for name in dict.fromkeys([*there, *own]):
        before, now = (each.get(name, "missing") for each in (there or {}, own))
        if before != now:
            layer = f"layer {plain(name)}" if name else "the network"
            raise CheckpointError(
                f"{path} is from another network: {what}{layer} is {plain(before)} in the checkpoint, {now} here"
            )


def check_complete(path: str | Path, content: dict[str, Any]) -> None:
    """Refuse a checkpoint that training cannot go on from.

    Raises:
        CheckpointError: for weights alone, and where position, plan and history do not fit each other.
    """
    missing = [name for name in ("optimizer", "position", "tally", "history", "random") if name not in content]
    if missing:
        raise CheckpointError(
            f"{path} holds weights alone, without the state of training ({', '.join(missing)}): "
            "training.checkpoint.load_weights(path, net) loads them for a new start"
        )
    check_place(path, content)


def check_settings(
    path: str | Path, content: dict[str, Any], settings: dict[str, Any], who: str = "this trainer has"
) -> None:
    """Refuse settings that differ from those of the checkpoint.

    Args:
        path: path of the checkpoint.
        content: its content.
        settings: settings by name; those that an early version did not write pass.
        who: the owner of the settings, in errors.

    Raises:
        CheckpointError: naming the first setting that differs.
    """
    for what, own in settings.items():
        there = content.get(what, own)  # the first version wrote fewer of them
        if isinstance(there, bool) != isinstance(own, bool) or there != own:
            texts = (plain(str(each)) for each in (there, own))
            before, now = (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for text in texts)
            raise CheckpointError(f"{path} was written with {plain(what)} {before}, {who} {now}")


def restore_schedule(path: str | Path, scheduler: Any, optimizer: Optimizer, content: dict[str, Any]) -> None:
    """Bring a schedule, and its optimiser, to where the checkpoint left them.

    Args:
        path: path of the checkpoint, named in errors.
        scheduler: a new schedule, at its start.
        optimizer: its optimiser, which it has put to its start.
        content: ``schedule``, ``schedule_kind`` and the ``optimizer`` as it was fitted.

    Raises:
        CheckpointError: for a schedule of another kind, or a state that does not fit.
    """
    check_schedule(path, content, scheduler)
    own = without_functions(scheduler.state_dict())
    try:
        scheduler.load_state_dict({name: content["schedule"].get(name, value) for name, value in own.items()})
    except Exception as error:  # of a schedule that somebody else made
        raise CheckpointError(f"{path} holds the state of another schedule: {first_line(error)}") from None
    optimizer.load_state_dict(content["optimizer"])


def random_states() -> dict[str, Any]:
    """Return the states of torch's (all devices), numpy's and Python's random generators."""
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
    torch.set_rng_state(states["torch"].contiguous())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([each.contiguous() for each in states["cuda"][: torch.cuda.device_count()]])
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
