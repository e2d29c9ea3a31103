"""The report of networks that were trained on recordings in files, from the command's own training to the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference import PAPER
from report_events import CAMERA, LINE, folder_of
from report_pages import Page

from spikelfp.report import wording, write_report
from spikelfp.report.facts import collect_facts
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train

RUNS = {
    "camera": (CAMERA, {"steps": 6, "levels": 1}),
    "line": (LINE, {"window": 4.0}),
}


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``trained_on(kind)``: the run folder; shared, so not to be changed but for its report."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            sensor, options = RUNS[kind]
            place = tmp_path_factory.mktemp("private")
            config = RunConfig(
                data=f"folder:{folder_of(sensor, place / 'gestures')}", data_dir=str(place),
                cache_dir=str(place / "cache"), hidden=(16,), epochs=1, batch_size=8, device="cpu", **options,
            )  # fmt: skip
            train(config, place / kind, progress=False)
            made[kind] = place / kind
        return made[kind]

    return get


@pytest.mark.parametrize("kind", RUNS)
def test_page_of_event_data(trained_on: Callable[[str], Path], kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "line":  # drawing takes long, and one of the two shows that it works from end to end
        request.getfixturevalue("undrawn")
    folder = trained_on(kind)
    page = Page(write_report(folder).read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert "A spiking MLP on recordings in gestures, trained with" in page.text
    assert f"{100 * summary['test_accuracy']:.2f} %" in page.text
    assert page.headings[-1] == "Accuracy over time"
    assert page.picture("Accuracy after each of").text.endswith("below the end")
    assert page.picture("Spikes of each layer").light.width == (2160 if kind == "camera" else 1)
    assert "constant input" not in page.text
    if kind == "camera":
        assert (
            "each recording is cut into 6 steps of equal length; an input spikes where a step has events" in page.text
        )
        assert "steps per sample6" in page.text
        assert "Above, pictures of all events" in page.text
    else:
        assert "a step holds the events of 4 ms" in page.text
        assert "steps of the first test sample" in page.text
        assert "Above, the recording, channel by channel" in page.text


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.usefixtures("undrawn")
def test_no_folder_of_this_machine_is_on_the_page(trained_on: Callable[[str], Path], kind: str) -> None:
    folder = trained_on(kind)
    page = Page(write_report(folder).read_text())
    assert str(folder.parent) not in page.source
    assert "--data folder:gestures" in page.text


@pytest.mark.parametrize("kind", RUNS)
def test_facts_are_those_of_the_recordings(trained_on: Callable[[str], Path], kind: str) -> None:
    folder = trained_on(kind)
    facts, test = collect_facts(folder), load_run(folder).splits().test
    x, labels = test.__getitems__([0])
    assert facts.sample is not None
    assert facts.sample.sequence is not None
    shape = (6, 2, 9, 12) if kind == "camera" else (len(x.values), 30)  # two polarities of 15 channels
    np.testing.assert_array_equal(facts.sample.sequence, x.values[:, 0].reshape(shape).numpy())
    assert facts.sample.label == int(labels[0])
    assert (facts.line, facts.camera) == ((False, True) if kind == "camera" else (True, False))
    assert facts.errors is not None
    assert facts.errors.early is not None
    summary = json.loads((folder / "summary.json").read_text())
    assert facts.errors.early[-1] == pytest.approx(summary["test_accuracy"])
    assert len(facts.errors.early) == len(test.__getitems__(range(len(test)))[0].values)


@pytest.mark.usefixtures("undrawn")
def test_lost_recordings_are_named_without_their_folder(
    trained_on: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained_on("line")
    config = (folder / "config.yaml").read_text()
    moved = tmp_path / "run"
    moved.mkdir()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            (moved / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (moved / path.relative_to(folder)).write_bytes(path.read_bytes())
    (moved / "config.yaml").write_text(re.sub("folder:.*gestures", "folder:/nowhere/gestures", config))
    page = Page(write_report(moved).read_text())
    assert "the data set folder:gestures that the run was trained on was not found" in page.text
    assert "/nowhere" not in page.source


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 20, "levels": 1}, "each recording is cut into 20 steps of equal length; an input spikes where"),
        ({"steps": 9, "window": 2.5}, "a step holds the events of 2.5 ms, at most 9 of them"),
        ({"events_per_step": 300}, "a step holds 300 events"),
        ({"levels": 4}, "up to 4 events of an input in a step count"),
        ({"transforms": "denoise=10000,downsample=2"}, "before that: denoise=10000,downsample=2"),
        ({"augmentations": "shift=2"}, "in training at random: shift=2"),
    ],
)
def test_words_for_events(options: dict[str, object], text: str) -> None:
    config = replace(RunConfig(data="nmnist", reset="subtract", **PAPER).resolved(1000), steps=None)
    terms = dict(wording.lead(replace(config, **options), True))  # type: ignore[arg-type]
    assert text in terms["Events"]
    assert terms["Neurons"].endswith("one step later.")


def test_words_for_the_read_out() -> None:
    config = replace(RunConfig(data="nmnist").resolved(1000), readout_steps=5)
    assert dict(wording.lead(config, True))["Answer"] == "from the outputs of the last 5 steps."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nmnist", "N-MNIST"),
        ("braille", "Braille letters"),
        ("folder:/home/someone/hands", "recordings in hands"),
        ("tonic:NMNIST", "NMNIST (tonic)"),
    ],
)
def test_names_of_data_sets(name: str, text: str) -> None:
    assert wording.data_name(name) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, "step"), ({"window": 10.0}, "step of 10 ms"), ({"events_per_step": 1000}, "step of 1,000 events")],
)
def test_what_a_step_is(options: dict[str, object], text: str) -> None:
    assert wording.step(RunConfig(data="nmnist", **options)) == text  # type: ignore[arg-type]
