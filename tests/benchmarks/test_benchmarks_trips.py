"""Files that a reader enters to follow a piece of work stay few."""

from __future__ import annotations

import pytest

from benchmarks import trips


@pytest.mark.parametrize("trip", [trips.recorder_poll, trips.record_update])
def test_recording_and_following_an_update_enter_few_files(trip):
    files = trip()
    assert "hw_export/updates/format.py" in files
    assert len(files) <= 6
