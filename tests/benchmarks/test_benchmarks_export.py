"""The benchmarks of exports run, on the digits, and write what they found."""

from __future__ import annotations

import json

import pytest

from benchmarks import updates


def test_streams_of_updates(tmp_path, capsys, monkeypatch):
    kinds = ("trained, SGD 1e-4", "new, Adam 3e-4")
    monkeypatch.setattr(updates, "RECORDINGS", {name: updates.RECORDINGS[name] for name in kinds})
    updates.main(["--quick", "--out", str(tmp_path)])
    (table,) = json.loads((tmp_path / "updates.json").read_text())["networks"].values()
    assert set(table) == set(kinds)
    for row in table.values():
        assert 0 < row["bytes"] < row["dense"]
        assert row["dense"] == 50 * (64 * 100 + 100 * 10 + 4 * 110)
        assert 0 < row["density"] < 1
        assert row["milliseconds_recording"] > 0
    assert table["trained, SGD 1e-4"]["before"] > table["new, Adam 3e-4"]["before"]
    assert "of 2 streams take at most 2%" in (tmp_path / "updates.md").read_text()
    assert "stream / dense" in capsys.readouterr().out


@pytest.mark.parametrize("name", updates.RECORDINGS)
def test_every_recording_says_where_it_starts(name):
    assert updates.RECORDINGS[name]["weights"] == ("last" if name.startswith("trained") else "initial")
