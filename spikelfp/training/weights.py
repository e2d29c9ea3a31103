"""Weights that a run starts from: those of another run, of a checkpoint, or a file of tensors by name.

Files come from anywhere. They are read as plain data (:mod:`spikelfp.untrusted`), and all names, shapes and numbers are
checked before the network changes. What differs in the last layer, because the number of classes does, stays at its
start, and is told.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import CheckpointError, DataError, UserError
from spikelfp.files import begins_with, settle
from spikelfp.models.torchvision_names import HINTS, torchvision_names
from spikelfp.registry import nearest
from spikelfp.terminal import brief, plain
from spikelfp.training import checkpoint
from spikelfp.training.run_folder import RUN, RunFolder
from spikelfp.untrusted import load_old_tensors, load_safe_tensors, most
from spikelfp.untrusted.old_tensors import MAGIC
from spikelfp.untrusted.tensors import NotPlainError, canonical, load_plain
from spikelfp.untrusted.text import is_finite

KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights, beside other things."""

PREFIXES = ("module.", "_orig_mod.")
"""Words that ``DataParallel`` and ``torch.compile`` put in front of all names."""

DIGITS = 16
"""Digits of the hash in the record of a run; the summary has all 64."""

_PINNED = re.compile(rf"(.+)@sha256:([0-9a-f]{{{DIGITS},64}})", re.DOTALL)
_MOST_NAMES = 3  # of a kind, in an error


@dataclass(frozen=True)
class GivenWeights:
    """Weights as a file holds them.

    Attributes:
        name: of the file or the run folder, without the folders that it lies in.
        digest: SHA-256 of the names, types, shapes and numbers, 64 hexadecimal digits.
        tensors: by the names of the file.
        layers: description of the network that they were trained in, which checkpoints have.
    """

    name: str
    digest: str
    tensors: Mapping[str, Tensor]
    layers: Mapping[str, str]

    @property
    def record(self) -> str:
        """Text for ``config.yaml``, ``NAME@sha256:…``, which can be given as a path again and is checked then."""
        return f"{self.name}@sha256:{self.digest[:DIGITS]}"


def record_of(path: str) -> str | None:
    """Write the record of weights whose hash stands behind their path, without reading them; ``None`` without one."""
    found = _PINNED.fullmatch(path)
    return found and f"{_name(Path(found[1]))}@sha256:{found[2][:DIGITS]}"


def _name(path: Path) -> str:
    return plain(os.path.basename(os.path.abspath(path.expanduser())))


def read_weights(path: str) -> GivenWeights:
    """Read the weights at a path.

    Args:
        path: a run folder (its last weights), a checkpoint, a file of ``torch.save`` with a state dict, alone or under
            one of :data:`KEYS`, or a safetensors file; ``PATH@sha256:…`` checks the hash.

    Raises:
        UserError: for a path that does not exist, and weights of another hash.
        DataError: for a file that cannot be read, is damaged or holds no weights.
        CheckpointError: for a checkpoint that is damaged.
    """
    pinned = _PINNED.fullmatch(path)
    where = Path(pinned[1] if pinned else path).expanduser()
    if not os.path.exists(where):
        if pinned:
            raise UserError(
                f"the weights {plain(pinned[1])} that the run was started from are not here: say where they are, "
                f"--weights FOLDER/{plain(path)} (the part behind @ is checked)"
            )
        raise UserError(f"there are no weights at {plain(path)}: --weights is a run folder or a file")
    tensors, layers = _read_folder(where) if where.is_dir() else _read_file(where)
    given = GivenWeights(_name(where), _digest(tensors), tensors, layers)
    if pinned and not given.digest.startswith(pinned[2]):
        raise UserError(
            f"{plain(str(where))} holds other weights than those that are asked for: sha256 {given.digest[:DIGITS]}…, "
            f"expected {pinned[2][:DIGITS]}…"
        )
    return given


Read = tuple[dict[str, Tensor], Mapping[str, str]]


def _read_folder(path: Path) -> Read:
    settle(path, RUN)
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise UserError(f"{path} is no run folder (it has no config.yaml): --weights is a run folder or a file")
    if not folder.last.is_file():
        raise UserError(f"{path} has no weights yet: {folder.last} is missing")
    return _of_checkpoint(folder.last)


def _of_checkpoint(path: Path) -> Read:
    content = checkpoint.read(path)
    return _tensors(path, content["weights"], ()), content.get("network") or {}


