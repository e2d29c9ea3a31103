"""Everything that a report says about a run, read from its folder and found by looking at its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spikelfp.data.events.cache import recorded_cache
from spikelfp.data.load import without_folder
from spikelfp.errors import CheckpointError, DataError, RunFolderError, UserError
from spikelfp.files import settle
from spikelfp.report.facts import Facts, Weights
from spikelfp.report.look import look
from spikelfp.training import checkpoint
from spikelfp.training.folder import RUN, Folder, check_data, other_samples, read_config, read_metrics, samples_of
from spikelfp.training.memory import without_memory
from spikelfp.training.run import check_room_to_show, load_splits
from spikelfp.untrusted import read_json
from spikelfp.untrusted.text import Field

MOST_RESULTS = 100
"""Simulators that a network was compared in."""


def _newest_verification(folder: Folder) -> Path:
    """What ``hw-export verify`` found, in the run folder or in an export inside it."""
    found = [*folder.path.glob("verify.json"), *folder.path.glob("*/verify.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=folder.path / "verify.json")


def gather(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Facts:
    """Read the run and look at what its network does; see :func:`spikelfp.report.write_report` for errors."""
    folder = Folder(Path(run))
    settle(folder.path, RUN)
    config, shape, classes = read_config(folder)
    config = config.elsewhere(data_dir or config.run.data_dir, cache_dir or recorded_cache(config.events.cache_dir))
    metrics = read_metrics(folder)
    summary, verified = _summary(folder.summary), _verified(_newest_verification(folder))
    spec = config.spec(shape, classes)
    outline = without_memory(spec)
    facts = Facts(
        folder=folder,
        config=config,
        shape=shape,
        classes=classes,
        metrics=metrics,
        summary=summary,
        verified=verified,
        parameters=sum(p.numel() for p in outline.parameters()),
        class_names=tuple(str(label) for label in range(classes)),
        task=config.make_task(),
    )
    try:
        content = checkpoint.read(folder.last)
        checkpoint.check_shapes(folder.last, outline, content)
        with torch.random.fork_rng(devices=[]):
            net = config.build(shape, classes)
        checkpoint.load_weights(folder.last, net, content)
    except CheckpointError as error:
        facts.notes.append(f"No spikes, weights and errors are shown: {_without_folder(error, folder)}.")
        return facts
    position = content.get("position") or {}
    if summary is None and position.get("batch"):
        facts.notes.append(
            f"Training was stopped within epoch {position['epoch'] + 1}: spikes, weights and errors are those "
            f"of the checkpoint written then, after {position['step']:,} updates."
        )
    facts.weights = _weights(net, folder)
    try:
        splits = load_splits(config)
        check_data(folder, splits)
    except UserError:
        if data_dir is not None:
            raise
        facts.notes.append(
            f"No test samples are shown: the data set {without_folder(config.data.name)} that the run was trained on "
            "was not found. Write the report again with --data-dir to say where it is."
        )
        return facts
    other = other_samples(folder, samples_of(splits))
    if other:
        facts.notes.append(f"Not the data of the run: {_without_folder(UserError(other), folder)}.")
    try:
        check_room_to_show(config, spec, splits.test)
    except UserError as error:
        facts.notes.append(f"No test samples are shown: {error}.")
        return facts
    look(facts, net, splits)
    return facts


def _weights(net: torch.nn.Module, folder: Folder) -> list[Weights]:
    """The weights of every dense and convolutional layer."""
    try:
        content = checkpoint.read(folder.initial)
        checkpoint.check_weights(folder.initial, net, content)
        before = content["weights"]
    except CheckpointError:
        before = {}
    found: list[Weights] = []
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.nn.Parameter) or weight.dim() < 2:
            continue
        first = before.get(f"{name}.weight")
        if first is not None and first.shape != weight.shape:
            first = None
        outputs, inputs, *kernel = weight.shape
        kind = f"{inputs:,} → {outputs:,} " + (f"channels, {' × '.join(map(str, kernel))}" if kernel else "neurons")
        after = weight.detach().flatten().float().numpy()
        title = f"Layer {len(found) + 1} · " + ("convolution" if kernel else "dense")
        found.append(Weights(title, kind, None if first is None else first.flatten().float().numpy(), after))
    return found


def _read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, ``None`` if there is no such file."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except DataError as error:
        raise RunFolderError(str(error)) from None
    if not isinstance(content, kind):
        raise RunFolderError(f"{path} should hold a {kind.__name__}, found {type(content).__name__}")
    return content


def _summary(path: Path) -> dict[str, Any] | None:
    """Read ``summary.json``: what the page shows of it is of the type that it is shown as."""
    content: dict[str, Any] | None = _read_json(path, dict)
    field = Field(path, "", content or {}, RunFolderError)
    for name in ("test_accuracy", "test_loss", "rmse", "seconds_per_epoch", "update_density"):
        if field.value.get(name) is not None:
            field.at(name).number()
    if field.value.get("score") is not None:
        score = field.at("score")
        score.mapping(("name", "value"), ("name", "value"))
        score.at("name").text()
        score.at("value").number()
    if "parameters" in field.value:
        field.at("parameters").whole()
    if field.value.get("spike_rates") is not None:
        for _, rate in field.at("spike_rates").items():
            rate.number(0)
    return content


def _verified(path: Path) -> list[dict[str, Any]]:
    """Read the results of ``hw-export verify``, of which there is one for each simulator."""
    content = _read_json(path, list) or []
    if len(content) > MOST_RESULTS:
        raise RunFolderError(f"{path} has {len(content)} results, more than the {MOST_RESULTS} that are shown")
    return [entry for entry in content if isinstance(entry, dict)]


def _without_folder(error: Exception, folder: Folder) -> str:
    """The text of an error without the machine's paths: a report is passed on."""
    return str(error).replace(f"{folder.path}/", "")
