"""Replay gives, bit for bit, what rounding the live weights gives, and no wrong weight whatever happens to a stream."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from updates_nets import frame, image_of, nudge, recorded, same, small, write

from hw_export.updates import Frame, IntegerImage, Mark, UpdateRecorder, grids_of, load_image, replay, save_image
from spikelfp.errors import DataError, UserError
from spikelfp.quantized import Grid


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8, 12]),
    steps=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1e-3, 0.05, 3.0])), min_size=1, max_size=8),
    every=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_every_step_is_what_rounding_the_live_weights_gives(bits, steps, every, seed):
    net, random = small(seed=seed), torch.Generator().manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream"
        grids = grids_of(net, bits)
        images = [IntegerImage.of(net, grids)]
        with UpdateRecorder(net, path, grids=grids, every=every) as recorder:
            for share, size in steps:
                nudge(net, random, share, size)
                recorder.step()
                images.append(IntegerImage.of(net, grids))
        for step in range(len(steps) + 1):
            looked = step if step == len(steps) else step // every * every
            assert same(replay(path, upto=step), images[looked])
        assert replay(path, strict=True).step == len(steps)


def test_scales_of_channels_come_back(tmp_path):
    net = small()
    grids = {
        name: Grid(0.01 * torch.arange(1, len(p) + 1).reshape(-1, *[1] * (p.dim() - 1)), -127, 127)
        for name, p in net.named_parameters()
    }
    random = torch.Generator().manual_seed(0)
    with UpdateRecorder(net, tmp_path / "a", grids=grids) as recorder:
        nudge(net, random, 0.5)
        recorder.step()
    image = replay(tmp_path / "a")
    assert same(image, IntegerImage.of(net, grids))
    assert same(IntegerImage.of(net, image.grids), image)
    assert image.digest() == IntegerImage.of(net, grids).digest()


def test_a_file_cut_at_any_byte_loses_at_most_the_frame_it_cuts(tmp_path):
    images = recorded(tmp_path / "a", steps=4)
    data = (tmp_path / "a").read_bytes()
    ends, steps = _ends(data)
    assert len(ends) == 6, "a header, four frames and a mark"
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends)
        if whole == 0:
            with pytest.raises(DataError, match="ends inside its header"):
                replay(data[:cut])
            continue
        image = replay(data[:cut])
        assert image.step == steps[whole - 1]
        assert same(image, images[image.step])
        assert len(image.notes) == 1
        assert ("not closed" if cut in ends else "ends inside a frame") in image.notes[0]
        with pytest.raises(DataError, match=r"not closed|ends inside a frame"):
            replay(data[:cut], strict=True)
    assert replay(data, strict=True).notes == ()


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    recorded(tmp_path / "a", steps=2)
    data = (tmp_path / "a").read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            spoilt = bytearray(data)
            spoilt[place] ^= 1 << bit
            with pytest.raises(DataError):
                replay(bytes(spoilt))


@pytest.fixture
def records() -> list[bytes]:
    image = image_of((2, 3))
    last = image.copy()
    frames = [frame(step, "0.weight", [step], [step]) for step in (1, 2, 3)]
    for step in (1, 2, 3):
        last.arrays["0.weight"].reshape(-1)[step] = step
    return write(image, [*frames, Mark(3, last.digest())])


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ((0, 1, 1, 2, 3, 4), "frame 1 stands at byte .* where 2 belongs: twice, or out of order"),
        ((0, 1, 3, 2, 4), "frame 2 is missing: 3 stands"),
        ((0, 3, 4), "frame 1 to 2 are missing: 3 stands"),
        ((0, 1, 2, 4), "frame 3 is missing"),
        ((1, 2, 3, 4), "this is no stream of updates"),
        ((0, 0, 1), "is damaged, or something else follows"),
    ],
)
def test_frames_out_of_place(records, order, text):
    with pytest.raises(DataError, match=text):
        replay(b"".join(records[i] for i in order))


def test_a_frame_of_another_stream(records):
    other = write(image_of((2, 3), seed=9), [frame(1, "0.weight", [1], [1])])
    with pytest.raises(DataError, match="belongs to another stream"):
        replay(records[0] + other[1])


def test_bytes_behind_the_stream(records):
    for garbage in (b"x", b"\n", b"\x83\xd8\x46\x51", b"\0" * 40, b"\x83\xd8\x46\x50" + b"\0" * 30):
        with pytest.raises(DataError, match="is damaged"):
            replay(b"".join(records) + garbage)


def test_an_unknown_version(records):
    header = records[0].replace(b"gversion\x01", b"gversion\x02")
    assert header != records[0]
    with pytest.raises(DataError, match="does not match its checksum"):
        replay(header)
    body = header[3 + 20 : -7]
    from hw_export.updates.format import Link, write_record

    with pytest.raises(DataError, match="has version 2, this program reads version 1"):
        replay(write_record(body, Link())[0])


def test_the_base_image(tmp_path):
    base = image_of((4, 5), (2, 4))
    change = [frame(7, "1.weight", [0, 7], [-1, 3])]
    bare = b"".join(write(base, change, embed=False, step=5))
    with pytest.raises(UserError, match="does not hold its base image"):
        replay(bare)
    with pytest.raises(DataError, match="recorded from another base image"):
        replay(bare, image_of((4, 5), (2, 4), seed=1))
    before = base.copy()
    image = replay(bare, base)
    assert image.arrays["1.weight"].reshape(-1)[[0, 7]].tolist() == [-1, 3]
    assert same(base, before), "the base image is left as it is"
    save_image(tmp_path / "image", image)
    loaded = load_image(tmp_path / "image")
    assert same(loaded, image)
    assert (loaded.step, loaded.digest()) == (7, image.digest())


def test_steps_that_are_not_there():
    data = b"".join(write(image_of((2, 3)), [frame(9, "0.weight", [0], [1])], step=5))
    assert replay(data, upto=8).step == 5
    assert replay(data, upto=9).step == 9
    with pytest.raises(UserError, match="begins at step 5: there is no step 4"):
        replay(data, upto=4)
    with pytest.raises(UserError, match="ends at step 9: there is no step 10"):
        replay(data, upto=10)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (frame(0, "0.weight", [0], [1]), "it is of step 0"),
        (frame(1, "0.weight", [6], [1]), "the indices of 0.weight"),
        (frame(1, "0.weight", [0], [-8]), "outside of its grid"),
        (Mark(1, bytes(32)), "does not have the digest"),
        (Frame(1, frame(1, "0.weight", [0], [1]).changes * 2), "it changes parameter 0, expected one from 1"),
    ],
)
def test_frames_that_cannot_be(wrong, text):
    with pytest.raises(DataError, match=re.escape(text)):
        replay(b"".join(write(image_of((2, 3)), [wrong])))


def test_images_that_are_no_images(tmp_path, records):
    path = tmp_path / "image"
    for content, text in (
        (b"", "cut off"),
        (records[0][:-1], "cut off"),
        (records[0] + records[1], "is a stream with frames"),
        (write(image_of((2, 2)), [], embed=False)[0], "holds no image"),
        (b"hello", "no stream of updates"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=text):
            load_image(path)
    with pytest.raises(DataError, match="No such file"):
        load_image(tmp_path / "nowhere")


def _ends(data: bytes) -> tuple[list[int], list[int]]:
    """Where every record ends, and the step behind it."""
    from hw_export.updates.content import Decoder

    decoder, ends, steps = Decoder(), [], []
    for _ in decoder.take(data):
        ends.append(decoder.link.offset)
        steps.append(decoder.step)
    return ends, steps
