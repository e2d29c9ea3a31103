"""From a trained run to a folder that can be handed on: the network, how it was made, and inputs to check it
with."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from hw_export.model_file import load_network, save_network
from hw_export.quantize import QuantizedNetwork, quantize
from hw_export.samples import Samples, load_samples, save_samples
from hw_export.simulators import SIMULATORS
from hw_export.targets import TARGETS
from spikelfp.data import encode
from spikelfp.errors import DataError, SaveError, UserError
from spikelfp.files import write_text
from spikelfp.registry import check_name
from spikelfp.training.run import load_run
from spikelfp.training.state import predict

FORMAT = 1
MANIFEST, MODEL, SAMPLES = "manifest.yaml", "model.pt", "samples.npz"
PACKAGES = ("spikelfp", "torch", "numpy", "nir")


def build(
    run: str | Path,
    out: str | Path,
    *,
    target: str = "nir",
    bits: int | None = 8,
    clip: str = "mse",
    samples: int = 100,
    weights: str = "last",
    data_dir: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Export the trained run folder ``run`` to the folder ``out``; returns the manifest.

    samples: how many of the first test samples go with it. weights: of the ``last`` or ``best`` checkpoint.
    See :func:`write_export` for the rest and for what the folder holds.
    """
    TARGETS[target]
    if samples < 1:
        raise UserError(f"the number of samples must be at least 1, got {samples}")
    check_name("weights", weights, ("last", "best"))
    _refuse_existing(Path(out), overwrite)
    loaded = load_run(run, weights, data_dir)
    config, test = loaded.config, loaded.splits().test
    images, labels = test.__getitems__(range(min(samples, len(test))))
    steps = config.steps or 1
    if config.encoding == "constant":
        per_unit = 1 / test.scale
        scale = round(per_unit) if abs(per_unit - round(per_unit)) < 1e-6 * per_unit else None
        shown = Samples(images, labels, steps, scale=scale)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            shown = Samples(encode(config.encoding, images, steps), labels, steps, static=False, scale=1)
    facts = {name: getattr(config, name) for name in ("data", "model", "method", "rule", "seed", "encoding")}
    return write_export(loaded.net, shown, out, target=target, bits=bits, clip=clip, overwrite=overwrite, facts=facts)


def write_export(
    net: torch.nn.Module,
    samples: Samples,
    out: str | Path,
    *,
    target: str = "nir",
    bits: int | None = 8,
    clip: str = "mse",
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Quantise ``net`` and write the export folder ``out``, whole or not at all; returns the manifest.

    The folder holds the files of the ``target`` (``network.nir``); ``manifest.yaml``: the network, the
    scales, the accuracy before and after, the conventions, versions and checksums; ``model.pt``: the exported
    network as ours, to compare with; and ``samples.npz``: inputs as the exported network takes them, and
    labels. Where the samples are integers over a common scale (8-bit pixels, spikes), the exported network
    takes the integers.

    A folder that exists is refused unless ``overwrite`` is given and it is an export. facts: more for the
    manifest.
    """
    out = Path(out)
    chosen = TARGETS[target]
    width = 32 if bits is None else bits
    if width not in chosen.bits:
        first, *_, last, _ = chosen.bits
        raise UserError(f"target {target} takes {first} to {last} bits, or 32 for floats, got {bits}")
    _refuse_existing(out, overwrite)
    whole = samples.integers()
    exported = quantize(net, bits, clip=clip, input_scale=None if whole is None else samples.scale)
    shown = whole if whole is not None and exported.input_scale is not None else samples
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        written = chosen.write(exported, beside, samples.shape)
        before, after = (_classes(made, given) for made, given in ((quantize(net, None), samples), (exported, shown)))
        save_network(beside / MODEL, exported)
        save_samples(beside / SAMPLES, shown)
        manifest = {
            "format": FORMAT,
            "target": target,
            **(facts or {}),
            "bits": width,
            "clip": exported.clip,
            "input_shape": list(samples.shape),
            "input_scale": exported.input_scale,
            "steps": samples.steps,
            **written,
            "latency": {name: SIMULATORS[name].latency for name in SIMULATORS},
            "quantization": [asdict(layer) for layer in exported.report],
            "samples": len(samples),
            "accuracy": {
                "float": (before == samples.labels).float().mean().item(),
                "exported": (after == samples.labels).float().mean().item(),
                "agreement": (before == after).float().mean().item(),
            },
            "notes": _notes(exported, whole),
            "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "sha256": {file.name: sha256(file) for file in sorted(beside.iterdir())},
        }
        write_text(beside / MANIFEST, yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
        _move(beside, out)
    except OSError as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(f"cannot write the export {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


def read_export(folder: str | Path) -> tuple[dict[str, Any], torch.nn.Sequential, Samples]:
    """Manifest, network and samples of an export folder; :class:`~spikelfp.errors.UserError` for any other
    folder."""
    folder = Path(folder)
    try:
        manifest = yaml.safe_load((folder / MANIFEST).read_text())
    except OSError:
        raise UserError(f"{folder} is no export: it has no {MANIFEST} (make one with `hw-export build`)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / MANIFEST} is not valid YAML: {str(error).splitlines()[0]}") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("sha256"), dict)
    ):
        raise DataError(f"{folder / MANIFEST} is no manifest of format {FORMAT}")
    return manifest, load_network(folder / MODEL), load_samples(folder / SAMPLES)


def changed_files(folder: str | Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files of the export that are not as they were written."""
    files = {name: Path(folder) / name for name in manifest["sha256"]}
    return [name for name, path in files.items() if not path.is_file() or sha256(path) != manifest["sha256"][name]]


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _classes(net: torch.nn.Module, samples: Samples) -> torch.Tensor:
    with torch.no_grad():
        return predict(net(samples.sequence()))


def _notes(exported: QuantizedNetwork, whole: Samples | None) -> list[str]:
    notes = list(exported.notes)
    if exported.bits is not None and whole is None:
        notes.append("the inputs are no integers, so float32 may round the sums of the first layer")
    if exported.bits is None:
        notes.append("float weights: simulators that add in another order or precision may round a spike away")
    return notes


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise UserError(f"{out} exists already: replace it with --overwrite, or name another --out")
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out} is no export (it has no {MANIFEST}), so it is not overwritten")


def _move(beside: Path, out: Path) -> None:
    """Put the finished folder in its place; the one that was there goes only then."""
    old = beside.with_suffix(".old")
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(beside, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
