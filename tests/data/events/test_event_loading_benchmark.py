import numpy as np

from benchmarks import event_loading
from spikelfp.data.events import EVENT, Sensor, load_recordings
from spikelfp.data.events.sources import from_arrays


def test_the_unpacked_recordings_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    arrays = []
    for length in (5, 300, 1):
        events = np.zeros(length, EVENT)
        events["t"] = np.sort(random.integers(0, 2**23, length))
        events["x"], events["y"] = random.integers(0, 34, (2, length))
        events["p"] = random.integers(0, 2, length)
        arrays.append(events)
    source = from_arrays(arrays, [4, 7, 4], Sensor(34, 34, 2), [str(digit) for digit in range(10)])
    assert event_loading.unpack(source, None, tmp_path) == 3
    parts = load_recordings("nmnist", tmp_path)
    assert (len(parts.train), len(parts.test)) == (3, 2)
    for number, index in enumerate([0, 2, 1]):  # by class, then by number
        np.testing.assert_array_equal(parts.train.read(number), arrays[index])
        assert parts.train.labels[number] == source.labels[index]
    assert event_loading.unpack(source, 1, tmp_path / "one") == 1


def result(**changes):
    waiting = {"wait_ms": 1.0, "step_ms": 50.0, "share": 0.02}
    return {
        "recordings": 100, "epoch": 500, "tonic": True, "direct": {"1 thread": 50.0},
        "build": {"spikelfp": 100.0, "tonic, a loop": 350.0, "tonic, 2 worker processes": 290.0},
        "warm": {"spikelfp, 0 workers": 50.0, "spikelfp, 2 workers": 200.0},
        "waiting": {"0": waiting, "2": waiting | {"share": 0.2}}, **changes,
    }  # fmt: skip


def test_the_table_says_which_goals_are_met():
    text = event_loading.markdown({"some": result()}, "About.")
    assert "| cache built | spikelfp | 100 ms | 1,000 |" in text
    assert "10,000 recordings/s from the warm cache (goal ≥ 5,000, met)" in text
    assert "2.0% of the training loop waiting (goal < 10%, met)" in text
    assert "tonic takes 2.9× our time to build (goal ≥ 3×, not met)" in text
    assert "tonic did not run" in event_loading.markdown({"some": result(tonic=False)}, "About.")


def test_without_the_data_it_says_so(tmp_path, capsys):
    event_loading.main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "needs N-MNIST and is left out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
