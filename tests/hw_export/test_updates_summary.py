"""What `inspect` counts, and its picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from updates_nets import frame, image_of, recorded, write

from hw_export.updates import Mark, inspect
from hw_export.updates.plot import draw, save_plot
from spikelfp.errors import DataError, UserError


def test_numbers_are_those_of_the_images(tmp_path):
    images = recorded(tmp_path / "a", steps=8, bits=4)
    summary = inspect(tmp_path / "a")
    changed = {
        name: [int((a.arrays[name] != b.arrays[name]).sum()) for a, b in pairwise(images)] for name in images[0].arrays
    }
    per_step = np.sum(list(changed.values()), axis=0)
    elements = sum(array.size for array in images[0].arrays.values())
    assert (summary.steps, summary.looks, summary.frames) == (8, 8, int((per_step > 0).sum()))
    assert summary.density == pytest.approx(per_step.sum() / (8 * elements))
    assert summary.largest_density == pytest.approx(per_step.max() / elements)
    assert summary.bytes == (tmp_path / "a").stat().st_size
    assert summary.image_bytes == images[0].nbytes == 5 * 6 + 3 * 5 + 4 * (5 + 3)
    assert summary.share_of_dense == pytest.approx(summary.bytes / (8 * images[0].nbytes))
    for p in summary.parameters:
        assert p.changes == sum(changed[p.name])
        assert summary.series.changes[p.name].tolist() == [
            n for n, all_ in zip(changed[p.name], per_step, strict=True) if all_
        ]
        ends = [int((abs(image.arrays[p.name]) == 7).sum()) for image in images]
        if p.name.endswith("weight"):
            assert (p.saturated_first, p.saturated_last) == (ends[0], ends[-1])
            steps = summary.series.step.tolist()
            assert summary.series.saturated[p.name].tolist() == [ends[step] for step in steps]
    assert summary.closed
    assert summary.as_dict()["parameters"][0]["name"] == "1.weight"


def test_saturated_weights_are_pointed_out():
    base = image_of((10, 10))
    base.arrays["0.weight"][:] = 0
    stream = b"".join(write(base, [frame(1, "0.weight", [0, 1, 2], [7, -7, 6])]))
    summary = inspect(stream)
    assert (summary.parameters[0].saturated_first, summary.parameters[0].saturated_last) == (0, 2)
    assert any("2.0% of 0.weight are at an end of their grid" in note for note in summary.notes)


def test_without_the_base_image():
    base = image_of((4, 4))
    stream = b"".join(write(base, [frame(3, "0.weight", [0], [1])], embed=False))
    bare, whole = inspect(stream), inspect(stream, base)
    assert bare.parameters[0].saturated_last is None
    assert whole.parameters[0].saturated_last is not None
    assert (bare.density, bare.steps) == (whole.density, whole.steps) == (1 / 48, 3)
    with pytest.raises(DataError, match="another base image"):
        inspect(stream, image_of((4, 4), seed=3))


def test_streams_that_were_cut():
    base = image_of((4, 4))
    records = write(base, [frame(1, "0.weight", [0], [1]), frame(2, "0.weight", [0], [2])])
    cut = inspect(b"".join(records)[:-1])
    assert (cut.frames, cut.closed) == (1, False)
    assert "ends inside a frame" in cut.notes[0]
    with pytest.raises(DataError, match="ends inside its header"):
        inspect(records[0][:50])


def test_a_stream_without_frames():
    base = image_of((4, 4))
    summary = inspect(b"".join(write(base, [Mark(0, base.digest())])))
    assert (summary.looks, summary.frames, summary.share_of_dense, summary.density) == (0, 0, None, 0.0)
    with pytest.raises(UserError, match="no frames"):
        draw(summary)


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("steps", [1, 6, 300])
def test_the_plot(tmp_path, steps, embed):
    recorded(tmp_path / "a", steps=steps, embed=embed)
    summary = inspect(tmp_path / "a")
    figure = draw(summary)
    assert len(figure.axes) == (3 if embed else 2)
    lines = figure.axes[0].get_lines()
    assert [text.get_text().split()[0] for text in figure.axes[0].get_legend().get_texts()] == ["1.weight", "3.weight"]
    for line, name in zip(lines, ("1.weight", "3.weight"), strict=True):
        mean = np.nanmean(np.nan_to_num(line.get_ydata()))
        density = next(p.density for p in summary.parameters if p.name == name)
        assert mean == pytest.approx(density, rel=0.02), "the mean of the line is the density"
    assert np.mean(figure.axes[1].get_lines()[0].get_ydata()) * summary.image_bytes * steps == pytest.approx(
        summary.series.size.sum(), rel=0.02
    )
    save_plot(summary, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").std() > 0.01
