"""The pictures of each section of the page, with their words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spikelfp.report import plots, words
from spikelfp.report.facts import Facts
from spikelfp.report.html import Picture
from spikelfp.report.theme import DARK, LIGHT, png

SHOWN_LAYERS = 12
"""Layers whose rates and weights are shown: of a deeper network the first and the last ones."""

RASTER_LAYERS = 5
"""Spiking layers in the raster: of a deeper network the first and the last ones."""

WORST = 8
"""Samples furthest off that are listed."""

APART = 4
"""Outputs whose values spread so many times more than those of others have no axis in common."""

CLOSE = 0.01
"""Accuracies that differ by no more, 1 percentage point, are as good as the same."""


def curves(facts: Facts) -> list[Picture]:
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
                partial(plots.curves, epochs, scores, task.title, share=task.share),
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
                    partial(plots.curves, epochs, lines, title.lower()),
                )
            )
    return pictures


def sample(facts: Facts) -> list[Picture]:
    """The raster of a spiking network; the output values of one whose outputs are no spikes."""
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
            plots.raster, None if facts.line else sample.image, layers, sample.label, names,
            output=facts.output_spikes, scores=sample.scores if facts.output_spikes else None,
            events=sample.sequence, step=words.step(facts.config),
        )  # fmt: skip
        steps = words.plural(len(sample.outputs), "step")
        title = f"Spikes of each layer over {steps}. {text}"
        pictures.append(_picture("Step by step", _raster_caption(facts, layers), title, draw, wide=True))
    if sample.label is None:
        caption = (
            "Lines are outputs, step by step, in the units of training; dashed, what was wanted."
            if facts.task.kind == "values"
            else ("Lines are outputs, step by step.")
        )
        wanted = sample.target if facts.task.kind == "values" else None
        draw = partial(plots.traces, sample.outputs, wanted, names, step=words.step(facts.config))
        pictures.append(_picture("Outputs", caption, text, draw, wide=True))
    elif not facts.output_spikes:
        draw = partial(plots.outputs, None if facts.line else sample.image, sample.scores, sample.label, names)
        pictures.append(_picture("Outputs", "The class with the largest output wins.", text, draw, wide=True))
    return pictures


def _sample_text(facts: Facts) -> str:
    """The first test sample in words: what it is, and what it is taken for."""
    sample, names = facts.sample, facts.class_names
    assert sample is not None
    if sample.label is not None:
        best = ", ".join(f"{names[c]} {sample.scores[c]:.3g}" for c in (-sample.scores).argsort(kind="stable")[:5])
        return f"True class {names[sample.label]}, predicted {names[sample.predicted]}. Largest outputs: {best}"
    if sample.scores.ndim > 1:
        return "A class is read at every step"
    assert sample.target is not None
    pairs = zip(names, sample.target, sample.scores, strict=True)
    return "; ".join(f"{plots.short(name)}: wanted {wanted:.3g}, read {read:.3g}" for name, wanted, read in pairs)


def _raster_caption(facts: Facts, layers: list[tuple[str, Any]]) -> str:
    """How to read the raster."""
    caption = "A row is a neuron, a tick one of its spikes; the most active neurons of a layer are on top"
    large = any(spikes.shape[1] > plots.ALL_NEURONS for _, spikes in layers)
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


def rates_text(facts: Facts) -> str:
    return f"Means over {words.plural(facts.rate_samples, 'test sample')}."


def rates(facts: Facts) -> list[Picture]:
    known = (facts.summary or {}).get("spike_rates") or {}
    width = plots.HALF if in_pairs(facts.activity) else plots.THIRD
    pictures = []
    for layer in _ends(facts.activity, SHOWN_LAYERS):
        rate = known.get(layer.name, float(layer.rates.mean()))
        size = words.joined(layer.shape) if len(layer.shape) > 1 else f"{layer.rates.size:,}"
        caption = f"{size} neurons, {rate:.3f} spikes per neuron and step"
        if layer.own is not None and layer.other is not None and layer.rates.size <= plots.NAMED_CLASSES:
            draw = partial(plots.class_rates, layer.own, layer.other, facts.class_names, width=width)
        else:
            draw = partial(plots.rates, layer.rates, width=width)
        silent = words.percent(layer.silent)
        text = f"Spike rates of {layer.title.lower()} (module {layer.name}): {caption}, {silent} silent"
        pictures.append(_picture(layer.title, caption, text, draw))
    return pictures


def weights(facts: Facts) -> list[Picture]:
    width = plots.HALF if in_pairs(facts.weights) else plots.THIRD
    return [
        _picture(
            layer.title,
            layer.kind,
            f"Histogram of the weights of {layer.title.lower()}, {layer.kind}",
            partial(plots.weights, layer.before, layer.after, width=width),
        )
        for layer in _ends(facts.weights, SHOWN_LAYERS)
    ]


def fitted(facts: Facts) -> list[Picture]:
    """Predicted against true values, and errors by size; of labels and steps how often each is found."""
    fitted, names = facts.fitted, facts.class_names
    if fitted is None:
        return []
    count = f"{words.plural(len(fitted.wanted), 'step' if facts.task.kind == 'steps' else 'test sample')}"
    if facts.task.kind == "steps":
        table = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(table, (fitted.wanted[:, 0], fitted.predicted[:, 0]), 1)
        wrong = words.plural(int(table.sum() - table.trace()), "error")
        draw = partial(plots.confusion, table, names)
        caption = f"{count}, {wrong}"
        return [_picture("What is taken for what", caption, f"Confusion matrix of {caption}", draw)]
    if facts.task.kind == "labels":
        wanted, found = fitted.wanted > 0, fitted.predicted > 0
        draw = partial(
            plots.found_labels, (wanted & found).sum(0), (wanted & ~found).sum(0), (~wanted & found).sum(0), names
        )
        caption = f"{count}: labels that were found, missed, and named without being there"
        return [_picture("Label by label", caption, caption, draw)]
    wanted, predicted = fitted.wanted, fitted.predicted
    error = predicted - wanted
    rmse = ", ".join(
        f"{plots.short(name)} {words.small(float(value))}"
        for name, value in zip(names, np.sqrt((error**2).mean(0)), strict=True)
    )
    spread = wanted.std(0)
    unit, told = "", f"; RMSE: {rmse}" if len(names) > 1 else ""
    if len(names) > 1 and spread.min() > 0 and spread.max() > APART * spread.min():
        unit = ", each output by its mean and deviation over them"
        middle = wanted.mean(0)
        wanted, predicted, error = (wanted - middle) / spread, (predicted - middle) / spread, error / spread
    return [
        _picture(
            "Predicted against true",
            f"{count}; on the line a prediction is exact{unit}{told}",
            f"Predicted against true values of {count}{unit}; RMSE: {rmse}",
            partial(plots.against, wanted, predicted, names),
        ),
        _picture(
            "How far off",
            "predicted minus true value" + (", in deviations of each output" if unit else ""),
            f"Histogram of errors of {count}{unit}; RMSE: {rmse}",
            partial(plots.residuals, error, names),
        ),
    ]


def worst(facts: Facts) -> list[list[str]]:
    """Rows of the test samples that are furthest off: number, true and predicted values, error."""
    fitted = facts.fitted
    if fitted is None or facts.task.kind != "values":
        return []
    error = fitted.predicted - fitted.wanted
    spread = np.maximum(fitted.wanted.std(0), 1e-30)
    order = np.argsort(-((error / spread) ** 2).sum(1), kind="stable")[:WORST]
    both = np.stack([fitted.wanted, fitted.predicted], -1)  # [n, K, 2]
    return [[f"{index:,}", *(f"{value:.4g}" for value in both[index].ravel())] for index in order.tolist()]


def errors(facts: Facts) -> list[Picture]:
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
            "What is taken for what",
            f"{which} test samples, {words.plural(count, 'error')}",
            f"Confusion matrix of {which} test samples: {words.plural(count, 'error')}",
            partial(plots.confusion, errors.confusion, facts.class_names),
        )
    ]
    if errors.wrong and (facts.line or plots.is_image(errors.wrong[0][0])):
        names = [(facts.class_names[label], facts.class_names[predicted]) for _, label, predicted, _ in errors.wrong]
        pictures.append(
            _picture(
                "Most confidently wrong",
                "right class → predicted class, "
                + ("ahead by the most spikes" if facts.output_spikes else "most ahead")
                + ("; the busiest quarter of each recording" if facts.camera else ""),
                "Misread samples: " + ", ".join(f"{label} as {predicted}" for label, predicted in names),
                partial(plots.misread, errors.wrong, facts.class_names, line=facts.line),
            )
        )
    return pictures


def early(facts: Facts) -> list[Picture]:
    """Accuracy of a spiking network if it is asked before the end."""
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
            f"Accuracy after each of {len(accuracy)} steps: {words.percent(final)} at the end; {caption}",
            partial(plots.early, accuracy, settled, words.step(facts.config)),
            wide=True,
        )
    ]


def _picture(title: str, caption: str, text: str, draw: Callable[..., Figure], *, wide: bool = False) -> Picture:
    return Picture(title, caption, text, png(draw(theme=LIGHT)), png(draw(theme=DARK)), wide)


def _last(lines: dict[str, list[float | None]], share: bool) -> str:
    """The last values of some curves, in words."""
    ends = {name: [value for value in line if value is not None][-1] for name, line in lines.items()}
    return ", ".join(f"{name} {words.percent(end, 2) if share else words.small(end)}" for name, end in ends.items())


def _ends(items: list[Any], most: int) -> list[Any]:
    """All items, or the first and the last ones of many."""
    return items if len(items) <= most else [*items[: most // 2], *items[-(most - most // 2) :]]


def in_pairs(items: list[Any]) -> bool:
    """Whether a grid of two columns is fuller than one of three."""
    return len(items) in (1, 2, 4)
