"""Nothing in silence: what readers and steps move or leave out is counted and told, from a cache, too."""

import json

import numpy as np
import pytest
from source_files import bin_bytes, random_events, write_files

from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.data import load_events
from spikelfp.data.events import EVENT, Binning, EventSplits, Pipeline, Sensor, bin_events, from_arrays
from spikelfp.data.events.readers import read
from spikelfp.data.events.show import overview
from spikelfp.data.events.sources import files as module
from spikelfp.data.events.tally import COUNTED, counts_of, tallied, told


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", 0.0)


@pytest.fixture
def spikelfp(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def evt2(events, before=0):
    """EVT 2, little-endian words; ``before`` events come before the first word of time. Times below 2^28 µs."""
    words = [0x1 << 28 | (7 << 22)] * before
    high = None
    for t, x, y, p in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return b"% evt 2.0\n% geometry 34x34\n% end\n" + np.array(words, "<u4").tobytes()


def disordered(events, number=3):
    """Events of which some stand one place too late in the file."""
    events = events.copy()
    for place in range(10, 10 + 4 * number, 4):
        events[[place, place + 1]] = events[[place + 1, place]]
    return events


def strict(seed):
    """Events at times that all differ."""
    events = random_events(seed, 200)
    events["t"] = np.arange(200) * 1000 + np.random.default_rng(seed).integers(0, 500, 200)
    return events


@pytest.fixture
def folder(tmp_path):
    files = {f"{kind}/{number}.raw": evt2(strict(number)) for kind in "ab" for number in range(4)}
    files |= {f"a/{number}.raw": evt2(strict(number), before=number) for number in (1, 2)}
    for kind in "ab":
        files[f"{kind}/d.bin"] = bin_bytes(disordered(strict(9)))
    return write_files(tmp_path / "mine", files)


def test_a_reader_tells_within_the_block_alone(folder):
    with tallied() as tally:
        assert len(read(folder / "a" / "2.raw").events) == 200
        with tallied() as inner:
            read(folder / "a" / "d.bin")
        read(folder / "b" / "0.raw")
    read(folder / "a" / "1.raw")
    assert inner == {str(folder / "a" / "d.bin"): {"disordered": 3}}
    assert tally == {str(folder / "a" / "2.raw"): {"before_clock": 2}, **inner}
    assert told(tally) == [
        "3 events came after a later event in the file and were sorted in: a/d.bin",
        "2 events before the first word of time were left out: a/2.raw",
    ]


def test_words_of_every_count():
    for name in COUNTED:
        for number in (1, 2_000):
            (line,) = told({"/x/y/a.raw": {name: number}})
            assert line.startswith(f"{number:,} ")
            assert line.endswith(": y/a.raw")
            assert "{" not in line
            assert " events was" not in line
            assert " event were" not in line
    assert told({f"/x/{n}.raw": {"invalid": n} for n in (1, 5, 2)}) == [
        "8 events that the file marks as invalid were left out, in 3 recordings, such as x/5.raw"
    ]
    assert counts_of({"streams": {0: "EVTS", 1: "FRME", 2: "EVTS"}, "invalid": 0, "format": "x"}) == {"streams": 1}


def test_a_data_set_tells_when_it_is_binned_and_from_its_cache(folder, tmp_path):
    def notes(in_memory):
        splits = load_events(f"folder:{folder}", cache_dir=tmp_path / "binned", in_memory=in_memory)
        return sorted(note.partition(": ")[2].partition(":")[0].partition(",")[0] for note in splits.notes)

    first = notes(False)
    before = [line for line in first if "first word" in line]
    moved = [line for line in first if "sorted in" in line]
    assert sum(int(line.split()[0]) for line in before) == 3
    assert sum(int(line.split()[0]) for line in moved) == 6
    assert len(before) + len(moved) == len(first)
    assert notes(False) == notes(True) == first


def test_overview_and_commands_tell(folder, tmp_path, spikelfp):
    code, out, err = spikelfp("data", "info", folder, "--json")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert any("events before the first word of time" in note for note in found["notes"])
    assert all(note in out for note in found["notes"])
    picture = tmp_path / "a.html"
    code, out, err = spikelfp("data", "show", folder / "a" / "2.raw", "--out", picture, "--json")
    assert code == 0, err
    line = "2 events before the first word of time were left out: a/2.raw"
    assert json.loads(out.splitlines()[-1])["notes"] == [line]
    assert line in picture.read_text()
    code, out, err = spikelfp(
        "data", "show", folder / "b" / "d.bin", "--window", "1", "--steps", "5", "--out", tmp_path / "a.png"
    )
    assert "events after the last step were left out" in out
    code, out, err = spikelfp("data", "show", folder / "b" / "0.raw", "--out", tmp_path / "a.png", "--json")
    assert json.loads(out.splitlines()[-1])["notes"] == []


def test_a_run_and_its_report_tell(folder, tmp_path, spikelfp):
    out = tmp_path / "run"
    code, _, err = spikelfp(
        "train", "--data", f"folder:{folder}", "--window", "10", "--steps", "4", "--model", "lif-mlp", "--hidden",
        "4", "--epochs", "1", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    late = [line for line in err.splitlines() if "events after the last step were left out" in line]
    assert len(late) == 2
    report = (out / "report.html").read_text()
    for line in late:
        words = line[line.index(":") + 2 :].split(",")[0].split(":")[0]
        assert words in report
    assert str(tmp_path) not in report


@pytest.mark.parametrize(
    "binning",
    [Binning(window=7, most=3), Binning(window=50, most=2), Binning(count=4, most=5), Binning(count=4), Binning(bins=3),
     Binning(window=7), Binning(window=7, most=3, origin=-9), Binning(count=1000, most=1)],
)  # fmt: skip
def test_events_after_the_last_step_are_counted(binning):
    for seed in range(5):
        events = random_events(seed)
        events["t"] = np.sort(np.random.default_rng(seed).integers(0, 120, len(events)))
        begin = int(events["t"][0]) if binning.origin is None else binning.origin
        late = 0
        for number, event in enumerate(events):
            step = number // binning.count if binning.count else (event["t"] - begin) // (binning.window or 10**9)
            late += binning.most is not None and step >= binning.most
        frames = bin_events(events, Sensor(34, 34, 2), binning)
        assert frames.late == late


def test_late_events_of_a_large_sensor_are_counted_too():
    events = np.zeros(3, EVENT)
    events["t"], events["x"] = (0, 5, 20), 9000
    frames = bin_events(events, Sensor(10_000, 2_000, 2), Binning(window=10, most=1))
    assert (frames.late, len(frames.places)) == (1, 1)


def test_nothing_is_told_of_what_is_whole():
    part = from_arrays([random_events(1), random_events(2)], [0, 1], Sensor(34, 34, 2))
    splits = EventSplits("mine", part, part, Pipeline(Binning(bins=4)))
    assert load_events(splits, in_memory=True).notes == ()
    assert overview(splits).notes == ()
