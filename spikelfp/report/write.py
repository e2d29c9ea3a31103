"""From the facts of a run to its page."""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from spikelfp.data.load import without_folder
from spikelfp.files import write_text
from spikelfp.report import html, plots, sections, words
from spikelfp.report.facts import Facts
from spikelfp.report.gather import gather
from spikelfp.training.config import RunConfig


def write_report(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Path:
    """See :func:`spikelfp.report.write_report`."""
    facts = gather(run, data_dir, cache_dir)
    write_text(facts.folder.report, render(facts))
    return facts.folder.report


def render(facts: Facts) -> str:
    """The page as text."""
    config = facts.config
    parts = [
        _header(facts),
        html.terms([*_network(facts), *words.lead(config, facts.spiking)]),
        html.facts(_facts(facts)),
        html.notes(facts.notes),
        html.section("Learning", "", sections.curves(facts), pair=True),
        html.section("The first test sample", "", sections.sample(facts)),
        html.section(
            "Who spikes how often",
            sections.rates_text(facts),
            sections.rates(facts),
            pair=sections.in_pairs(facts.activity),
        ),
        html.section("Weights", "", sections.weights(facts), pair=sections.in_pairs(facts.weights)),
        html.section("Right and wrong", "", sections.errors(facts), pair=True),
        html.section("Wanted and predicted", "", sections.fitted(facts), pair=True),
        _worst(facts),
        html.section("How early the answer is there", "", sections.early(facts)),
        _verified(facts),
        _footer(facts),
    ]
    return html.page(words.title(config), parts)


def _header(facts: Facts) -> str:
    done, planned = len(facts.metrics), facts.config.training.epochs
    stopped = facts.summary is None
    chip = f"stopped after {words.plural(done, 'epoch')}" + (f" of {planned}" if planned else "")
    score, text = _score(facts)
    return html.header(
        _run_name(facts), chip if stopped else "finished", words.title(facts.config), score, text, warn=stopped
    )


def _score(facts: Facts) -> tuple[str, str]:
    """The accuracy in large type, and what it is of."""
    summary, last = facts.summary or {}, facts.metrics[-1]
    samples = f", {facts.test_samples:,} samples" if facts.test_samples else ""
    if summary.get("test_accuracy") is not None:
        return words.percent(summary["test_accuracy"], 2), f"test accuracy{samples}"
    task, score = facts.task, (summary.get("score") or {}).get("value")

    def shown(value: float) -> str:
        return words.percent(value, 2) if task.share else words.small(value)

    if score is not None:
        return shown(score), f"test {task.title}{samples}"
    if summary.get("test_loss") is not None:
        return words.small(summary["test_loss"]), f"test loss{samples}"
    for part in ("test", "validation", "train"):
        if f"{part}_{task.score}" in last:
            return shown(last[f"{part}_{task.score}"]), f"{part} {task.title} after epoch {int(last['epoch'])}"
    return "–", f"no {task.title} was measured"


def _worst(facts: Facts) -> str:
    """The test samples that are furthest off."""
    rows = sections.worst(facts)
    if not rows:
        return ""
    head = [
        "sample",
        *(f"{what} {plots.short(name, 24)}" for name in facts.class_names for what in ("true", "predicted")),
    ]
    cells = [[(cell, "") for cell in row] for row in rows]
    return html.table("Furthest off", "The test samples with the largest errors.", head, cells)


def _network(facts: Facts) -> list[tuple[str, str]]:
    """The sizes of the layers, where they are known."""
    if facts.config.model.name.endswith("mlp"):
        sizes = [
            words.joined((math.prod(facts.shape), *facts.config.model.options.get("hidden", ()), facts.classes), " → ")
        ]
    elif facts.activity:
        sizes = [words.joined(shape) for shape in (facts.shape, *(layer.shape for layer in facts.activity))]
    else:
        return []
    return [("Network", " → ".join(sizes))]


def _facts(facts: Facts) -> list[tuple[str, str]]:
    summary, last = facts.summary or {}, facts.metrics[-1]
    pairs = [("parameters", f"{summary.get('parameters', facts.parameters):,}")]
    if facts.spiking:
        pairs += _steps(facts)
    pairs.append(("epochs", f"{len(facts.metrics)}"))
    times = [row["seconds"] for row in facts.metrics if "seconds" in row]
    each = summary.get("seconds_per_epoch", sum(times) / len(times) if times else None)
    if each is not None:
        pairs.append(("time per epoch", words.seconds(each)))
    if facts.mean_rate is not None:
        pairs.append(("spikes per neuron and step", f"{facts.mean_rate:.3f}"))
    density = summary.get("update_density", last.get("update_density"))
    if density is not None:
        pairs.append(("weights touched per update", words.percent(density, 0 if density > 0.1 else 1)))
    return pairs


def _steps(facts: Facts) -> list[tuple[str, str]]:
    """How many steps a sample has; recordings cut by time or by number of events have as many as they are long."""
    if facts.config.events.window is None and facts.config.events.events_per_step is None:
        return [] if facts.config.data.steps is None else [("steps per sample", str(facts.config.data.steps))]
    return [] if facts.sample is None else [("steps of the first test sample", f"{len(facts.sample.outputs):,}")]


def _verified(facts: Facts) -> str:
    """The results of ``hw-export verify``, as far as they are there."""
    if not facts.verified:
        return ""
    rows = []
    for entry in facts.verified:
        listed = entry.get("layers")
        layers = [layer for layer in listed if isinstance(layer, dict)] if isinstance(listed, list) else []
        compared = sum(_count(layer.get("compared")) for layer in layers)
        different = sum(_count(layer.get("different", layer.get("differences"))) for layer in layers)
        status = str(entry.get("status", "unknown"))
        rows.append(
            [
                (str(entry.get("simulator", "?")), ""),
                (status, {"identical": "good", "different": "warn"}.get(status, "off")),
                (f"{different:,}" if layers else "", "warn" if different else ""),
                (f"{compared:,}" if layers else "", ""),
                (str(len(layers)) if layers else "", ""),
                (str(entry.get("version") or ""), "off"),
                (str(entry.get("reason") or ""), "why"),
            ]
        )
    head = ["simulator", "spikes", "different", "compared", "layers", "version", ""]
    if not any(row[-1][0] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    text = "The exported network was run elsewhere and compared spike by spike."
    return html.table("Same spikes in other simulators", text, head, rows)


def _footer(facts: Facts) -> str:
    summary = facts.summary or {}
    versions = summary.get("versions") or {}
    text = " · ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    if text and summary.get("device"):
        text += f" · trained on {summary['device']}"
    return html.footer(words.command(facts.config, _run_name(facts)), text, _options(facts.config))


def _options(config: RunConfig) -> str:
    """``config.yaml`` without folders of this machine: a report is passed on."""
    values = yaml.safe_load(config.to_yaml())
    values["run"].pop("data_dir", None)
    values.get("events", {}).pop("cache_dir", None)
    values["data"]["name"] = without_folder(values["data"]["name"])
    if "hidden" in values["model"]:
        values["model"]["hidden"] = ",".join(map(str, values["model"]["hidden"]))
    return yaml.safe_dump(values, sort_keys=False)


def _run_name(facts: Facts) -> str:
    return facts.folder.path.resolve().name


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
