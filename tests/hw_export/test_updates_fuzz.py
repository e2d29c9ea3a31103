"""Whatever bytes come in, the answer is an image or one clear error, in memory that fits the bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import plain_stream
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from updates_nets import frame, image_of, same, write

from hw_export.updates import inspect, replay
from hw_export.updates.format import Link, write_record
from spikelfp.errors import DataError, UserError

IMAGE = image_of((4, 6), (3, 4), bits=8)
FRAMES = [frame(1, "0.weight", [0, 5, 23], [1, 2, 3]), frame(4, "1.weight", [2], [-7])]
RECORDS = write(IMAGE, FRAMES)
STREAM = b"".join(RECORDS)
STATES = [replay(STREAM, upto=step) for step in (0, 1, 4)]

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from([64, 69, 70, 72, 77, 78, 86, 100]), inner)
    ),
    max_leaves=20,
)


def taken(use: Callable[[bytes], Any], data: bytes) -> Any:
    """What ``use`` makes of ``data``, ``None`` where it refuses it by a clear error."""
    try:
        return use(data)
    except UserError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return None


def good_or_refused(data: bytes) -> None:
    """``data`` gives one of the states of :data:`STREAM`, or an error of one line; never anything else."""
    image = taken(replay, data)
    assert image is None or any(same(image, state) for state in STATES)
    taken(inspect, data)


def forged(data: bytes) -> None:
    """A body made up under good checksums is refused, or is a frame: then it means what the specification says."""
    image = taken(replay, data)
    taken(inspect, data)
    if image is not None:
        _, state = plain_stream.decode(data)[-1]
        assert state == [array.reshape(-1).tolist() for array in image.arrays.values()]
        for p in image.parameters:
            assert p.grid.low <= image.arrays[p.name].min() <= image.arrays[p.name].max() <= p.grid.high


def test_a_frame_made_up_is_a_frame():
    first, link = write_record(RECORDS[0][3 + 20 : -7], Link())
    body, _ = write_record(cbor2.dumps([1, 1, [0, b"\x00", cbor2.CBORTag(72, b"\x05")]]), link)
    forged(first + body)
    assert replay(first + body).arrays["0.weight"][0, 0] == 5


@given(st.binary(max_size=300))
def test_random_bytes(data):
    good_or_refused(data)
    good_or_refused(b"\xd9\xd9\xf7\x83\xd8\x46\x50" + data)


@settings(max_examples=300)
@given(st.data())
def test_mutated_streams(data):
    spoilt = bytearray(STREAM)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(spoilt) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "drop", "double"]))
        length = data.draw(st.integers(1, 40))
        if how == "set":
            spoilt[place] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del spoilt[place:]
        elif how == "insert":
            spoilt[place:place] = data.draw(st.binary(max_size=40))
        elif how == "drop":
            del spoilt[place : place + length]
        else:
            spoilt[place:place] = spoilt[place : place + length]
        if not spoilt:
            break
    good_or_refused(bytes(spoilt))


@settings(max_examples=200)
@given(plain)
def test_bodies_of_anything_with_good_checksums(item):
    link = Link()
    header, link = write_record(cbor2.dumps(item), link)
    with pytest.raises(DataError):
        replay(header)
    first, link = write_record(RECORDS[0][3 + 20 : -7], Link())
    for wrapped in (item, [1, 1, item], [1, 1, [0, item, item]], [1, 1, [0, b"\x00", item]], [2, 1, item], [0, item]):
        body, _ = write_record(cbor2.dumps(wrapped), link)
        forged(first + body)


@settings(max_examples=200)
@given(st.sampled_from(["step", "every", "digest", "parameters", "base", "about", "format", "version"]), plain)
def test_headers_with_one_thing_wrong(name, value):
    kind, content = cbor2.loads(RECORDS[0][3 + 20 : -7])
    assume(value != content[name])
    content[name] = value
    data, _ = write_record(cbor2.dumps([kind, content]), Link())
    for use in (replay, inspect):
        assert taken(use, data) is None or name in ("step", "every", "about", "base"), "nothing else may be anything"


@pytest.mark.parametrize("place", range(6))
@given(value=plain)
def test_tables_with_one_thing_wrong(place, value):
    kind, content = cbor2.loads(RECORDS[0][3 + 20 : -7])
    assume(value != content["parameters"][0][place])
    content["parameters"][0][place] = value
    data, _ = write_record(cbor2.dumps([kind, content]), Link())
    with pytest.raises(DataError):
        replay(data)


@pytest.mark.parametrize(
    "body",
    [
        b"\x9b\x00\x00\x00\x10\x00\x00\x00\x00",
        b"\x5b\x00\x00\x00\x10\x00\x00\x00\x00",
        b"\x81" * 50_000 + b"\x00",
        b"\xc5\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x82\x00\x9f\xff",
        b"\x82\x18\x00\xa0",
        b"\x82\x00\xa0\x00",
        cbor2.dumps([0, {"format": "sparse-updates", "version": 1, "step": 0, "every": 1, "digest": bytes(32)}]),
    ],
)
def test_claims_of_great_size_and_other_encodings(body):
    data, _ = write_record(body, Link())
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            replay(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_great_shape_takes_no_memory():
    kind, content = cbor2.loads(RECORDS[0][3 + 20 : -7])
    content["parameters"][0][1] = [2**15, 2**15]
    for base in (content["base"], None):
        data, _ = write_record(cbor2.dumps([kind, {**content, "base": base}]), Link())
        tracemalloc.start()
        try:
            with pytest.raises((DataError, UserError)):
                replay(data)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
