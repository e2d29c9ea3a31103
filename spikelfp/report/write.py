"""Page of a run: its sections with their figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from spikelfp.data.load import without_folder
from spikelfp.files import write_text
from spikelfp.report import explained, figures, page, rasters, theme, wording
from spikelfp.report.facts import Facts, collect_facts
from spikelfp.report.page import Footer, Headline, Picture, Section
from spikelfp.report.theme import DARK, LIGHT, png
from spikelfp.training.config import RunConfig
from spikelfp.training.weights import DIGITS

SHOWN_LAYERS = 12
"""Largest number of layers whose rates and weights are shown: of a deeper network the first and the last ones."""

RASTER_LAYERS = 5
"""Largest number of spiking layers in the raster: of a deeper network the first and the last ones."""

WORST = 8
"""Number of samples that are listed as furthest off."""

APART = 4
"""Ratio of the spreads of two outputs above which they have no common axis."""

MOST_SIZES = 6
"""Most layers whose sizes are named one by one."""

CLOSE = 0.01
"""Largest difference of accuracies that are counted as equal, 1 percentage point."""


def write_report(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Path:
    """Write the page; see :func:`spikelfp.report.write_report`."""
    facts = collect_facts(run, data_dir, cache_dir)
    write_text(facts.folder.report, render(facts))
    return facts.folder.report


def render(facts: Facts) -> str:
    """Make the HTML of the page."""
    title, name = wording.title(facts.config), facts.folder.path.resolve().name
    done, planned, stopped = len(facts.metrics), facts.config.training.epochs, facts.summary is None
    state = f"stopped after {wording.plural(done, 'epoch')}" + (f" of {planned}" if planned else "")
    versions = (facts.summary or {}).get("versions")
    libraries = [f"{name} {version}" for name, version in versions.items()] if isinstance(versions, dict) else []
    if libraries and (facts.summary or {}).get("device"):
        libraries.append(f"trained on {(facts.summary or {})['device']}")
    return page.render(
        title,
        Headline(name, state if stopped else "finished", title, *_score(facts), warn=stopped),
        terms=[*_network(facts), *_start(facts), *wording.lead(facts.config, facts.spiking)],
        facts=_facts(facts),
        notes=facts.notes,
        sections=[
            Section("Learning", pictures=curves(facts), pair=True),
            Section("The first test sample", pictures=sample(facts)),
            Section(
                "Spikes per neuron",
                f"Means over {wording.plural(facts.rate_samples, 'test sample')}.",
                rates(facts),
                pair=in_pairs(facts.activity),
            ),
            Section("Weights", pictures=weights(facts), pair=in_pairs(facts.weights)),
            Section("Confusion matrix", pictures=classification_errors(facts), pair=True),
            Section("Targets and predictions", pictures=fitted(facts), pair=True),
            worst(facts),
            Section("What predictions rest on", pictures=relevance(facts)),
            Section("Accuracy over time", pictures=early(facts)),
            _verified(facts),
        ],
        footer=Footer(wording.command(facts.config, name), _options(facts.config), " · ".join(libraries)),
    )


def _score(facts: Facts) -> tuple[str, str]:
    """Score in large type, and its meaning."""
    summary, last = facts.summary or {}, facts.metrics[-1]
    samples = f", {facts.test_samples:,} samples" if facts.test_samples else ""
    if summary.get("test_accuracy") is not None:
        return wording.percent(summary["test_accuracy"], 2), f"test accuracy{samples}"
    task, score = facts.task, (summary.get("score") or {}).get("value")

    def shown(value: float) -> str:
        return wording.percent(value, 2) if task.share else wording.small(value)

    if score is not None:
        return shown(score), f"test {task.title}{samples}"
    if summary.get("test_loss") is not None:
        return wording.small(summary["test_loss"]), f"test loss{samples}"
    for part in ("test", "validation", "train"):
        if f"{part}_{task.score}" in last:
            return shown(last[f"{part}_{task.score}"]), f"{part} {task.title} after epoch {int(last['epoch'])}"
    return "–", f"no {task.title} was measured"


def _network(facts: Facts) -> list[tuple[str, str]]:
    """Sizes of the layers, where they are known."""
    if facts.config.model.name.endswith("mlp"):
        sizes = [
            wording.joined(
                (math.prod(facts.shape), *facts.config.model.options.get("hidden", ()), facts.classes), " → "
            )
        ]
    elif facts.activity:
        sizes = [wording.joined(shape) for shape in (facts.shape, *(layer.shape for layer in facts.activity))]
    else:
        return []
    if len(sizes) > MOST_SIZES:
        sizes = [*sizes[:2], f"… ({len(sizes) - 4} more layers)", *sizes[-2:]]
    return [("Network", " → ".join(sizes))]


def _start(facts: Facts) -> list[tuple[str, str]]:
    """Weights that the run was started from, where they were not drawn."""
    own = facts.started
    if own is None:
        return []
    return [("Start", "; ".join([f"the weights {own.name} (sha256 {own.sha256[:DIGITS]})", *own.notes]) + ".")]


def _facts(facts: Facts) -> list[tuple[str, str]]:
    summary, last = facts.summary or {}, facts.metrics[-1]
    pairs = [("parameters", f"{summary.get('parameters', facts.parameters):,}")]
    if facts.spiking:
        pairs += _steps(facts)
    pairs.append(("epochs", f"{len(facts.metrics)}"))
    times = [row["seconds"] for row in facts.metrics if "seconds" in row]
    each = summary.get("seconds_per_epoch", sum(times) / len(times) if times else None)
    if each is not None:
        pairs.append(("time per epoch", wording.seconds(each)))
    if facts.mean_rate is not None:
        pairs.append(("spikes per neuron and step", f"{facts.mean_rate:.3f}"))
    density = summary.get("update_density", last.get("update_density"))
    if density is not None:
        pairs.append(("weights touched per update", wording.percent(density, 0 if density > 0.1 else 1)))
    return pairs


def _steps(facts: Facts) -> list[tuple[str, str]]:
    """Number of steps of a sample; recordings cut by time or by number of events have as many as they are long."""
    if facts.config.events.window is None and facts.config.events.events_per_step is None:
        return [] if facts.config.data.steps is None else [("steps per sample", str(facts.config.data.steps))]
    return [] if facts.sample is None else [("steps of the first test sample", f"{len(facts.sample.outputs):,}")]


def _options(config: RunConfig) -> str:
    """``config.yaml`` without folders of this machine: a report is passed on."""
    values = yaml.safe_load(config.to_yaml())
    values["run"].pop("data_dir", None)
    values.get("events", {}).pop("cache_dir", None)
    values["data"]["name"] = without_folder(values["data"]["name"])
    for name, value in values["model"].items():
        if isinstance(value, list):
            values["model"][name] = ",".join(map(str, value))
    return yaml.safe_dump(values, sort_keys=False)


# The sections, from top to bottom.


def curves(facts: Facts) -> list[Picture]:
    """Draw the score and the objective over the epochs."""
    epochs = [int(row["epoch"]) for row in facts.metrics]

    def column(name: str) -> list[float | None]:
        return [row.get(name) for row in facts.metrics]

    task, parts = facts.task, ("train", "validation", "test")
    scores = {part: column(f"{part}_{task.score}") for part in parts}
    scores = {part: line for part, line in scores.items() if any(value is not None for value in line)}
    pictures = []
    if scores:
        title = task.title[0].upper() + task.title[1:]
        pictures.append(
            _picture(
                title,
                task.meaning + ("" if task.rises else "; 0 would be exact"),
                f"{title} over epochs: " + _last(scores, task.share),
                partial(figures.curves, epochs, scores, task.title, share=task.share),
            )
        )
    objectives = {
        "Reward": (
            {"reward_magnitude": "still to hand out", "reward": "signed"},
            "mean size and signed mean; 0 once all outputs do what they should",
        ),
        "Loss": (
            {"loss": "train", "validation_loss": "validation", "test_loss": "test"}
            if "loss" in facts.metrics[-1]
            else {},
            task.loss_meaning,
        ),
    }
    for title, (columns, caption) in objectives.items():
        lines = {label: column(name) for name, label in columns.items() if any(name in row for row in facts.metrics)}
        if lines:
            pictures.append(
                _picture(
                    title,
                    caption,
                    f"{title} over epochs: " + _last(lines, False),
                    partial(figures.curves, epochs, lines, title.lower()),
                )
            )
    return pictures


def sample(facts: Facts) -> list[Picture]:
    """Draw the raster of a spiking network, and the output values of a network whose outputs are no spikes."""
    sample, names = facts.sample, facts.class_names
    if sample is None:
        return []
    text = _sample_text(facts)
    layers = [(layer.title, layer.spikes) for layer in _ends(facts.activity, RASTER_LAYERS)]
    if layers and sample.inputs is not None:
        layers.insert(0, ("Input", sample.inputs))
    pictures = []
    if layers:
        draw = partial(
            rasters.raster, None if facts.line else sample.image, layers, sample.label, names,
            output=facts.output_spikes, scores=sample.scores if facts.output_spikes else None,
            events=sample.sequence, step=wording.step(facts.config),
        )  # fmt: skip
        steps = wording.plural(len(sample.outputs), "step")
        title = f"Spikes of each layer over {steps}. {text}"
        pictures.append(_picture("Spikes over time", _raster_caption(facts, layers), title, draw, wide=True))
    if sample.label is None:
        caption = (
            "Lines are outputs, step by step, in the units of training; dashed, what was wanted."
            if facts.task.kind == "values"
            else ("Lines are outputs, step by step.")
        )
        wanted = sample.target if facts.task.kind == "values" else None
        draw = partial(figures.traces, sample.outputs, wanted, names, step=wording.step(facts.config))
        pictures.append(_picture("Outputs", caption, text, draw, wide=True))
    elif not facts.output_spikes:
        draw = partial(rasters.outputs, None if facts.line else sample.image, sample.scores, sample.label, names)
        pictures.append(_picture("Outputs", "The class with the largest output wins.", text, draw, wide=True))
    return pictures


def _sample_text(facts: Facts) -> str:
    """Description of the first test sample: its class or target, and the reading."""
    sample, names = facts.sample, facts.class_names
    assert sample is not None
    if sample.label is not None:
        best = ", ".join(f"{names[c]} {sample.scores[c]:.3g}" for c in (-sample.scores).argsort(kind="stable")[:5])
        return f"True class {names[sample.label]}, predicted {names[sample.predicted]}. Largest outputs: {best}"
    if sample.scores.ndim > 1:
        return "A class is read at every step"
    assert sample.target is not None
    pairs = zip(names, sample.target, sample.scores, strict=True)
    return "; ".join(f"{theme.short(name)}: wanted {wanted:.3g}, read {read:.3g}" for name, wanted, read in pairs)


def _raster_caption(facts: Facts, layers: list[tuple[str, Any]]) -> str:
    """Explanation of the raster."""
    caption = "A row is a neuron, a tick one of its spikes; the most active neurons of a layer are on top"
    large = any(spikes.shape[1] > rasters.ALL_NEURONS for _, spikes in layers)
    caption += ", of large layers an even choice of those that spike." if large else "."
    if facts.output_spikes:
        caption += " The class with the most spikes wins."
    if facts.line:
        caption = f"Above, the recording, channel by channel. {caption}"
    elif facts.camera:
        caption = (
            "On the left, the busiest quarter of the recording. Above, pictures of all events of several steps, and "
            f"how many inputs are not 0 in each step. {caption}"
        )
    return caption


def rates(facts: Facts) -> list[Picture]:
    """Draw the spike rates of each layer."""
    known = (facts.summary or {}).get("spike_rates") or {}
    width = theme.HALF if in_pairs(facts.activity) else theme.THIRD
    pictures = []
    for layer in _ends(facts.activity, SHOWN_LAYERS):
        rate = known.get(layer.name, float(layer.rates.mean()))
        size = wording.joined(layer.shape) if len(layer.shape) > 1 else f"{layer.rates.size:,}"
        caption = f"{size} neurons, {rate:.3f} spikes per neuron and step"
        if layer.own is not None and layer.other is not None and layer.rates.size <= theme.NAMED_CLASSES:
            draw = partial(figures.class_rates, layer.own, layer.other, facts.class_names, width=width)
        else:
            draw = partial(figures.rates, layer.rates, width=width)
        silent = wording.percent(layer.silent)
        text = f"Spikes per neuron of {layer.title.lower()} (module {layer.name}): {caption}, {silent} silent"
        pictures.append(_picture(layer.title, caption, text, draw))
    return pictures


def weights(facts: Facts) -> list[Picture]:
    """Draw the weights of each layer."""
    width = theme.HALF if in_pairs(facts.weights) else theme.THIRD
    return [
        _picture(
            layer.title,
            layer.kind,
            f"Histogram of the weights of {layer.title.lower()}, {layer.kind}",
            partial(figures.weights, layer.before, layer.after, width=width),
        )
        for layer in _ends(facts.weights, SHOWN_LAYERS)
    ]


def classification_errors(facts: Facts) -> list[Picture]:
    """Draw the confusion matrix and the most confidently misread samples."""
    errors = facts.errors
    if errors is None:
        return []
    which = (
        f"the first {errors.samples:,} of {errors.total:,}"
        if errors.samples < errors.total
        else f"all {errors.total:,}"
    )
    count = int(errors.confusion.sum() - errors.confusion.trace())
    pictures = [
        _picture(
            "True and predicted classes",
            f"{which} test samples, {wording.plural(count, 'error')}",
            f"Confusion matrix of {which} test samples: {wording.plural(count, 'error')}",
            partial(figures.confusion, errors.confusion, facts.class_names),
        )
    ]
    if errors.wrong and (facts.line or rasters.is_image(errors.wrong[0][0])):
        names = [(facts.class_names[label], facts.class_names[predicted]) for _, label, predicted, _ in errors.wrong]
        pictures.append(
            _picture(
                "Most confidently wrong",
                "right class → predicted class, "
                + ("ahead by the most spikes" if facts.output_spikes else "most ahead")
                + ("; the busiest quarter of each recording" if facts.camera else ""),
                "Misread samples: " + ", ".join(f"{label} as {predicted}" for label, predicted in names),
                partial(rasters.misread, errors.wrong, facts.class_names, line=facts.line),
            )
        )
    return pictures


def fitted(facts: Facts) -> list[Picture]:
    """Draw predicted against true values, and errors by size; of labels and steps how often each is found."""
    fitted, names = facts.fitted, facts.class_names
    if fitted is None:
        return []
    count = f"{wording.plural(len(fitted.wanted), 'step' if facts.task.kind == 'steps' else 'test sample')}"
    if facts.task.kind == "steps":
        table = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(table, (fitted.wanted[:, 0], fitted.predicted[:, 0]), 1)
        wrong = wording.plural(int(table.sum() - table.trace()), "error")
        draw = partial(figures.confusion, table, names)
        caption = f"{count}, {wrong}"
        return [_picture("Confusion matrix", caption, f"Confusion matrix of {caption}", draw)]
    if facts.task.kind == "labels":
        wanted, found = fitted.wanted > 0, fitted.predicted > 0
        draw = partial(
            figures.found_labels, (wanted & found).sum(0), (wanted & ~found).sum(0), (~wanted & found).sum(0), names
        )
        caption = f"{count}: labels that were found, missed, and named without being there"
        return [_picture("Label by label", caption, caption, draw)]
    wanted, predicted = fitted.wanted, fitted.predicted
    error = predicted - wanted
    rmse = ", ".join(
        f"{theme.short(name)} {wording.small(float(value))}"
        for name, value in zip(names, np.sqrt((error**2).mean(0)), strict=True)
    )
    spread = wanted.std(0)
    unit, per_output = "", f"; RMSE: {rmse}" if len(names) > 1 else ""
    if len(names) > 1 and spread.min() > 0 and spread.max() > APART * spread.min():
        unit = ", each output by its mean and deviation over them"
        middle = wanted.mean(0)
        wanted, predicted, error = (wanted - middle) / spread, (predicted - middle) / spread, error / spread
    return [
        _picture(
            "Predicted against true",
            f"{count}; on the line a prediction is exact{unit}{per_output}",
            f"Predicted against true values of {count}{unit}; RMSE: {rmse}",
            partial(figures.against, wanted, predicted, names),
        ),
        _picture(
            "Errors",
            "predicted minus true value" + (", in deviations of each output" if unit else ""),
            f"Histogram of errors of {count}{unit}; RMSE: {rmse}",
            partial(figures.residuals, error, names),
        ),
    ]


def worst(facts: Facts) -> Section:
    """List the test samples that are furthest off: number, and true and predicted value of each output."""
    title, text = "Furthest off", "The test samples with the largest errors."
    fitted = facts.fitted
    if fitted is None or facts.task.kind != "values":
        return Section(title)
    error = fitted.predicted - fitted.wanted
    spread = np.maximum(fitted.wanted.std(0), 1e-30)
    order = np.argsort(-((error / spread) ** 2).sum(1), kind="stable")[:WORST]
    both = np.stack([fitted.wanted, fitted.predicted], -1)  # [n, K, 2]
    names = [f"{what} {theme.short(name, 24)}" for name in facts.class_names for what in ("true", "predicted")]
    rows = [[f"{index:,}", *(f"{value:.4g}" for value in both[index].ravel())] for index in order.tolist()]
    return Section(title, text, head=["sample", *names], rows=[[(cell, "") for cell in row] for row in rows])


def relevance(facts: Facts) -> list[Picture]:
    """Draw the relevance of inputs for the predicted classes, and the accuracy while inputs are deleted."""
    found = facts.explained
    if found is None:
        return []
    fifth = found.curve.shares.index(0.2)
    caption = (
        f"test samples above the relevance of their inputs; with the most relevant fifth of the inputs deleted, "
        f"{wording.percent(found.curve.accuracy[fifth])} of {found.samples} samples are still right, with a fifth "
        f"deleted at random {wording.percent(found.curve.random[fifth])}"
    )
    return [_picture("Relevance of the inputs", caption, caption, partial(explained.draw, found), wide=True)]


def early(facts: Facts) -> list[Picture]:
    """Draw the accuracy of a spiking network that is read before the end."""
    if facts.errors is None or facts.errors.early is None or not facts.spiking:
        return []
    accuracy, samples = facts.errors.early, facts.errors.samples
    final = float(accuracy[-1])
    apart = np.flatnonzero(~(accuracy >= final - CLOSE))  # NaN is apart too
    settled = int(apart[-1]) + 2 if apart.size else 1
    caption = (
        f"share of {samples:,} test samples that are right if the outputs so far are read after each step; from step "
        f"{settled} on no more than 1 percentage point below the end"
    )
    return [
        _picture(
            "Accuracy over the steps of a sample",
            caption,
            f"Accuracy after each of {len(accuracy)} steps: {wording.percent(final)} at the end; {caption}",
            partial(figures.early, accuracy, settled, wording.step(facts.config)),
            wide=True,
        )
    ]


def _verified(facts: Facts) -> Section:
    """Results of ``hw-export verify``, as far as they are there."""
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
    return Section("Same spikes in other simulators", text, head=head, rows=rows)


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0


# What the sections share.


def _picture(title: str, caption: str, text: str, draw: Callable[..., Figure], *, wide: bool = False) -> Picture:
    return Picture(title, caption, text, png(draw(theme=LIGHT)), png(draw(theme=DARK)), wide)


def _last(lines: dict[str, list[float | None]], share: bool) -> str:
    """Last values of some curves, as text."""
    ends = {name: [value for value in line if value is not None][-1] for name, line in lines.items()}
    return ", ".join(f"{name} {wording.percent(end, 2) if share else wording.small(end)}" for name, end in ends.items())


def _ends(items: list[Any], most: int) -> list[Any]:
    """All items, or the first and the last ones of many."""
    return items if len(items) <= most else [*items[: most // 2], *items[-(most - most // 2) :]]


def in_pairs(items: list[Any]) -> bool:
    """Whether a grid of two columns is fuller than one of three."""
    return len(items) in (1, 2, 4)
