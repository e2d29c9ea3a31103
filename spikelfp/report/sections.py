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

CLOSE = 0.01
"""Accuracies that differ by no more, 1 percentage point, are as good as the same."""


def curves(facts: Facts) -> list[Picture]:
    epochs = [int(row["epoch"]) for row in facts.metrics]

    def column(name: str) -> list[float | None]:
        return [row.get(name) for row in facts.metrics]

    names = [
        name
        for name in ("train_accuracy", "validation_accuracy", "test_accuracy")
        if any(name in row for row in facts.metrics)
    ]
    accuracy = {name.split("_")[0]: column(name) for name in names}
    pictures = []
    if accuracy:
        pictures.append(
            _picture(
                "Accuracy",
                "share of samples whose right class has the largest output",
                "Accuracy over epochs: " + _last(accuracy, True),
                partial(plots.curves, epochs, accuracy, "accuracy", share=True),
            )
        )
    objectives = {
        "Reward": (
            {"reward_magnitude": "still to hand out", "reward": "signed"},
            "mean size and signed mean; 0 once all outputs do what they should",
        ),
        "Loss": ({"loss": "train"}, "softmax cross-entropy, averaged over steps"),
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
    best = ", ".join(f"{names[c]} {sample.scores[c]:.3g}" for c in (-sample.scores).argsort(kind="stable")[:5])
    text = f"True class {names[sample.label]}, predicted {names[sample.predicted]}. Largest outputs: {best}"
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
    if not facts.output_spikes:
        draw = partial(plots.outputs, None if facts.line else sample.image, sample.scores, sample.label, names)
        pictures.append(_picture("Outputs", "The class with the largest output wins.", text, draw, wide=True))
    return pictures


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
