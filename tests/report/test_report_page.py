"""The page of every kind of run: its pictures, its numbers, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_pages import KINDS, Page

from spikelfp.report import rasters, theme, write, write_report
from spikelfp.report.facts import collect_facts
from spikelfp.training.run import RunFolder, read_metrics

Trained = Callable[[str], Path]
DRAWN = [kind for kind in KINDS if kind != "relu-lenet"]
SPIKING = [kind for kind, options in KINDS.items() if "lif" in str(options.get("model", "lif"))]


@pytest.fixture(scope="module")
def page(trained: Trained) -> Callable[[str], Page]:
    pages: dict[str, Page] = {}

    def get(kind: str) -> Page:
        if kind not in pages:
            path = write_report(trained(kind))
            assert path == trained(kind) / "report.html"
            pages[kind] = Page(path.read_text())
        return pages[kind]

    return get


def _is_drawn(image: Image.Image, paper: tuple[int, int, int]) -> bool:
    """Whether there is a picture on paper of that colour: pixels that differ clearly, but not all of them."""
    card = Image.new("RGBA", image.size, (*paper, 255))
    pixels = np.asarray(Image.alpha_composite(card, image.convert("RGBA")).convert("L"), dtype=float)
    return pixels.std() > 8 and 0.005 < (abs(pixels - np.median(pixels)) > 40).mean() < 0.9


@pytest.mark.parametrize("kind", DRAWN)
def test_pictures_are_drawn_sharp_and_for_both_colour_schemes(page: Callable[[str], Page], kind: str) -> None:
    pictures = page(kind).pictures
    assert len(pictures) >= 6
    for picture in pictures:
        assert _is_drawn(picture.light, (255, 255, 255)), picture.text
        assert _is_drawn(picture.dark, (0x1A, 0x1F, 0x26)), picture.text
        assert picture.light.size == picture.dark.size
        assert picture.light.width >= 2 * picture.width
        assert picture.light.tobytes() != picture.dark.tobytes()
        assert len(picture.text) > 20


@pytest.mark.parametrize("kind", DRAWN)
def test_has_what_belongs_to_the_kind(page: Callable[[str], Page], kind: str) -> None:
    shown, texts = page(kind), [picture.text for picture in page(kind).pictures]
    spiking = kind in SPIKING
    assert any(text.startswith("Accuracy over epochs") for text in texts)
    by_reward = KINDS[kind].get("method", "lfp") == "lfp"
    assert any(text.startswith("Reward over epochs") for text in texts) is by_reward
    assert any(text.startswith("Loss over epochs") for text in texts) is not by_reward
    assert any(text.startswith("Spikes of each layer") for text in texts) is spiking
    assert any(text.startswith("True class") for text in texts) is not spiking
    assert ("Spikes per neuron" in shown.headings) is spiking
    assert any(text.startswith("Confusion matrix of all") for text in texts)
    layers = 4 if "lenet" in kind else len(KINDS[kind]["hidden"]) + 1  # type: ignore[arg-type]
    assert sum(text.startswith("Histogram of the weights") for text in texts) == layers
    assert sum(text.startswith("Spikes per neuron") for text in texts) == (layers if spiking else 0)
    assert "finished" in shown.text
    assert "stopped" not in shown.text


@pytest.mark.parametrize("kind", DRAWN)
def test_is_self_contained(page: Callable[[str], Page], kind: str, tiny_mnist: Path, trained: Trained) -> None:
    shown = page(kind)
    assert "://" not in shown.source
    assert "url(" not in shown.source
    assert "@import" not in shown.source
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "iframe", "object", "embed", "a"}
    for tag, attributes in shown.tags:
        for name in {"src", "srcset", "href"} & set(attributes):
            assert (attributes[name] or "").startswith("data:image/png;base64,"), tag
    assert len(shown.source) < 2_000_000
    assert str(tiny_mnist) not in shown.source
    assert str(trained(kind).parent) not in shown.source


@pytest.mark.parametrize("kind", DRAWN)
def test_numbers_are_those_of_the_summary(page: Callable[[str], Page], kind: str, trained: Trained) -> None:
    shown, folder = page(kind).text, trained(kind)
    summary = json.loads((folder / "summary.json").read_text())
    assert f"{100 * summary['test_accuracy']:.2f} %" in shown
    assert f"parameters{summary['parameters']:,}" in shown
    assert f"epochs{summary['epochs']}" in shown
    for name, rate in summary["spike_rates"].items():
        assert f"{rate:.3f} spikes per neuron and step" in shown, name
    if summary["update_density"] is not None:
        assert f"weights touched per update{100 * summary['update_density']:.0f}" in shown
    for name, version in summary["versions"].items():
        assert f"{name} {version}" in shown
    last = read_metrics(RunFolder(folder))[-1]
    curve = page(kind).picture("Accuracy over epochs")
    for name in ("train", "test", "validation"):
        if f"{name}_accuracy" in last:
            assert f"{name} {100 * last[f'{name}_accuracy']:.2f} %" in curve.text


def test_mean_rate_weighs_layers_by_their_neurons(page: Callable[[str], Page], trained: Trained) -> None:
    rates = json.loads((trained("spiking-mlp") / "summary.json").read_text())["spike_rates"]
    sizes = {"2": 300, "4": 24, "6": 10}
    mean = sum(rates[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert f"spikes per neuron and step{mean:.3f}" in page("spiking-mlp").text


def test_says_what_was_trained(page: Callable[[str], Page]) -> None:
    text = page("spiking-mlp").text
    assert "A spiking MLP on handwritten digits, trained with layer-wise feedback propagation" in text
    assert "64 → 300 → 24 → 10" in text
    assert "β = 0.9" in text
    assert "8 steps" in text
    assert "1 × 16 × 16 → 12 × 6 × 6 → 64 × 1 × 1 → 1,024 → 10" in page("spiking-lenet").text
    assert "trained with surrogate gradients" in page("one-epoch").text


@pytest.mark.usefixtures("undrawn")
def test_relu_network_trained_by_reward(run: Callable[..., Path]) -> None:
    shown = Page(write_report(run("relu-lenet")).read_text())
    assert [picture.text.split(" ")[0] for picture in shown.pictures[:3]] == ["Accuracy", "Reward", "True"]
    assert "A LeNet on MNIST, trained with layer-wise feedback propagation" in shown.text
    assert "steps per sample" not in shown.text


def test_input_spikes_have_their_own_raster(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def raster(image: object, layers: list[tuple[str, object]], *rest: object, **options: object) -> Figure:
        drawn.extend(title for title, _ in layers)
        return theme.new_figure(10, 10)

    monkeypatch.setattr(rasters, "raster", raster)
    write.sample(collect_facts(trained("one-epoch")))
    assert drawn == ["Input", "Hidden layer 1", "Output layer"] * 2
    drawn.clear()
    write.sample(collect_facts(trained("spiking-mlp")))
    assert drawn == ["Hidden layer 1", "Hidden layer 2", "Output layer"] * 2


@pytest.mark.usefixtures("undrawn")
def test_writing_again_gives_the_same_page(run: Callable[..., Path]) -> None:
    folder = run("relu-mlp")
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


@pytest.mark.usefixtures("undrawn")
def test_changes_nothing_else_in_the_folder(run: Callable[..., Path]) -> None:
    folder = run("one-epoch")

    def content() -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != "report.html")
        return {str(path): path.read_bytes() for path in files}

    before = content()
    write_report(folder)
    assert content() == before


def test_style_keeps_phones_and_dark_screens_in_mind(page: Callable[[str], Page]) -> None:
    source = page("one-epoch").source
    assert "prefers-color-scheme: dark" in source
    assert 'name="viewport"' in source
    assert re.search(r"max-width: \d+px", source)
