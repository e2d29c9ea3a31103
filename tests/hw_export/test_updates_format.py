"""The specification: its example, and a decoder that was written from it."""

from __future__ import annotations

import re
from pathlib import Path

import cbor2
import numpy as np
import plain_stream
import pytest
from updates_nets import frame, recorded, same, write

from hw_export.updates import IntegerImage, Mark, Parameter, inspect, replay
from spikelfp.quantized import Grid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "update-stream.md"


def example() -> bytes:
    """The bytes of the page's worked example."""
    (block,) = re.findall(r"```hex\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return bytes.fromhex("".join(line.split(";")[0] for line in block.splitlines()))


@pytest.fixture
def base() -> IntegerImage:
    parameter = Parameter("0.weight", (2, 3), Grid(0.5, -7, 7))
    return IntegerImage((parameter,), {"0.weight": np.array([[1, -2, 0], [7, 3, -7]])})


def test_the_example_is_what_we_write(base):
    after = base.copy()
    after.arrays["0.weight"][:] = [[1, -3, 0], [7, 3, 6]]
    assert b"".join(write(base, [frame(1, "0.weight", [1, 5], [-3, 6]), Mark(2, after.digest())])) == example()


def test_the_example_is_what_we_read():
    assert replay(example(), upto=0).arrays["0.weight"].tolist() == [[1, -2, 0], [7, 3, -7]]
    image = replay(example(), strict=True)
    assert (image.step, image.arrays["0.weight"].tolist()) == (2, [[1, -3, 0], [7, 3, 6]])
    assert inspect(example()).closed


def test_the_checksum_is_the_one_the_page_names():
    assert plain_stream.crc32(b"123456789") == 0xCBF43926
    assert "CBF43926" in PAGE.read_text()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8, 9, 16])
def test_a_decoder_made_from_the_page_reads_what_we_write(tmp_path, bits):
    images = recorded(tmp_path / "a", bits=bits)
    data = (tmp_path / "a").read_bytes()
    states = dict(plain_stream.decode(data))
    assert len(states) >= 3, "a header and at least two frames"
    for step, state in states.items():
        assert state == [array.reshape(-1).tolist() for array in images[step].arrays.values()]
        assert same(replay(data, upto=step), images[step])
    image = images[-1]
    entries = [cbor2.dumps(p.entry()) for p in image.parameters]
    widths = [p.dtype.itemsize for p in image.parameters]
    assert plain_stream.digest(entries, states[max(states)], widths) == image.digest()
