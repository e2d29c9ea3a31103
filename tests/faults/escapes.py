"""Files and folders that lead outside: links of HDF5, members of archives, paths in what a stranger hands over."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py

from .attack import Attack, Make
from .inputs import EVAL
from .traps import READERS, put


def hdf5_out(way: str, *names: str) -> Callable[[Path], bytes]:
    """A file of HDF5 whose data sets lie in a file outside."""

    def make(outside: Path) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "x.h5"
            with h5py.File(path, "w") as file:
                for name in names:
                    match way:
                        case "an external link":
                            file[name] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")
                        case "external storage":
                            file.create_dataset(name, (1000,), "u1", external=[(str(outside / "raw.bin"), 0, 1000)])
                        case "a virtual data set":
                            layout = h5py.VirtualLayout((12,), "f8")
                            layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "x", (12,))
                            file.create_virtual_dataset(name, layout)
                        case "a soft link in a circle":
                            file[name] = h5py.SoftLink(f"/{name}")
            return path.read_bytes()

    return make


def escapes() -> list[Attack]:
    info = ["spikelfp", "data", "info", "recordings"]
    found = []
    for way in ("an external link", "external storage", "a virtual data set", "a soft link in a circle"):
        for base, path, names, command in (
            ("nir", "export/network.nir", ("node", "version"), READERS["network.nir"][2]),
            (
                "nir",
                "export/network.nir",
                ("node/type", "node/edges", "node/nodes/0/weight", "version"),
                READERS["network.nir"][2],
            ),
            ("loihi", "export/network.net", ("layer/0/weight", "layer/0/type", "layer/0/shape"), READERS["netx"][2]),
            ("events.h50", "recordings/a/0.h5", ("events/t", "events/x", "events/y", "events/p"), info),
            ("events.h50", "recordings/a/0.h5", ("events",), info),
        ):
            make = put(path, hdf5_out(way, *names))
            found.append(Attack(f"{way}: {Path(path).name}, {names[0]}", base, make, command, "refused"))
        found.append(
            Attack(
                f"{way}: .mat of MATLAB 7.3",
                "events.mat0",
                put("recordings/a/0.mat", hdf5_out(way, "t", "x", "y", "p")),
                info,
                "refused",
            )
        )
    found += [
        Attack(
            "a tar whose members lie above",
            "cifar-tar",
            put("cifar10/cifar-10-binary.tar.gz", _tar_out("../../outside/pwned")),
            _cifar(),
            "refused",
        ),
        Attack(
            "a tar with an absolute name",
            "cifar-tar",
            put("cifar10/cifar-10-binary.tar.gz", _tar_out(None)),
            _cifar(),
            "refused",
        ),
        Attack(
            "a tar of links outside",
            "cifar-tar",
            put("cifar10/cifar-10-binary.tar.gz", _tar_links),
            _cifar(),
            "refused",
        ),
        Attack(
            "a tar of devices", "cifar-tar", put("cifar10/cifar-10-binary.tar.gz", _tar_devices), _cifar(), "refused"
        ),
        Attack(
            "config.yaml keeps its cache outside",
            "cache",
            _config_line("cache_dir", "made"),
            ["spikelfp", "eval", "run"],
            "any",
        ),
        Attack(
            "config.yaml keeps its cache where a left-over lies",
            "cache",
            _config_line("cache_dir", ""),
            ["spikelfp", "eval", "run"],
            "any",
            reads=True,  # whether it is a cache already: the folder is looked into, and left as it is
        ),
        Attack(
            "config.yaml names data above",
            "run",
            _config_line("data", "folder:../outside/folder", plain=True),
            EVAL,
            "refused",
            reads=True,
        ),
        Attack(
            "config.yaml names a data folder that is a file",
            "run",
            _config_line("data_dir", "secret.txt"),
            EVAL,
            "refused",
            reads=True,
        ),
        Attack("a name of a checksum that leads outside", "nir", _manifest_out, READERS["manifest.yaml"][2], "any"),
        Attack(
            "a cache entry that is a link outside",
            "cache",
            _cache_link,
            ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"],
            "any",
            reads=True,
        ),
        Attack(
            "an entry with a folder behind a link",
            "cache",
            _cache_inner,
            ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"],
            "any",
            reads=True,
        ),
        Attack(
            "a left-over that is a link outside",
            "cache",
            _cache_part,
            ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"],
            "any",
            reads=True,
        ),
        Attack(
            "recordings behind a link to above",
            "events.npy0",
            lambda folder, outside: (folder / "recordings/c").symlink_to(".."),
            ["spikelfp", "data", "info", "recordings"],
            "refused",
        ),
        Attack(
            "recordings behind a link in a circle",
            "events.npy0",
            lambda folder, outside: (folder / "recordings/a/c").symlink_to("../a"),
            ["spikelfp", "data", "info", "recordings"],
            "refused",
        ),
    ]
    return found


def _cifar() -> list[str]:
    return [
        "spikelfp",
        "train",
        "--data",
        "cifar10",
        "--data-dir",
        ".",
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--out",
        "new",
    ]


def _tar_out(name: str | None) -> Callable[[Path], bytes]:
    def make(outside: Path) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo(name or str(outside / "pwned"))
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        return buffer.getvalue()

    return make


def _tar_links(outside: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{number + 1}.bin")
            info.type, info.linkname = kind, str(outside / "raw.bin")
            archive.addfile(info)
    return buffer.getvalue()


def _tar_devices(outside: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number, kind in enumerate((tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE)):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{number + 1}.bin")
            info.type, info.devmajor, info.devminor = kind, 1, 5
            archive.addfile(info)
    return buffer.getvalue()


def _config_line(name: str, value: str, plain: bool = False) -> Make:
    """A line of the run's ``config.yaml`` with another value, by default a path outside."""

    def make(folder: Path, outside: Path) -> None:
        path = folder / "run" / "config.yaml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
        path.write_text("\n".join([*lines, f"{name}: {json.dumps(value if plain else str(outside / value))}"]) + "\n")

    return make


def _manifest_out(folder: Path, outside: Path) -> None:
    path = folder / "export" / "manifest.yaml"
    path.write_text(
        path.read_text().replace(
            "sha256:\n", f"sha256:\n  {outside / 'secret.txt'}: abc\n  ../../outside/secret.txt: abc\n"
        )
    )


def _cache_link(folder: Path, outside: Path) -> None:
    (folder / "cache" / f"evil-{'0' * 32}").symlink_to(outside / "folder")


def _cache_inner(folder: Path, outside: Path) -> None:
    entry = folder / "cache" / f"evil-{'0' * 32}"
    entry.mkdir()
    (entry / "inner").symlink_to(outside / "folder")


def _cache_part(folder: Path, outside: Path) -> None:
    (folder / "cache" / ".evil.part").symlink_to(outside / ".left.part")
