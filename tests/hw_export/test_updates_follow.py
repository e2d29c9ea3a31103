"""A target that follows a stream while it is written."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from updates_nets import frame, image_of, nudge, recorded, same, small, write

from hw_export.updates import Follower, IntegerImage, UpdateRecorder, follow
from spikelfp.errors import DataError, UserError


class Lists:
    """A target of plain lists, which notes how it was written to."""

    def __init__(self) -> None:
        self.memory: dict[str, dict[int, int]] = {}
        self.writes = 0

    def write(self, parameter: str, indices: np.ndarray, values: np.ndarray) -> None:
        assert (indices.dtype, values.dtype) == (np.int64, np.int32)
        self.memory.setdefault(parameter, {}).update(zip(indices.tolist(), values.tolist(), strict=True))
        self.writes += 1

    def holds(self, image: IntegerImage) -> bool:
        return {n: dict(enumerate(a.reshape(-1).tolist())) for n, a in image.arrays.items()} == self.memory


def test_byte_by_byte(tmp_path):
    """A file that grows by single bytes: the target always holds the last whole frame."""
    images = recorded(tmp_path / "whole", steps=3)
    data, path, target = (tmp_path / "whole").read_bytes(), tmp_path / "growing", Lists()
    follower, steps = Follower(path, target), []
    assert list(follower.poll()) == [], "a file that is not there yet"
    for end in range(1, len(data) + 1):
        path.write_bytes(data[:end])
        steps += [frame.step for frame in follower.poll()]
        assert not target.memory or target.holds(images[follower.step])
    assert steps == [1, 2, 3]
    assert follower.closed
    writes = target.writes
    assert list(follower.poll()) == []
    assert target.writes == writes


def test_beside_the_training(tmp_path):
    net, random, path = small(), torch.Generator().manual_seed(0), tmp_path / "a"
    target, seen = Lists(), []
    reader = threading.Thread(target=lambda: seen.extend(follow(path, target, interval=0.002)))
    reader.start()
    with UpdateRecorder(net, path) as recorder:
        for _ in range(50):
            nudge(net, random)
            recorder.step()
    reader.join(20)
    assert not reader.is_alive()
    assert [frame.step for frame in seen] == list(range(1, 51))
    assert target.holds(IntegerImage.of(net, recorder.base.grids))


def test_across_a_crash_and_a_recording_that_goes_on(tmp_path):
    net, random, path = small(), torch.Generator().manual_seed(0), tmp_path / "a"
    recorder, image = UpdateRecorder(net, path), image_of((1, 1))
    follower = Follower(path, target := Lists())
    nudge(net, random)
    recorder.step()
    image = recorder.image()
    with open(path, "ab") as file:
        file.write(b"\x83\xd8\x46\x50\x0a")  # a frame that is never finished
    assert [frame.step for frame in follower.poll()] == [1]
    recorder._file._file.close()  # as the end of its process does
    with UpdateRecorder(net, path, resume=True) as again:
        nudge(net, random)
        again.step()
        assert [frame.step for frame in follower.poll()] == [2]
    assert not target.holds(image)
    assert target.holds(again.image())


def test_patience(tmp_path):
    (tmp_path / "a").write_bytes(b"".join(write(image_of((2, 3)), [frame(1, "0.weight", [0], [1])])))
    frames = list(follow(tmp_path / "a", Lists(), interval=0.005, patience=0.02))
    assert len(frames) == 1, "the recording was not closed, and nothing more came"
    for options in ({"interval": 0.0}, {"patience": -1.0}):
        with pytest.raises(UserError, match="interval"):
            next(follow(tmp_path / "a", Lists(), **options))


def test_the_base_image(tmp_path):
    base = image_of((2, 3))
    records = write(base, [frame(1, "0.weight", [4], [1])], embed=False)
    (tmp_path / "a").write_bytes(b"".join(records))
    with pytest.raises(UserError, match="does not hold its base image"):
        list(Follower(tmp_path / "a", Lists()).poll())
    with pytest.raises(DataError, match="another base image"):
        list(Follower(tmp_path / "a", Lists(), base=image_of((2, 3), seed=4), write_base=False).poll())
    held = base.copy()
    for options in ({"base": base}, {"write_base": False}, {"base": base, "write_base": False}):
        target = held.copy()
        list(Follower(tmp_path / "a", target, **options).poll())
        held.write("0.weight", np.array([4]), np.array([1]))
        assert same(target, held)


def test_a_damaged_frame_reaches_no_target(tmp_path):
    records = write(image_of((2, 3)), [frame(1, "0.weight", [4], [1]), frame(2, "0.weight", [4], [2])])
    spoilt = bytearray(b"".join(records))
    spoilt[-10] ^= 4
    (tmp_path / "a").write_bytes(spoilt)
    target = Lists()
    with pytest.raises(DataError, match="frame 2 at byte"):
        list(Follower(tmp_path / "a", target).poll())
    assert target.memory["0.weight"][4] == 1
