import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelfp.data.mnist import read_idx
from spikelfp.errors import DataError

IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)


def header(*sizes: int, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize("packed", [False, True])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_what_was_written_is_read(tmp_path, idx_bytes, packed, sizes, seed):
    array = np.random.default_rng(seed).integers(0, 256, sizes)
    content = idx_bytes(array)
    path = tmp_path / "file"  # no .gz: the content tells
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(path, ndim=len(sizes))
    assert read.dtype == torch.uint8
    assert np.array_equal(read.numpy(), array)
    read += 1  # the memory is our own


BAD = {
    "empty": (b"", "an empty file"),
    "foreign": (b"PK\x03\x04 a zip file", r"starts with b'PK\\x03\\x04'"),
    "one byte": (b"\0", r"starts with b'\\x00'"),
    "float elements": (header(2, 3, 4, magic=b"\0\0\x0d") + bytes(96), "element type 0x0d"),
    "labels as images": (header(24) + bytes(24), "expected .* 3 dimensions .* found 1 dimensions"),
    "cut header": (header(2, 3, 4)[:11], "expected 16 bytes of header, found 11: truncated"),
    "no samples": (header(0, 28, 28), r"sizes \[0, 28, 28\]"),
    "cut data": (header(2, 3, 4) + bytes(23), "expected 2 x 3 x 4 = 24 bytes .* found 23: truncated"),
    "no data": (header(2, 3, 4), "expected 2 x 3 x 4 = 24 bytes .* found 0: truncated"),
    "trailing byte": (header(2, 3, 4) + bytes(25), "expected 2 x 3 x 4 = 24 bytes .* found trailing bytes"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_content_is_refused_by_name(tmp_path, case, packed):
    content, message = BAD[case]
    if packed and case == "empty":
        message = "starts with b''"
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, ndim=3)
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)


def test_damaged_gzip_is_refused(tmp_path, idx_bytes):
    good = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (20, 8, 8))))
    path = tmp_path / "x.gz"
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    no_deflate = bytearray(good)
    no_deflate[10] = 0x07  # a block of the reserved type, behind an intact gzip header
    wrong_sum = bytearray(good)
    wrong_sum[-6] ^= 0xFF  # in the checksum, behind intact data
    for content in (
        good[: len(good) // 2],
        good[:-3],
        good[:5],
        bytes(flipped),
        bytes(no_deflate),
        bytes(wrong_sum),
        good + b"junk",
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.gz: expected gzip data, found it truncated or damaged"):
            read_idx(path, ndim=3)


def test_missing_file_and_folder_in_its_place(tmp_path):
    with pytest.raises(DataError, match=r"nothing-here: cannot be read \(No such file"):
        read_idx(tmp_path / "nothing-here", ndim=1)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        read_idx(tmp_path, ndim=1)


def peak_of_failing_read(path, message: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read_idx(path, ndim=3)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
def test_a_lying_header_allocates_nothing(tmp_path, packed):
    content = header(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(1000)
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(content) if packed else content)
    message = "which cannot hold them" if packed else "found 1000: truncated"
    assert peak_of_failing_read(path, message) < 1 << 20


def test_a_plausible_lie_in_a_gzip_file_costs_what_is_there(tmp_path):
    noise = np.random.default_rng(0).bytes(300_000)
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(header(300, 1000, 1000) + noise))  # 300 MB, within what deflate could reach
    assert peak_of_failing_read(path, "= 300000000 bytes .* found 300000: truncated") < 4 << 20


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(header(2, 3, 4) + bytes(50_000_000), 1))
    assert peak_of_failing_read(path, "found trailing bytes") < 2 << 20