def _read_file(path: Path) -> Read:
    if path.suffix.lower() == ".safetensors":
        return _tensors(path, load_safe_tensors(path)), {}
    try:
        if begins_with(path, b"PK\x03\x04"):
            content = load_plain(path)
        elif begins_with(path, MAGIC):
            content = canonical(load_old_tensors(path), most(os.path.getsize(path)))
        else:
            raise DataError(
                f"{path} is no file of weights: torch.save(net.state_dict(), PATH) writes one, and NAME.safetensors is "
                "read"
            )
    except NotPlainError as error:
        raise DataError(f"{path} is not read: {error}") from None
    except (DataError, CheckpointError):
        raise
    except UserError as error:
        raise DataError(f"{path} is not readable by torch, truncated or damaged ({error})") from None
    if isinstance(content, dict) and "weights" in content and type(content.get("format")) is int:
        return _of_checkpoint(path)
    return _tensors(path, _state_dict(path, content)), {}


def _state_dict(path: Path, content: Any) -> Any:
    """Find the mapping of tensors in what a training script has saved."""
    if not isinstance(content, dict):
        raise DataError(f"{path} holds {brief(content)}, and no tensors by name: torch.save(net.state_dict(), PATH)")
    inside = [key for key in KEYS if isinstance(content.get(key), dict)]
    if len(inside) > 1:
        raise DataError(f"{path} holds {' and '.join(inside)}, and it is not clear which one is meant: save one alone")
    if inside:
        return content[inside[0]]
    if not any(isinstance(value, Tensor) for value in content.values()):
        held = ", ".join(brief(key) for key in list(content)[:6]) or "nothing"
        raise DataError(f"{path} holds no tensors by name, alone or under one of {', '.join(KEYS)}; it holds {held}")
    return content


def _tensors(path: Path, content: Any, prefixes: tuple[str, ...] = PREFIXES) -> dict[str, Tensor]:
    """Check that all values are tensors, and take off the prefixes that all names have."""
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no weights")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DataError(f"{path} holds more than weights: {plain(str(key))[:120]} is {brief(value)}")
    while prefix := next((each for each in prefixes if all(name.startswith(each) for name in content)), None):
        content = {name[len(prefix) :]: value for name, value in content.items()}
    return dict(content)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and numbers, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        found.update(repr((name, str(value.dtype), list(value.shape))).encode("utf-8", "surrogatepass"))
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_given(
    net: torch.nn.Module, given: GivenWeights, model: str, outputs: int, quantized: bool = False
) -> list[str]:
    """Give a new network the weights, or refuse them and leave it as it is.

    Args:
        net: the network, its weights not on grids yet.
        given: the weights.
        model: name of the network in :data:`spikelfp.models.models`.
        outputs: classes, or other outputs, of the network.
        quantized: whether its weights will be put on grids: scales of the file are chosen anew then.

    Returns:
        Lines about what is not as in the file: parts of the last layer that stay at their start, conversions, and
        layers that are not those that the weights were trained in.

    Raises:
        CheckpointError: for weights that are missing, left over, of another shape, integers, or not finite, with their
            names.
    """
    own = net.state_dict()
    own |= checkpoint.chosen_masks(net, given.tensors)
    theirs, source = _translated(net, given, model, own)
    notes = []
    if quantized and _is_quantized(theirs):
        theirs = {name: value for name, value in theirs.items() if not name.endswith(_SCALE)}
        notes.append(f"the scales of quantised weights in {given.name} are chosen anew")
    fresh = _last_layer(net, own, theirs, outputs)
    uncounted = [name for name in own if name not in theirs and name.endswith("num_batches_tracked")]
    _check_names(given, model, own, theirs, {*fresh, *uncounted}, source)
    fitted, kinds = dict(own), dict[str, str]()
    for name, value in theirs.items():
        if name not in fresh:
            fitted[name] = _fitted(given.name, source[name], value, own[name])
            if value.dtype != fitted[name].dtype and value.is_floating_point():
                kinds[_kind(value)] = _kind(fitted[name])
    where = f"the file {given.name}"
    checkpoint.check_weights(where, net, {"weights": fitted})
    checkpoint.put_weights(where, net, {"weights": fitted})
    if fresh:
        shapes = ", ".join(
            f"{source[name]} {list(theirs[name].shape)} in the file and {list(own[name].shape)} here" for name in fresh
        )
        notes.insert(0, f"the last layer keeps its random start, since the number of classes differs: {shapes}")
    notes += [f"weights that are {before} in {given.name} are {now} here" for before, now in kinds.items()]
    if uncounted:
        notes.append(f"counts of batches that {given.name} lacks start at 0 ({len(uncounted)} normalisation layers)")
    return notes + _other_layers(net, given, {name.rpartition(".")[0] for name in fresh})


