"""From the facts of a run to its page."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from spikelfp.files import write_text
from spikelfp.report import html, plots, words
from spikelfp.report.gather import Facts, gather
from spikelfp.report.html import Picture
from spikelfp.report.theme import DARK, LIGHT, png
from spikelfp.training.config import RunConfig

SHOWN_LAYERS = 12
"""Layers whose rates and weights are shown: of a deeper network the first and the last ones."""

RASTER_LAYERS = 5
"""Spiking layers in the raster: of a deeper network the first and the last ones."""


def write_report(run: str | Path, data_dir: str | None = None) -> Path:
    """See :func:`spikelfp.report.write_report`."""
    facts = gather(run, data_dir)
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
        html.section("Learning", "", _curves(facts), pair=True),
        html.section("The first test sample", "", _sample(facts)),
        html.section("Who spikes how often", _rates_text(facts), _rates(facts), pair=_in_pairs(facts.activity)),
        html.section("Weights", "", _weights(facts), pair=_in_pairs(facts.weights)),
        html.section("Right and wrong", "", _errors(facts), pair=True),
        _verified(facts),
        _footer(facts),
    ]
    return html.page(words.title(config), parts)


def _header(facts: Facts) -> str:
    done, planned = len(facts.metrics), facts.config.epochs
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
    if summary.get("test_loss") is not None:
        return words.small(summary["test_loss"]), f"test loss{samples}"
    for name in ("test_accuracy", "validation_accuracy", "train_accuracy"):
        if name in last:
            return words.percent(last[name], 2), f"{name.replace('_', ' ')} after epoch {int(last['epoch'])}"
    return "–", "no accuracy was measured"


def _network(facts: Facts) -> list[tuple[str, str]]:
    """The sizes of the layers, where they are known."""
    if facts.config.model.endswith("mlp"):
        sizes = [words.joined((math.prod(facts.shape), *facts.config.hidden, facts.classes), " → ")]
    elif facts.activity:
        sizes = [words.joined(shape) for shape in (facts.shape, *(layer.shape for layer in facts.activity))]
    else:
        return []
    return [("Network", " → ".join(sizes))]


def _facts(facts: Facts) -> list[tuple[str, str]]:
    summary, last = facts.summary or {}, facts.metrics[-1]
    pairs = [("parameters", f"{summary.get('parameters', facts.parameters):,}")]
    if facts.spiking:
        pairs.append(("steps per sample", str(facts.config.steps)))
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


def _curves(facts: Facts) -> list[Picture]:
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


def _sample(facts: Facts) -> list[Picture]:
    """The raster of a spiking network; the output values of one whose outputs are no spikes."""
    sample, names = facts.sample, facts.class_names
    if sample is None:
        return []
    total = sample.outputs.sum(0)
    best = ", ".join(f"{names[index]} {total[index]:.3g}" for index in (-total).argsort(kind="stable")[:5])
    text = f"True class {names[sample.label]}, predicted {names[sample.predicted]}. Largest outputs: {best}"
    layers = [(layer.title, layer.spikes) for layer in _ends(facts.activity, RASTER_LAYERS)]
    if layers and sample.inputs is not None:
        layers.insert(0, ("Input", sample.inputs))
    pictures = []
    if layers:
        spiking = facts.output_spikes
        caption = "A row is a neuron, a tick one of its spikes; the most active neurons of a layer are on top"
        large = any(spikes.shape[1] > plots.ALL_NEURONS for _, spikes in layers)
        caption += ", of large layers an even choice of those that spike." if large else "."
        pictures.append(
            _picture(
                "Step by step",
                caption + (" The class with the most spikes wins." if spiking else ""),
                f"Spikes of each layer over {words.plural(len(sample.outputs), 'step')}. {text}",
                partial(plots.raster, sample.image, layers, sample.label, names, output=spiking),
                wide=True,
            )
        )
    if not facts.output_spikes:
        draw = partial(plots.outputs, sample.image, total, sample.label, names)
        pictures.append(_picture("Outputs", "The class with the largest output wins.", text, draw, wide=True))
    return pictures


def _rates_text(facts: Facts) -> str:
    return f"Means over {words.plural(facts.rate_samples, 'test sample')}."


def _rates(facts: Facts) -> list[Picture]:
    known = (facts.summary or {}).get("spike_rates") or {}
    width = plots.HALF if _in_pairs(facts.activity) else plots.THIRD
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


def _weights(facts: Facts) -> list[Picture]:
    width = plots.HALF if _in_pairs(facts.weights) else plots.THIRD
    return [
        _picture(
            layer.title,
            layer.kind,
            f"Histogram of the weights of {layer.title.lower()}, {layer.kind}",
            partial(plots.weights, layer.before, layer.after, width=width),
        )
        for layer in _ends(facts.weights, SHOWN_LAYERS)
    ]


def _errors(facts: Facts) -> list[Picture]:
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
    if errors.wrong and plots.is_image(errors.wrong[0][0]):
        names = [(facts.class_names[label], facts.class_names[predicted]) for _, label, predicted, _ in errors.wrong]
        pictures.append(
            _picture(
                "Most confidently wrong",
                "right class → predicted class, "
                + ("ahead by the most spikes" if facts.output_spikes else "most ahead"),
                "Misread samples: " + ", ".join(f"{label} as {predicted}" for label, predicted in names),
                partial(plots.misread, errors.wrong, facts.class_names),
            )
        )
    return pictures


def _verified(facts: Facts) -> str:
    """The results of ``hw-export verify``, as far as they are there."""
    if not facts.verified:
        return ""
    rows = []
    for entry in facts.verified:
        layers = [layer for layer in entry.get("layers") or [] if isinstance(layer, dict)]
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
    """``config.yaml`` without the folder of the data: a report is passed on."""
    values = yaml.safe_load(config.to_yaml())
    values.pop("data_dir", None)
    values["hidden"] = ",".join(map(str, values["hidden"]))
    return yaml.safe_dump(values, sort_keys=False)


def _run_name(facts: Facts) -> str:
    return facts.folder.path.resolve().name


def _picture(title: str, caption: str, text: str, draw: Callable[..., Figure], *, wide: bool = False) -> Picture:
    return Picture(title, caption, text, png(draw(theme=LIGHT)), png(draw(theme=DARK)), wide)


def _last(lines: dict[str, list[float | None]], share: bool) -> str:
    """The last values of some curves, in words."""
    ends = {name: [value for value in line if value is not None][-1] for name, line in lines.items()}
    return ", ".join(f"{name} {words.percent(end, 2) if share else words.small(end)}" for name, end in ends.items())


def _ends(items: list[Any], most: int) -> list[Any]:
    """All items, or the first and the last ones of many."""
    return items if len(items) <= most else [*items[: most // 2], *items[-(most - most // 2) :]]


def _in_pairs(items: list[Any]) -> bool:
    """Whether a grid of two columns is fuller than one of three."""
    return len(items) in (1, 2, 4)


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
