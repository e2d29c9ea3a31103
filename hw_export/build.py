"""Exports of trained runs: a folder with the network, how it was made, and inputs to check it with."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_export.integer import Counts, IntegerNetwork, IntegerRun
from hw_export.integer.energy import estimate
from hw_export.model_file import load_network, save_network
from hw_export.quantize import (
    QuantizedNetwork,
    QuantizeOptions,
    accuracy_by_layer,
    compare,
    quantize,
    rate_notes,
    refuse_silenced,
)
from hw_export.quantize.prepare import is_trained
from hw_export.samples import ExportSamples, SampleOptions, load_samples, save_samples
from hw_export.targets import TARGETS, Chip, Target, make_target
from hw_export.verify import SPIKES, run_on_chip, save_spikes
from spikelfp import checks, nn, plugins
from spikelfp.configuration import Schema
from spikelfp.data import encode
from spikelfp.data.loader import Sequences
from spikelfp.data.samples import Samples as DataSamples
from spikelfp.data.samples import representative
from spikelfp.errors import DataError, UserError
from spikelfp.files import Kind, check_path, content_of, owned, saving, settle, write_text, yaml_text
from spikelfp.methods.base import counting_steps
from spikelfp.options import Choice, choice, flag, section, setting
from spikelfp.terminal import brief
from spikelfp.training.config import RunConfig
from spikelfp.training.run import check_show_memory, load_run
from spikelfp.training.update import predict
from spikelfp.untrusted import most, open_regular, read_yaml
from spikelfp.untrusted.text import Field

FORMAT = 1
MANIFEST, MODEL, SAMPLES = "manifest.yaml", "model.pt", "samples.npz"
VERIFIED = "verify.json"
"""Results of ``hw-export verify``, beside the export."""
PACKAGES = ("spikelfp", "torch", "numpy", "nir")


@dataclass(frozen=True)
class TargetOptions(Choice):
    """Target, with the options that it has."""

    name: str = choice("nir", "what to export to", TARGETS)


@dataclass(frozen=True)
class TrainedOptions:
    """Part of a trained run that is exported, and the folders of its data."""

    weights: str = setting("last", "checkpoint of the run", names=("last", "best"))
    choose_delays: bool = setting(
        False,
        "let each connection keep the one of its delays with the largest weight (train --choose-delays is better)",
    )
    data_dir: str | None = setting(None, "folder of the data sets", automatic="the run's", kind="path")
    cache_dir: str | None = setting(None, "folder of binned recordings", automatic="the run's", kind="path")


@dataclass(frozen=True)
class BuildConfig:
    """All options of an export, each with what it configures."""

    target: TargetOptions = section(TargetOptions, "target")
    trained: TrainedOptions = section(TrainedOptions, "run")
    quantization: QuantizeOptions = section(QuantizeOptions, "quantisation")
    inputs: SampleOptions = section(SampleOptions, "samples")


OPTIONS = Schema(BuildConfig)
"""Options of :func:`build` and of ``hw-export build``, those of registered targets included."""


def build(run: str | Path, out: str | Path, *, overwrite: bool = False, **options: Any) -> dict[str, Any]:
    """Export a trained run.

    Args:
        run: folder of ``spikelfp train``.
        out: folder to write.
        overwrite: replace an export that is there.
        **options: those of :class:`BuildConfig`, flat: ``target``, its own options by their names, ``bits`` (by default
            those the network was trained with, else those of the target), ``clip``, ``per_channel``, ``power_of_two``,
            ``calibration``, ``samples``, ``input_scale`` (inputs become the whole numbers ``round(x · input_scale)``:
            fewer levels than the data have, for chips that cannot hold all), ``weights``, ``choose_delays``,
            ``data_dir``, ``cache_dir``.

    Returns:
        The manifest. :func:`write_export` lists the files of the folder.

    Raises:
        UserError: for unknown options, values out of range, options that belong to what was not chosen, and networks
            that the target cannot hold.
    """
    stated = OPTIONS.stated(options, "build")
    config = BuildConfig(**OPTIONS.made(OPTIONS.settled(stated, stated)))
    target = make_target(config.target.name, config.target.arguments(TARGETS))
    how, given = config.quantization, config.inputs
    _check_out(checks.path("out", out), overwrite)
    loaded = load_run(
        checks.path("run", run), config.trained.weights, config.trained.data_dir, config.trained.cache_dir
    )
    loaded.check_classes()
    splits = loaded.splits()
    check_show_memory(loaded.config, loaded.spec, splits.test, samples=given.samples, kept=True)
    shown = shown_samples(loaded.config, splits.test, given.samples, given.input_scale)
    if is_trained(loaded.net):
        for name in ("clip", "per_channel", "power_of_two"):
            if ("quantization", name) in stated:
                raise UserError(
                    f"{flag(name)} belongs to scales that are chosen at the export, but the network keeps those it was "
                    "trained with: leave it out"
                )
    calibration = None
    if how.clip == "output":
        known, _ = splits.train.__getitems__(representative(splits.train, how.calibration).tolist())
        calibration = _sequence(loaded.config, known)
    facts = {
        name: getattr(loaded.config.flat, name) for name in ("data", "model", "method", "rule", "seed", "encoding")
    }
    return write_export(
        loaded.net,
        shown,
        out,
        target=target,
        bits=target.default_bits if how.bits is None and not is_trained(loaded.net) else how.bits,
        clip=how.clip,
        per_channel=how.per_channel,
        power_of_two=how.power_of_two,
        calibration=calibration,
        overwrite=overwrite,
        facts={**facts, "options": OPTIONS.nested(config)},
        choose_delays=config.trained.choose_delays,
    )


def shown_samples(config: RunConfig, data: DataSamples, count: int, input_scale: int | None = None) -> ExportSamples:
    """Choose samples of ``data`` and encodes them as the run was trained.

    Args:
        config: of the run.
        data: to choose from: the first ``count`` samples, or evenly spaced ones where these lack a class.
        count: number of samples.
        input_scale: number of levels that inputs are rounded to, if given.
    """
    x, labels = data.__getitems__(representative(data, count).tolist())
    static = config.data.encoding == "constant" and not isinstance(x, Sequences)
    inputs = x if static else _sequence(config, x)
    steps = (config.data.steps or 1) if static else len(inputs)
    scale = data.levels if config.data.encoding == "constant" else 1
    lengths = x.lengths if isinstance(x, Sequences) else None
    read_out = counting_steps(nn.constant(labels, steps), lengths, config.training.readout_steps)
    shown = ExportSamples(inputs, labels, steps, static, scale, read_out)
    return shown if input_scale is None else shown.rounded(input_scale)


def _sequence(config: RunConfig, x: Tensor | Sequences) -> Tensor:
    """Encode ``x`` as the network takes it, ``[T, B, …]``, equally every time."""
    if isinstance(x, Sequences):
        return x.values.to_dense()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        return encode(config.data.encoding, x, config.data.steps or 1)


def write_export(
    net: torch.nn.Module,
    samples: ExportSamples,
    out: str | Path,
    *,
    target: str | Target = "nir",
    bits: int | None = 8,
    clip: str = "mse",
    per_channel: bool = False,
    power_of_two: bool = False,
    calibration: Tensor | None = None,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
    choose_delays: bool = False,
) -> dict[str, Any]:
    """Quantise a network and write the export folder, as a whole or not at all.

    The folder holds

    * the files of the ``target`` (``network.nir``);
    * ``manifest.yaml``: the network, the scales, spike rates and accuracy before and after, the conventions, versions
      and checksums;
    * ``model.pt``: the exported network as one of :mod:`spikelfp.nn`, to compare with;
    * ``samples.npz``: inputs as the exported network takes them, and labels. Where the samples are integers over a
      common scale (8-bit pixels, spikes), the exported network takes the integers;
    * for a chip ``spikes.npz``: the spikes of every neuron for the samples, in the chip's own arithmetic. The manifest
      then tells their cost.

    Args:
        net: a chain of layers.
        samples: inputs to check the export with.
        out: folder to write.
        target: name of a target, or a target.
        bits: of :func:`~hw_export.quantize`, as the next four.
        clip: how scales are chosen.
        per_channel: whether each output channel has a scale.
        power_of_two: whether scales are powers of two.
        calibration: inputs ``[T, B, …]``, in the range of the samples, needed for ``clip="output"``.
        overwrite: replace an export that is there; any other folder is refused.
        facts: more entries for the manifest.
        choose_delays: export a copy in which each connection keeps one of its delays
            (:func:`spikelfp.nn.choose_delays`).

    Returns:
        The manifest.

    Raises:
        UserError: for a folder that exists (without ``overwrite``) or is no export; for a network with neurons that
            fire on the samples before quantisation and never after it; and for one that a chip cannot hold, with every
            limit it breaks, before anything is written.
    """
    out = checks.path("out", out)
    chosen = make_target(target) if isinstance(target, str) else target
    if bits is not None:
        chosen.check_bits(bits)
    _check_out(out, overwrite)
    whole = samples.integers()
    chip = chosen if isinstance(chosen, Chip) else None
    delays: dict[str, int] = {}
    one_each = net
    if choose_delays:
        one_each = copy.deepcopy(net)
        delays = dict(zip(("kept", "of"), nn.choose_delays(one_each), strict=True))
    exported = quantize(
        one_each,
        bits,
        clip=clip,
        per_channel=per_channel,
        power_of_two=power_of_two,
        calibration=calibration,
        input_scale=None if whole is None else samples.scale,
        fine_biases=chip is None,
    )
    width = chosen.check_bits(exported.bits)
    chip_notes: list[str] = []
    if chip is not None:
        network = chip.integers(exported, samples.shape)
        chip.refuse(network)
        chip_notes = chip.notes(network)
    needed = plugins.used([chosen.name])
    shown = whole if whole is not None and exported.input_scale is not None else samples
    found = compare(net, exported, samples.sequence(), samples.labels, samples.mask)
    refuse_silenced(found.rates, exported.bits, exported.clip)
    with owned(out, EXPORT) as place, saving(out):
        _check_out(out, overwrite)
        place.replace()
        beside = place.current
        written = chosen.write(exported, beside, samples.shape)
        save_network(beside / MODEL, exported)
        save_samples(beside / SAMPLES, shown)
        if chip is not None:
            written |= _on_chip(chip, beside, exported, shown)
        manifest = {
            "format": FORMAT,
            "target": chosen.name,
            **({"target_options": chosen.options} if chosen.options else {}),
            **({"plugins": needed} if needed else {}),
            **(facts or {}),
            "bits": width,
            "clip": exported.clip,
            **({"weights_of_chosen_delays": delays} if delays else {}),
            "input_shape": list(samples.shape),
            "input_scale": exported.input_scale,
            "steps": samples.steps,
            **written,
            "quantization": [layer.summary() for layer in exported.report],
            "rates": [asdict(layer) for layer in found.rates],
            "samples": len(samples),
            "accuracy": {
                "float": found.float_accuracy,
                "exported": found.quantized_accuracy,
                "agreement": found.agreement,
                "by_layer": accuracy_by_layer(net, exported, samples.sequence(), samples.labels, samples.mask),
            },
            "notes": [
                *_notes(exported, whole),
                *(rate_notes(found.rates) if calibration is None else ()),
                *chip_notes,
            ],
            "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "sha256": {file.name: sha256(file) for file in sorted(beside.iterdir())},
        }
        for name in (MANIFEST, *manifest["sha256"]):
            if os.path.lexists(out / name) and name not in place.replaced:
                raise UserError(f"{out / name} is in the way and no file of an export: move it, or name another --out")
        write_text(beside / MANIFEST, yaml_text(manifest))
        place.commit()
    return manifest


def read_export(folder: str | Path) -> tuple[dict[str, Any], torch.nn.Sequential, ExportSamples]:
    """Read manifest, network and samples of an export folder.

    Raises:
        UserError: for any other folder.
        DataError: for an export whose files are damaged or do not fit each other.
    """
    folder = Path(folder)
    settle(folder, EXPORT)
    manifest = read_manifest(folder)
    net, samples = load_network(folder / MODEL), load_samples(folder / SAMPLES)
    if manifest.get("steps") != samples.steps:
        raise DataError(
            f"{folder / SAMPLES} is of {samples.steps} steps, and {MANIFEST} of {brief(manifest.get('steps'))}: one of "
            "them is not that of the export"
        )
    return manifest, net, samples


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``manifest.yaml`` of an export folder.

    Raises:
        UserError: for any other folder.
        DataError: for a manifest that is damaged or of another format.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no export: it has no {MANIFEST} (make one with `hw-export build`)")
    manifest = read_yaml(folder / MANIFEST)
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("target"), str)
        or not isinstance(manifest.get("target_options", {}), dict)
        or not all(isinstance(manifest.get(name), dict) for name in ("versions", "sha256"))
        or not all(isinstance(name, str) for name in manifest["sha256"])
    ):
        raise DataError(f"{folder / MANIFEST} is no manifest of format {FORMAT}")
    field = Field(folder / MANIFEST, "", manifest, DataError)
    for part in ("versions", "sha256"):
        for _, each in field.at(part).items():
            each.text()
    field.at("versions").mapping(("spikelfp",))
    for name in manifest["sha256"]:
        if name != Path(name).name or name.startswith(".") or "\0" in name:
            raise DataError(f"{folder / MANIFEST}: sha256 has {brief(name)}, which is no file in the folder")
    return manifest


def target_of(manifest: Mapping[str, Any]) -> Target:
    """Make the target that an export was built for, with the options it was built with.

    Raises:
        UserError: for a target, or options of it, that are not known here; of a plug-in, with how to name it.
    """
    plugins.check(manifest.get("plugins", {}), MANIFEST)
    return make_target(manifest["target"], manifest.get("target_options"))


def changed_files(folder: str | Path, manifest: Mapping[str, Any]) -> list[str]:
    """List the files of an export that are not as they were written, and names that lead out of the folder."""
    files = {name: Path(folder) / name for name in manifest["sha256"]}
    return [
        name for name, path in files.items() if path.name != name or not _is_unchanged(path, manifest["sha256"][name])
    ]


def sha256(path: Path) -> str:
    """Compute the checksum of a file of any size, in hexadecimal."""
    found = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def _is_unchanged(path: Path, expected: Any) -> bool:
    """Whether a file has the checksum ``expected``.

    A file that is nearly all holes has none: no export has such files, and a few bytes on disk could take hours to
    read.
    """
    if not path.is_file():
        return False
    about = path.stat()
    on_disk = about.st_blocks * 512 if hasattr(about, "st_blocks") else about.st_size
    return about.st_size <= most(on_disk) and sha256(path) == expected


def _notes(exported: QuantizedNetwork, whole: ExportSamples | None) -> list[str]:
    notes = list(exported.notes)
    if exported.bits is not None and whole is None:
        notes.append("the inputs are no integers, so float32 may round the sums of the first layer")
    if exported.bits is None:
        notes.append("float weights: simulators that add in another order or precision may round a spike away")
    return notes


def _on_chip(chip: Chip, folder: Path, exported: QuantizedNetwork, shown: ExportSamples) -> dict[str, Any]:
    """Run the files that were just written as the chip would, and save the spikes; return their cost."""
    network = chip.read(folder)
    run = run_on_chip(chip, network, shown)
    save_spikes(folder / SPIKES, run)
    with torch.no_grad():
        classes = predict(exported(shown.sequence()), shown.mask)
    more = chip.write_samples(network, shown.sequence(), run, folder)
    return {"chip": {**_chip_facts(chip, network, run, shown, classes), **more}}


def _chip_facts(
    chip: Chip, network: IntegerNetwork, run: IntegerRun, samples: ExportSamples, classes: Tensor
) -> dict[str, Any]:
    """Collect the results of a run for the manifest: accuracy, agreement of the classes, and costs of a sample.

    Args:
        chip: that was simulated.
        network: as the chip holds it.
        run: of the ``samples``.
        samples: with labels.
        classes: of the exported network, int64 ``[B]``.
    """
    counts = run.counts
    energy = estimate(counts, chip.energy)
    found = run.classes_at(samples.mask)
    return {
        "accuracy": (found == samples.labels).double().mean().item(),
        "agreement": (found == classes).double().mean().item(),
        "rates": {name: spikes.sum(dtype=torch.int64).item() / spikes.numel() for name, spikes in run.spikes.items()},
        "saturated": dict(run.saturated),
        "per_sample": {**_counted(counts), "layers": {name: _counted(part) for name, part in counts.layers.items()}},
        "energy": {
            "nanojoule": energy.total_nj,
            "parts": dict(energy.parts_nj),
            "not_published": list(energy.missing),
            "source": None if chip.energy is None else chip.energy.source,
        },
        "weights": sum(layer.weight.numel() for layer in network.products),
    }


def _counted(counts: Counts) -> dict[str, float]:
    return {name: value for name, value in asdict(counts).items() if name != "layers"}


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that is no export, or an export without ``overwrite``."""
    check_path(out)
    settle(out, EXPORT)
    if content_of(out):
        if not overwrite:
            raise UserError(f"{out} exists already: replace it with --overwrite, or name another --out")
        if not (out / MANIFEST).is_file():
            raise UserError(f"{out} is no export (it has no {MANIFEST}), so it is not overwritten")
        export_files(out, False)


def export_files(path: Path, trusted: bool) -> list[str]:
    """List the files of an export that are in the folder ``path``, its manifest last.

    They are those that the manifest names, with the checksums that it has.

    Args:
        path: of the folder.
        trusted: compare names only (:class:`~spikelfp.files.Kind`).

    Raises:
        UserError: for a manifest that is none, and a file that was changed.
    """
    if not os.path.lexists(path / MANIFEST):
        return []
    sums = read_manifest(path)["sha256"]
    found = [name for name in sums if os.path.lexists(path / name)]
    for name in () if trusted else found:
        if not _is_unchanged(path / name, sums[name]):
            raise UserError(
                f"{path} is not overwritten: {name} in it is not the file that was built; move it away, or name "
                "another --out"
            )
    return [*found, *(name for name in (VERIFIED,) if os.path.lexists(path / name)), MANIFEST]


EXPORT = Kind("export", MANIFEST, export_files)