_SCALE = ".weight_scale"


def _is_quantized(names: Collection[str]) -> bool:
    return any(name.endswith(_SCALE) for name in names)


def _translated(
    net: torch.nn.Module, given: GivenWeights, model: str, own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Bring the weights to the names of the network; returned with the names of the file by those."""
    layers, theirs, source = torchvision_names(net, model), dict[str, Tensor](), dict[str, str]()
    for key, value in given.tensors.items():
        layer, _, attribute = key.rpartition(".")
        name = f"{layers[layer]}.{attribute}" if key not in own and layer in layers else key
        if name in theirs:
            raise CheckpointError(f"{given.name} holds {plain(source[name])} and {plain(key)}, which are one weight")
        theirs[name], source[name] = value, key
    return theirs, {name: plain(key) for name, key in source.items()}


def _last_layer(
    net: torch.nn.Module, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], outputs: int
) -> list[str]:
    """Name what differs in the last layer, and the neurons after it, by the number of classes alone."""
    names = [name for name, _ in net.named_modules()]
    weighted = [name for name in names if own.get(f"{name}.weight", torch.empty(())).dim() > 1]
    if not weighted:
        return []
    last = weighted[-1]
    among = set(names[names.index(last) :])
    sized = [name for name in own if name.rpartition(".")[0] in among and own[name].shape[:1] == (outputs,)]
    there = {theirs[name].shape[0] if name in theirs and theirs[name].dim() else None for name in sized}
    alike = all(name in theirs and theirs[name].shape[1:] == own[name].shape[1:] for name in sized)
    return sized if alike and len(there) == 1 and there != {outputs} and f"{last}.weight" in sized else []


def _check_names(
    given: GivenWeights,
    model: str,
    own: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    passed: Collection[str],
    source: Mapping[str, str],
) -> None:
    """Refuse weights that are missing, left over or of another shape, all in one line."""
    missing = [name for name in own if name not in theirs and name not in passed]
    over = [name for name in theirs if name not in own]
    shapes = [name for name in own if name in theirs and name not in passed and theirs[name].shape != own[name].shape]
    faults = []
    if shapes:
        texts = [f"{source[name]} is {list(theirs[name].shape)}, here {list(own[name].shape)}" for name in shapes]
        faults.append(_some(texts))
    if missing:
        faults.append(f"{_some(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if over:
        near = {name: nearest(name, missing, 0.6) for name in over[:_MOST_NAMES]}
        texts = [source[n] + (f" (did you mean {near[n]}?)" if near.get(n) else "") for n in over]
        faults.append(f"{_some(texts)} {'is' if len(over) == 1 else 'are'} of no layer here")
    if not faults:
        return
    learned = any(name.rpartition(".")[2] == "decay" for name in (*missing, *over))
    hints = ["a decay that learns is among the weights: --learn-beta as in the run that they are from"] * learned
    hints += ["they were trained with quantised weights: say --weight-bits, too"] * _is_quantized(over)
    hints += [HINTS[model]] if shapes and model in HINTS else []
    raise CheckpointError("; ".join([f"the weights of {given.name} do not fit the network {model}: {faults[0]}",
                                     *faults[1:], *hints]))  # fmt: skip


def _some(texts: list[str]) -> str:
    more = len(texts) - _MOST_NAMES
    return ", ".join(texts[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _fitted(file: str, name: str, value: Tensor, own: Tensor) -> Tensor:
    """Bring a tensor to the type of the network's, if no number is lost beyond rounding."""
    if value.is_complex() or value.is_floating_point() != own.is_floating_point():
        wanted = "floats" if own.is_floating_point() else "whole numbers"
        raise CheckpointError(f"{file} cannot be used: {name} is {_kind(value)}, and the network has {wanted} there")
    if value.dtype == own.dtype:
        return value
    if value.is_floating_point() and is_finite(value) and not is_finite(value.to(own.dtype)):
        raise CheckpointError(f"{file} cannot be used: {name} has numbers that are too large for {_kind(own)}")
    return value.to(own.dtype)


def _other_layers(net: torch.nn.Module, given: GivenWeights, passed: Collection[str]) -> list[str]:
    """Tell which layers have other constants than those that the weights were trained in, as far as that is known."""
    now = checkpoint.constants(net) if given.layers else {}
    other = [
        f"layer {plain(name) or 'of all'} was {plain(given.layers[name])}, is {text}"
        for name, text in now.items()
        if name in given.layers and name not in passed and given.layers[name] != text
    ]
    return [f"the network differs from that of {given.name}: {_some(other)}"] if other else []
