"""``spikelfp explain``: the curve of a run, its picture, and what is refused."""

from __future__ import annotations

import io
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from typer.testing import CliRunner

from spikelfp import explain
from spikelfp.cli import app
from spikelfp.errors import UserError
from spikelfp.report import rasters, write
from spikelfp.report.explained import Explained, draw, explain_run
from spikelfp.report.facts import collect_facts
from spikelfp.report.theme import LIGHT, fit, png
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train


def test_command_prints_the_curve_and_writes_the_picture(run) -> None:
    folder = run("spiking-mlp")
    done = CliRunner().invoke(app, ["explain", str(folder), "--samples", "60", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["accuracy"][0] == found["random"][0]
    assert found["accuracy"][3] < found["random"][3]
    assert f"{found['accuracy'][3]:.4f}" in done.output
    with Image.open(folder / "explain.png") as picture:
        assert picture.width > picture.height
    loaded = load_run(folder)
    test = loaded.splits().test
    x, labels = test.__getitems__([len(test) * number // 60 for number in range(60)])
    trainer = loaded.trainer()
    batch = trainer.batch(x, labels)
    worth = explain.relevance(loaded.net, batch.sequence, rule=trainer.method.rule)
    own = explain.deletion(loaded.net, batch.sequence, labels, worth, over_time=True)
    assert list(own.accuracy) == found["accuracy"]


def test_sequences_lose_inputs_step_by_step(tmp_path: Path) -> None:
    folder, random = tmp_path / "lines", np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(2):
            (folder / part / str(label)).mkdir(parents=True)
            for number in range(6):
                channels = random.integers(0, 3, 30) + 3 * label
                channels[0] = 5
                events = np.stack([np.sort(random.integers(0, 3000 * (1 + number % 2), 30)), channels], 1)
                np.save(folder / part / str(label) / f"{number}.npy", events)
    config = RunConfig(
        data=f"folder:{folder}", model="lif-rnn", hidden=(12,), window=1.0, steps=6, epochs=2, device="cpu"
    )
    train(config, tmp_path / "run", progress=False)
    curve = explain_run(tmp_path / "run", tmp_path / "a.png", 12)
    assert (
        curve.accuracy[0]
        == curve.random[0]
        == load_run(tmp_path / "run").trainer().evaluate(load_run(tmp_path / "run").splits().test).accuracy
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_relevance_in_its_place() -> None:
    image, worth = np.zeros((3, 1, 8, 8)), np.zeros((3, 1, 8, 8))
    image[:, 0, 2, 5] = 1.0
    worth[:, 0, 2, 5], worth[:, 0, 6, 1] = 1.0, -1.0
    curve = explain.Deletion((0.0, 0.5), (1.0, 0.2), (1.0, 0.9))
    drawn = png(draw(Explained([image], [worth], [("two", "")], curve, samples=1)), paper=LIGHT.paper)
    with Image.open(io.BytesIO(drawn)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 100).nonzero()
    orange = (pixels[..., 0] - pixels[..., 2] > 100).nonzero()
    left = pixels.shape[1] * 0.5
    rows, columns = blue[0][blue[1] < left], blue[1][blue[1] < left]
    other = orange[1] < left
    assert np.median(rows) < np.median(orange[0][other])
    assert np.median(columns) > np.median(orange[1][other])


LONG = ("hand_clapping_left", "right_hand_counter_clockwise", "手を左右に大きく叩いて回す動き", "a$b_{c}" * 6)


def test_long_names_of_classes_do_not_meet() -> None:
    """Beside each other, above each other, and inside the picture."""
    curve = explain.Deletion((0.0, 0.5), (1.0, 0.2), (1.0, 0.2))
    image = np.ones((2, 2, 6, 6))
    titles = [(LONG[number % 4], LONG[(number + 1) % 4] if number % 2 else "") for number in range(6)]
    figures = {
        "explained": draw(Explained([image] * 6, [image] * 6, titles, curve, samples=6)),
        "misread": rasters.misread([(image[0], number % 4, (number + 1) % 4, 1.0) for number in range(9)], LONG),
    }
    for name, figure in figures.items():
        png(figure)  # which chooses the font
        renderer = FigureCanvasAgg(figure).get_renderer()
        texts = [text for text in figure.texts if text.get_text().strip("■ ")]
        texts += [*(axes.title for axes in figure.axes if axes.title.get_text())]
        assert sum("…" in text.get_text() for text in texts) >= 6, name
        boxes = {text: text.get_window_extent(renderer) for text in texts}
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes.values())
        for one, other in combinations(boxes, 2):
            assert not boxes[one].overlaps(boxes[other]), (name, one, other)


def test_a_name_is_cut_to_its_place_in_the_middle() -> None:
    assert fit("cat", 60) == "cat"
    cut = fit("hand_clapping_left", 80)
    assert len(cut) < 18
    assert cut.startswith("hand")
    assert cut.endswith("left")
    assert len(fit("hand_clapping_left", 50)) < len(cut)
    assert fit("hand", 1) == "…"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--weights", "first"], "last or best"),
        (["--out", "a.jpg"], "NAME.png"),
        (["--samples", "0"], "equal to 1"),
    ],
)
def test_mistakes_are_told(run, options, said) -> None:
    done = CliRunner().invoke(app, ["explain", str(run("one-epoch")), *options])
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)


def test_a_task_without_classes_is_refused(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{n % 3},{n * 0.5}" for n in range(30))
    (tmp_path / "t.csv").write_text("a,b,price\n" + rows)
    options = {"data": f"csv:{tmp_path / 't.csv'}", "target": "price", "hidden": (4,), "steps": 2, "epochs": 1}
    train(RunConfig(**options, device="cpu"), tmp_path / "run", progress=False)
    with pytest.raises(UserError, match="explanations are of classes"):
        explain_run(tmp_path / "run", tmp_path / "a.png")


def test_the_report_shows_it(run) -> None:
    facts = collect_facts(run("spiking-mlp"))
    assert facts.explained is not None
    found = facts.explained.curve
    (picture,) = write.relevance(facts)
    assert f"{100 * found.accuracy[3]:.1f} %" in picture.caption
    assert "What predictions rest on" in write.render(facts)


def test_a_network_that_cannot_be_explained_is_a_note(run, monkeypatch) -> None:
    def refused(*arguments):
        raise UserError("no rule for this layer")

    monkeypatch.setattr("spikelfp.report.facts.explained", refused)
    facts = collect_facts(run("spiking-mlp"))
    assert facts.explained is None
    assert "Predictions are not explained: no rule for this layer." in facts.notes
