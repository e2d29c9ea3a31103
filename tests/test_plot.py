"""Plots: what is drawn on the axes, against the numbers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spikelfp import models, nn, plot
from spikelfp.errors import ShapeError, UserError
from spikelfp.pruning import Curve
from spikelfp.report.theme import LIGHT, png


@pytest.fixture
def axes():
    return Figure().add_subplot()


def segments(axes):
    return sum(len(each.get_segments()) for each in axes.collections)


def test_a_raster_has_a_tick_for_each_spike(axes):
    spikes = (torch.rand(9, 3, 2, 4) < 0.4).float()
    assert plot.raster(spikes, sample=2, axes=axes) is axes
    assert segments(axes) == int(spikes[:, 2].sum())
    rows = {round(float(segment[:, 1].mean())) for segment in axes.collections[0].get_segments()}
    assert rows == set(spikes[:, 2].flatten(1).any(0).nonzero()[:, 0].tolist())


def test_large_layers_are_thinned_out(axes):
    plot.raster(torch.ones(3, 1, 1000), axes=axes)
    assert segments(axes) == 3 * 120
    assert axes.get_ylabel() == "120 of 1,000 neurons"


def test_bars_of_weights_are_their_percentiles(axes):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    plot.weights(net, axes=axes)
    size = net[2].weight.detach().abs().numpy()
    wanted = np.percentile(size / size.max(), [0, 25, 50, 75, 100])
    bars = [patch for patch in axes.patches if round(patch.get_x() + patch.get_width() / 2, 6) == 1]
    outer, inner = sorted(bars, key=lambda bar: bar.get_y())
    assert [outer.get_y(), inner.get_y()] == pytest.approx(wanted[:2].tolist())
    tops = [bar.get_y() + bar.get_height() for bar in (inner, outer)]
    assert tops == pytest.approx(wanted[3:].tolist())
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "2"]


def test_networks_stand_side_by_side(axes):
    nets = {"LFP": nn.Sequential(nn.Linear(4, 5)), "gradient": nn.Sequential(nn.Linear(4, 5))}
    plot.weights(nets, axes=axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["LFP", "gradient"]
    assert len(axes.patches) == 4
    assert plot.weights({"0.weight": torch.zeros(3, 2)}).patches  # a state dict; all zeros


ROWS = [
    {"epoch": 1, "train_accuracy": 0.5, "test_accuracy": 0.4, "train_loss": 2.0},
    {"epoch": 2, "train_accuracy": 0.75, "test_accuracy": None, "train_loss": 1.0},
]


def test_columns_of_a_run_are_drawn(axes, tmp_path):
    plot.history(ROWS, axes=axes)
    lines = {line.get_label().split()[0]: line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 1}
    assert list(lines["train_accuracy"]) == [0.5, 0.75]
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,2.0\n2,1.0\n")
    for run in (tmp_path, str(tmp_path / "metrics.csv")):
        found = plot.history(run, ["train_loss"])
        assert list(found.lines[0].get_ydata()) == [2.0, 1.0]


def test_curves_of_pruning_are_means_over_seeds(axes):
    one, two = (Curve((0.0, 0.5), (0.9, low), "magnitude", "global") for low in (0.4, 0.6))
    plot.pruning({"LFP": [one, two], "gradient": one}, axes=axes)
    assert list(axes.lines[0].get_ydata()) == pytest.approx([90, 50])
    assert list(axes.lines[1].get_ydata()) == pytest.approx([90, 40])
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((40, 90))
    assert plot.pruning(one).lines


def test_a_map_of_relevance_is_summed_over_the_steps(axes):
    found = torch.randn(4, 1, 6, 5)
    plot.relevance(found, axes=axes)
    np.testing.assert_allclose(axes.images[0].get_array(), found.sum((0, 1)).numpy(), rtol=1e-5)
    assert plot.relevance(torch.randn(4, 7)).images[0].get_array().shape == (7, 4)


def test_the_boundary_is_where_the_class_changes(axes):
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))  # class 1 left of 0
    x = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]])
    plot.decision_boundary(net, x, torch.tensor([1, 0, 0]), points=20, axes=axes)
    picture = np.asarray(axes.images[0].get_array())
    assert (picture[:, :10] == 1).all()
    assert (picture[:, 10:] == 0).all()
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 1]
    assert to_rgb(axes.lines[0].get_color()) == to_rgb(LIGHT.main)
    spiking = models.models["lif-mlp"]((2,), 5, hidden=(8,))
    assert plot.decision_boundary(spiking, torch.rand(9, 2), torch.arange(9) % 5, steps=4, points=9).images


def test_new_figures_can_be_written():
    for made in (plot.raster(torch.ones(3, 4)), plot.history(ROWS), plot.relevance(torch.randn(4, 7))):
        assert png(made.figure).startswith(b"\x89PNG")


def test_one_column_has_a_name():
    assert plot.history(ROWS, "train_accuracy").get_ylabel() == plot.history(ROWS, ["train_accuracy"]).get_ylabel()


def test_spikes_of_short_numbers_are_drawn():
    assert plot.raster(torch.ones(3, 4, dtype=torch.bfloat16)).get_ylabel() == "4 neurons"


PLANE, LABELS = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
CURVE = Curve((0.0, 0.5), (0.9, 0.4), "magnitude", "global")


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: plot.raster(torch.ones(3)), ShapeError, "spikes have shape"),
        (lambda: plot.raster(torch.ones(3, 2, 4), sample=2), ShapeError, "no sample 2"),
        (lambda: plot.weights({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2))}), UserError, "different"),
        (lambda: plot.weights({}), UserError, "no network"),
        (lambda: plot.history([]), UserError, "no epochs"),
        (lambda: plot.history(ROWS, ["loss"]), UserError, "no column loss; it has train_accuracy"),
        (lambda: plot.history([{"epoch": 1, "lr": 1}]), UserError, "no column of accuracy"),
        (lambda: plot.history("nowhere"), UserError, "cannot read nowhere"),
        (lambda: plot.pruning({}), UserError, "no curve"),
        (lambda: plot.pruning({"a": [CURVE, Curve((0.0,), (1.0,), "", "")]}), UserError, "different rates"),
        (lambda: plot.raster([[1]]), UserError, "got list"),
        (lambda: plot.raster(torch.ones(3, 2, 4), sample=1.5), UserError, "sample is a whole number"),
        (lambda: plot.weights({"w": torch.full((2, 2), torch.nan)}), UserError, "NaN"),
        (lambda: plot.weights({"w": torch.ones(0, 2)}), UserError, "no numbers to draw"),
        (lambda: plot.history(3), UserError, "got 3"),
        (lambda: plot.history([{"epoch": "x", "accuracy": 1}]), UserError, "an epoch is a number, got 'x'"),
        (lambda: plot.pruning([CURVE]), UserError, "got list"),
        (lambda: plot.pruning({"a": 1}), UserError, "a has a int"),
        (lambda: plot.relevance(torch.full((2, 3), torch.nan)), UserError, "NaN"),
        (lambda: plot.decision_boundary(nn.Linear(2, 2), PLANE, LABELS + 10**9), UserError, "no class 1000000001"),
        (lambda: plot.decision_boundary(nn.Linear(2, 2), PLANE, LABELS - 1), UserError, "got the label -1"),
        (lambda: plot.decision_boundary(nn.Linear(2, 2), PLANE, LABELS, points=2.5), UserError, "points is a whole"),
        (lambda: plot.relevance(torch.ones(3)), ShapeError, "relevance of one sample"),
        (lambda: plot.decision_boundary(nn.Linear(3, 2), torch.ones(4, 3), torch.ones(4)), ShapeError, "samples are"),
    ],
)
def test_mistakes_are_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
