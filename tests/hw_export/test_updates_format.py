"""Update streams: the example of the specification, decoders written from it, indices and values byte by byte."""

from __future__ import annotations

import re
from pathlib import Path

import cbor2
import numpy as np
import plain_stream
import pytest
from hypothesis import given
from hypothesis import strategies as st
from updates_nets import frame, recorded, same, write

from hw_export.updates import IntegerImage, Mark, Parameter, inspect, replay
from hw_export.updates.content import StreamHeader
from hw_export.updates.format import (
    SINT8,
    UINT8,
    UINT16,
    UINT32,
    Link,
    pack_indices,
    pack_values,
    unpack_indices,
    unpack_values,
    write_record,
)
from spikelfp.errors import DataError, UserError
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


index_sets = st.one_of(
    st.sets(st.integers(0, 300), min_size=1),
    st.sets(st.integers(0, 2**31 - 2), min_size=1, max_size=20),
    st.sets(st.integers(0, 70_000), min_size=1, max_size=50),
)


def plain(item: object) -> object:
    return (item.tag, item.value) if isinstance(item, cbor2.CBORTag) else item


@given(index_sets)
def test_indices_come_back_and_mean_what_the_specification_says(chosen):
    indices = np.array(sorted(chosen), np.int64)
    packed = pack_indices(indices)
    assert np.array_equal(unpack_indices(packed, int(indices[-1]) + 1, "x"), indices)
    place, slow = -1, []
    for gap in plain_stream.gaps_of(plain(packed)):
        place += gap + 1
        slow.append(place)
    assert slow == indices.tolist()


@given(index_sets)
def test_the_shortest_form_is_taken(chosen):
    indices = np.array(sorted(chosen), np.int64)
    gaps = np.diff(indices, prepend=-1) - 1
    leb = sum(max(1, -(-int(gap).bit_length() // 7)) for gap in gaps)
    forms = [leb + 2, *(w * len(gaps) + 4 for w, top in ((1, 8), (2, 16), (4, 32)) if gaps.max() < 1 << top)]
    assert len(cbor2.dumps(pack_indices(indices))) <= min(forms) + 4, "heads are of one to five bytes"


@pytest.mark.parametrize(
    ("indices", "tag"),
    [
        (range(5), None),
        (range(200, 200 * 300, 200), UINT8),
        (range(0, 40_000 * 9, 40_000), UINT16),
        (range(0, 2**30, 2**27), None),
        ([0, *range(2**30, 2**30 + 3)], None),
        (range(2**29, 2**31 - 1, 2**29), UINT32),
    ],
)
def test_which_form(indices, tag):
    packed = pack_indices(np.array(indices, np.int64))
    assert (packed.tag if isinstance(packed, cbor2.CBORTag) else None) == tag


@given(st.sampled_from([2, 4, 8, 16, 32]), st.data())
def test_values_come_back(bits, data):
    low = -(1 << min(bits, 24) - 1)
    values = np.array(data.draw(st.lists(st.integers(low, -low - 1), min_size=1, max_size=40)), np.int32)
    packed = pack_values(values, bits)
    assert np.array_equal(unpack_values(packed, bits, len(values), "x"), values)
    assert plain_stream.values_of(plain(packed), bits, len(values)) == values.tolist()
    if bits < 8:
        assert len(packed) == -(-len(values) * bits // 8)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (b"", "empty"),
        (b"\x80", "cut off"),
        (b"\x80\x00", "longer than it needs"),
        (b"\x80\x80\x80\x80\x80\x01", "at most 5"),
        (b"\x0a", "beyond"),
        (b"\x04\x05", "go up to 10"),
        (cbor2.CBORTag(UINT16, b"abc"), "no multiple"),
        (cbor2.CBORTag(SINT8, b"a"), "no typed array"),
        (cbor2.CBORTag(UINT8, "a"), "no typed array"),
        (5, "no typed array"),
        (cbor2.CBORTag(UINT32, b"\xff" * 8), "beyond"),
        (b"\x00" * 11, "beyond"),
    ],
)
def test_indices_that_are_wrong(item, text):
    with pytest.raises(DataError, match=text):
        unpack_indices(item, 10, "the indices")


@pytest.mark.parametrize(
    ("item", "bits", "text"),
    [
        (b"\x00", 4, "no byte string of 3 values"),
        (b"\x00\xf0", 4, "unused bits"),
        (cbor2.CBORTag(SINT8, b"abcd"), 8, "expected 3"),
        (cbor2.CBORTag(SINT8, b"abc"), 16, "no typed array"),
        (b"abc", 8, "no typed array"),
    ],
)
def test_values_that_are_wrong(item, bits, text):
    with pytest.raises(DataError, match=text):
        unpack_values(item, bits, 3, "the values")


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 3, 3)])
def test_a_parameter_holds_an_element(shape):
    with pytest.raises(UserError, match=rf"^a has shape {re.escape(str(shape))} and no element: "):
        Parameter("a", shape, Grid(0.5, -1, 1))


def test_a_parameter_has_no_more_axes_than_an_array():
    Parameter("a", (1,) * 64, Grid(0.5, -1, 1))
    with pytest.raises(UserError, match=r"^a has 65 axes, more than the 64 of an array$"):
        Parameter("a", (1,) * 65, Grid(0.5, -1, 1))


def stream_of(parameters, path):
    header = {
        "format": "sparse-updates", "version": 1, "step": 0, "every": 1, "parameters": parameters,
        "digest": bytes(32), "base": None, "about": {},
    }  # fmt: skip
    data, _ = write_record(cbor2.dumps([0, header]), Link())
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([["a", [0], 2, -1, 1, 0.5]], r"a has shape \(0,\) and no element"),
        ([["a", [1] * 65, 2, -1, 1, 0.5]], "a has 65 axes"),
        ([[str(i), [1], 2, -1, 1, 0.5] for i in range(10_001)], "10001 parameters, and a stream holds at most 10000"),
    ],
    ids=["no element", "axes", "parameters"],
)
def test_headers_that_are_refused(tmp_path, parameters, words):
    """Densities are shares of the elements, and everything is told of each parameter."""
    with pytest.raises(DataError, match=words):
        inspect(stream_of(parameters, tmp_path / "stream"))


def test_the_most_parameters(tmp_path):
    parameters = [[str(i), [1], 2, -1, 1, 0.5] for i in range(10_000)]
    assert len(inspect(stream_of(parameters, tmp_path / "stream")).parameters) == 10_000
    many = tuple(Parameter(str(i), (1,), Grid(0.5, -1, 1)) for i in range(10_001))
    with pytest.raises(UserError, match="at most 10000 parameters, got 10001"):
        StreamHeader(many, 0, 1, bytes(32))
