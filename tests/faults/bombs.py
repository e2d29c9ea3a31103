"""Small files that claim, or unpack to, more than a machine has."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from .attack import Attack, Make
from .inputs import EVAL
from .traps import READERS, odd, put


def yaml_bomb() -> bytes:
    """A few hundred bytes that unfold to 9⁹ entries."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines).encode()


def zip_bomb(name: str, size: int = 8 << 30) -> bytes:
    """A zip whose one member unpacks to ``size`` zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        member.write(header.getvalue())
        block = bytes(1 << 24)
        for _ in range(size >> 24):
            member.write(block)
    return buffer.getvalue()


def npy_claims(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """An array that claims a shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(64)


def npz_claims(*names: str) -> bytes:
    """An archive of arrays that claim 8 TB each."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", npy_claims((1 << 40,)))
    return buffer.getvalue()


def hdf5_fill(*names: str) -> bytes:
    """Data sets of 64 GiB that take no room in the file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in names:
            file.create_dataset(name, (1 << 34,), "f4", chunks=(1 << 20,), fillvalue=1.0)
    return buffer.getvalue()


def tensor_wide(outside: Path) -> bytes:
    """A checkpoint with a tensor of 4 TiB made of one number."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": {"1.weight": torch.zeros(1).expand(1 << 40)}}, buffer)
    return buffer.getvalue()


def torch_bomb(outside: Path) -> bytes:
    """A file of torch, deflated, whose storage unpacks to 4 GiB."""
    plain = io.BytesIO()
    torch.save({"format": 1, "weights": {"1.weight": torch.zeros(8)}}, plain)
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name in source.namelist():
            if "/data/" in name:
                with archive.open(name, "w", force_zip64=True) as member:
                    for _ in range(256):
                        member.write(bytes(1 << 24))
            else:
                archive.writestr(name, source.read(name))
    return buffer.getvalue()


def _zeros(pack: str, size: int) -> bytes:
    """``size`` zeros, packed by gzip or xz; several streams behind each other, which both formats allow."""
    block = {"gz": lambda data: gzip.compress(data, 1), "xz": lambda data: lzma.compress(data, preset=0)}[pack](
        bytes(1 << 26)
    )
    return block * (size >> 26)


def tar_bomb(outside: Path) -> bytes:
    """A tar.gz whose member is 8 GiB of zeros."""
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 8 << 30
    return gzip.compress(info.tobuf(), 1) + _zeros("gz", 8 << 30)


def idx_claims(outside: Path) -> bytes:
    """An idx file that claims 2⁹⁶ elements."""
    return b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100)


def _far_apart(folder: Path, outside: Path) -> None:
    kinds = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    np.save(folder / "recordings/a/0.npy", np.array([(0, 1, 1, 1), (50 * 60 * 10**6, 2, 2, 1)], kinds))


def _wide(folder: Path, outside: Path) -> None:
    kinds = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    np.save(folder / "recordings/a/0.npy", np.array([(0, 1, 1, 1), (40_000, 65535, 65535, 1)], kinds))


BINNED = [
    "spikelfp",
    "train",
    "--data",
    "folder:recordings",
    "--window",
    "1",
    "--hidden",
    "4",
    "--epochs",
    "1",
    "--no-report",
    "--quiet",
    "--out",
    "new",
]


def bombs() -> list[Attack]:
    info = ["spikelfp", "data", "info", "recordings"]
    verify, chip = READERS["samples.npz"][2], READERS["spikes.npz"][2]
    eight = partial(zip_bomb, size=4 << 30)
    deep = b"[" * 200_000
    wide_yaml = b"a: " + b"{x: " * 50_000
    nir = ("node/type", "node/nodes/0/weight", "node/edges", "version")
    table: list[tuple[str, str, str, bytes | Callable[[Path], bytes], list[str]]] = [
        ("aliases of YAML", "run", "run/config.yaml", yaml_bomb(), EVAL),
        ("aliases of YAML", "run", "options.yaml", yaml_bomb(), READERS["--config"][2]),
        ("aliases of YAML", "nir", "export/manifest.yaml", yaml_bomb(), verify),
        ("aliases of YAML", "tinyodin", "export/network.yaml", yaml_bomb(), chip),
        ("a million brackets", "run", "run/config.yaml", deep, EVAL),
        ("a million brackets", "run", "options.yaml", deep, READERS["--config"][2]),
        ("nested YAML", "run", "options.yaml", wide_yaml, READERS["--config"][2]),
        ("nested YAML", "nir", "export/manifest.yaml", wide_yaml, verify),
        ("a million brackets", "run", "run/summary.json", deep, ["spikelfp", "report", "run"]),
        ("a million brackets", "cache", "cache/train/meta.json", deep, READERS["cache meta.json"][2]),
        (
            "an endless number",
            "run",
            "run/summary.json",
            b'{"epochs": ' + b"9" * 100_000 + b"}",
            ["spikelfp", "report", "run"],
        ),
        ("an endless number", "run", "options.yaml", b"steps: " + b"9" * 100_000, READERS["--config"][2]),
        (
            "an endless row",
            "run",
            "run/metrics.csv",
            b"epoch," + b"x" * 300_000 + b"\n1,2\n",
            ["spikelfp", "report", "run"],
        ),
        ("a zip bomb", "nir", "export/samples.npz", lambda outside: eight("inputs.npy"), verify),
        ("a zip bomb", "tinyodin", "export/spikes.npz", lambda outside: eight("0.npy"), chip),
        ("a zip bomb", "events.npz0", "recordings/a/0.npz", lambda outside: eight("t.npy"), info),
        ("arrays that claim terabytes", "nir", "export/samples.npz", npz_claims("inputs", "labels"), verify),
        (
            "arrays that claim terabytes",
            "generic",
            "export/network.npz",
            npz_claims("weight"),
            ["hw-export", "verify", "export"],
        ),
        ("arrays that claim terabytes", "events.npz0", "recordings/a/0.npz", npz_claims("t", "x", "y", "p"), info),
        ("an array that claims terabytes", "events.npy0", "recordings/a/0.npy", npy_claims((1 << 40, 4)), info),
        ("an array of no width", "events.npy0", "recordings/a/0.npy", npy_claims((1 << 40, 4), "|S0"), info),
        ("fill values", "nir", "export/network.nir", hdf5_fill(*nir), verify),
        ("fill values", "loihi", "export/network.net", hdf5_fill("layer/0/weight", "layer/0/type"), READERS["netx"][2]),
        (
            "fill values",
            "events.h50",
            "recordings/a/0.h5",
            hdf5_fill("events/t", "events/x", "events/y", "events/p"),
            info,
        ),
        ("a tensor of one number", "run", "run/checkpoints/last.pt", tensor_wide, EVAL),
        ("a tensor of one number", "nir", "export/model.pt", tensor_wide, verify),
        ("a deflated storage", "run", "run/checkpoints/last.pt", torch_bomb, EVAL),
        ("a deflated storage", "nir", "export/model.pt", torch_bomb, verify),
        ("two events 50 minutes apart", "events.npy0", "", b"", BINNED),
        ("a sensor of 65,536 x 65,536", "events.npy0", "", b"", BINNED),
        ("a sensor of 65,536 x 65,536", "events.npy0", "", b"", info),
        (
            "hidden: [30000, 30000]",
            "run",
            "options.yaml",
            b"data: few-digits\nhidden: [300000, 300000]\nsteps: 3\n",
            READERS["--config"][2],
        ),
        ("a length of 2^31", "stream", "stream.cbor", lambda outside: _long_stream(), READERS["stream"][2]),
        ("a declared table", "events.mat0", "recordings/a/0.mat", lambda outside: _mat_bomb(), info),
        (
            "a width of 65,535",
            "events.es0",
            "recordings/a/0.es",
            b"Event Stream\x02\x00\x00" + struct.pack("<BHH", 1, 65535, 65535) + b"\xfe" * 50_000,
            info,
        ),
        ("a line without end", "events.csv0", "recordings/a/0.csv", b"t,x,y,p\n" + b"1" * (1 << 24), info),
    ]
    found = []
    for name, base, path, content, command in table:
        make: Make = put(path, content) if path else (_far_apart if "apart" in name else _wide)
        if path.startswith("cache/train/"):
            assert isinstance(content, bytes)
            make = odd(path, lambda place, outside, content=content: place.write_bytes(content))
        expect = "any" if not path or path.startswith("cache") else "refused"
        found.append(Attack(f"{name}: {Path(path).name or 'recording'}, {command[1]}", base, make, command, expect))
    for name, path, data, kind in (
        (
            "gzip bomb",
            "mnist/train-images-idx3-ubyte.gz",
            lambda outside: (
                gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 1 << 24, 28, 28), 1) + _zeros("gz", 8 << 30)
            ),
            "mnist",
        ),
        ("claims 2^96 elements", "mnist/train-images-idx3-ubyte", idx_claims, "mnist"),
        ("gzip bomb", "cifar10_subset/data_batch_1.bin.gz", lambda outside: _zeros("gz", 8 << 30), "cifar10-subset"),
        ("xz bomb", "cifar10_subset/data_batch_1.bin.xz", lambda outside: _zeros("xz", 8 << 30), "cifar10-subset"),
        ("tar bomb", "cifar10/cifar-10-binary.tar.gz", tar_bomb, "cifar10"),
    ):
        base = {"mnist": "mnist-gz" if path.endswith("gz") else "mnist", "cifar10": "cifar-tar"}.get(
            kind, f"cifar-{path.rsplit('.', 1)[-1]}"
        )
        command = [
            "spikelfp",
            "train",
            "--data",
            kind,
            "--data-dir",
            ".",
            "--epochs",
            "1",
            "--hidden",
            "4",
            "--out",
            "new",
        ]
        found.append(Attack(f"{name}: {Path(path).name}", base, put(path, data), command, "refused"))
    return found


def _long_stream() -> bytes:
    import zlib

    from hw_export.updates.format import MAGIC, PREFIX

    begin = struct.pack("<III", (1 << 32) - 1, 0, 0)
    return MAGIC + PREFIX + begin + struct.pack("<I", zlib.crc32(begin)) + b"\xbf" * 1000


def _mat_bomb() -> bytes:
    import zlib

    import scipy.io

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"t": np.zeros(8)})
    header = buffer.getvalue()[:128]
    body = zlib.compress(bytes(1 << 28), 1) * 1
    return header + struct.pack("<II", 15, len(body)) + body
