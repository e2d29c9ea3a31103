"""Traps at the places that commands write to and read from: links, pipes, devices, folders of others."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from .attack import Attack, Make, Payload
from .inputs import EVAL
from .scenarios import TRAIN


def put(path: str, content: bytes | Callable[[Path], bytes]) -> Make:
    """A file with this content, in the place of what is there."""

    def make(folder: Path, outside: Path) -> None:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        remove(place)
        place.write_bytes(content(outside) if callable(content) else content)

    return make


def remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _odd_files() -> dict[str, Callable[[Path, Path], object]]:
    """Things that are no files, or files without end, put at a path; the second argument is the folder outside."""

    def listening(path: Path, outside: Path) -> None:
        here = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)

    def sparse(path: Path, outside: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(1 << 36)

    return {
        "a FIFO": lambda path, outside: os.mkfifo(path),
        "a folder": lambda path, outside: path.mkdir(),
        "an endless device": lambda path, outside: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path, outside: path.symlink_to(path.name),
        "a link to nothing": lambda path, outside: path.symlink_to("nowhere/at/all"),
        "a socket": listening,
        "nothing": lambda path, outside: path.write_bytes(b""),
        "a hole of 64 GiB": sparse,
        "a pickle that runs": lambda path, outside: path.write_bytes(pickle.dumps(Payload(outside))),
    }


def odd(path: str, way: Callable[[Path, Path], object]) -> Make:
    def make(folder: Path, outside: Path) -> None:
        place = folder / path
        if path.startswith("cache/train/"):
            place = folder / "cache" / (folder / "train-is").read_text() / path.removeprefix("cache/train/")
        remove(place)
        way(place, outside)

    return make


def _targets() -> dict[str, Callable[[Path, Path], object]]:
    """Traps at the place that something is written to."""

    def foreign(path: Path, outside: Path) -> None:
        path.mkdir()
        (path / "config.yaml").write_text("name: another program\n")
        (path / "manifest.yaml").write_text("name: another program\n")
        (path / "thesis.tex").write_text("keep me")

    def full(path: Path, outside: Path) -> None:
        path.mkdir()
        (path / "thesis.tex").write_text("keep me")

    return {
        "a folder of another program": foreign,
        "a folder with a thesis": full,
        "a file": lambda path, outside: path.write_text("keep me"),
        "a link to a folder outside": lambda path, outside: path.symlink_to(outside / "folder"),
        "a link to a file outside": lambda path, outside: path.symlink_to(outside / "secret.txt"),
        "a link to a new name outside": lambda path, outside: path.symlink_to(outside / "new"),
        "a hard link": lambda path, outside: os.link(outside / "secret.txt", path),
        "a FIFO": lambda path, outside: os.mkfifo(path),
        "a device": lambda path, outside: path.symlink_to("/dev/full"),
        "a link to itself": lambda path, outside: path.symlink_to(path.name),
    }


WRITERS: dict[str, tuple[str, list[str]]] = {
    "train": ("run", [*TRAIN[:-1], "there"]),
    "train --overwrite": ("run", [*TRAIN[:-1], "there", "--overwrite"]),
    "train --resume": ("run", [*TRAIN[:-1], "there", "--resume"]),
    "build": ("run", ["hw-export", "build", "run", "--samples", "4", "--out", "there"]),
    "build --overwrite": ("run", ["hw-export", "build", "run", "--samples", "4", "--out", "there", "--overwrite"]),
    "record --overwrite": (
        "run",
        ["hw-export", "updates", "record", "run", "--steps", "2", "--out", "there", "--overwrite"],
    ),
    "replay --overwrite": (
        "stream",
        ["hw-export", "updates", "replay", "stream.cbor", "--out", "there", "--overwrite"],
    ),
}
"""Commands that write to ``there``, each with the folder it starts from."""


def writing() -> list[Attack]:
    found = []
    for command, (base, arguments) in WRITERS.items():
        for trap, way in _targets().items():
            keeps = ("there",) if trap.startswith(("a folder", "a file")) else ()
            found.append(
                Attack(
                    f"{command}: there is {trap}",
                    base,
                    odd("there", way),
                    arguments,
                    reads="link" in trap,
                    keeps=keeps,
                )
            )
    inside = {
        "train --overwrite: the run holds a thesis": put("run/thesis.tex", b"keep me"),
        "train --overwrite: its checkpoints are a link outside": lambda folder, outside: link(
            folder / "run/checkpoints", outside / "folder"
        ),
        "train --overwrite: last.pt is a link outside": lambda folder, outside: link(
            folder / "run/checkpoints/last.pt", outside / "secret.pt"
        ),
        "train --overwrite: metrics.csv is a link outside": lambda folder, outside: link(
            folder / "run/metrics.csv", outside / "secret.txt"
        ),
        "train --overwrite: config.yaml is a hard link": lambda folder, outside: _hard(
            folder / "run/config.yaml", outside / "same.yaml"
        ),
        "train --overwrite: a folder of one's own in it": lambda folder, outside: (
            (folder / "run/notes").mkdir(),
            (folder / "run/notes/a.txt").write_text("keep me"),
        ),
    }
    kept = {"a thesis": ("run/thesis.tex",), "a folder of one's own": ("run/notes/a.txt",)}
    for name, make in inside.items():
        keeps = next((paths for word, paths in kept.items() if word in name), ())
        found.append(Attack(name, "run", make, [*TRAIN, "--overwrite"], reads="link" in name, keeps=keeps))
    links = {
        "checkpoints are a link outside": ("run/checkpoints", "folder"),
        "last.pt is a link outside": ("run/checkpoints/last.pt", "secret.pt"),
        "metrics.csv is a link outside": ("run/metrics.csv", "secret.txt"),
        "summary.json is a link outside": ("run/summary.json", "secret.json"),
        "report.html is a link outside": ("run/report.html", "secret.txt"),
    }
    for name, (path, target) in links.items():

        def make(folder: Path, outside: Path, path: str = path, target: str = target) -> None:
            link(folder / path, outside / target)

        for word, command in (
            ("train --resume", [*TRAIN[:-3], "3", "--out", "run", "--resume"]),
            ("report", ["spikelfp", "report", "run"]),
        ):
            found.append(Attack(f"{word}: {name}", "run", make, command, reads=True))
    for name in ("network.nir", "model.pt", "manifest.yaml", "verify.json", "samples.npz"):

        def trap(folder: Path, outside: Path, name: str = name) -> None:
            link(folder / "export" / name, outside / "secret.txt")

        found.append(
            Attack(
                f"build --overwrite: {name} is a link outside",
                "nir",
                trap,
                ["hw-export", "build", "run", "--samples", "4", "--out", "export", "--overwrite"],
                reads=True,
            )
        )
        found.append(
            Attack(
                f"verify: {name} is a link outside",
                "nir",
                trap,
                ["hw-export", "verify", "export", "--in", "snntorch"],
                reads=True,
            )
        )
    return found


def link(path: Path, target: Path) -> None:
    remove(path)
    path.symlink_to(target)


def _hard(path: Path, target: Path) -> None:
    shutil.copy(path, target)
    remove(path)
    os.link(target, path)


READERS: dict[str, tuple[str, str, list[str]]] = {
    "checkpoint": ("run", "run/checkpoints/last.pt", EVAL),
    "config.yaml": ("run", "run/config.yaml", EVAL),
    "--config": ("run", "options.yaml", ["spikelfp", "train", "--config", "options.yaml", "--out", "new"]),
    "metrics.csv": ("run", "run/metrics.csv", ["spikelfp", "report", "run"]),
    "summary.json": ("run", "run/summary.json", ["spikelfp", "report", "run"]),
    "manifest.yaml": ("nir", "export/manifest.yaml", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "model.pt": ("nir", "export/model.pt", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "samples.npz": ("nir", "export/samples.npz", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "network.nir": ("nir", "export/network.nir", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "tinyodin.spi": ("tinyodin", "export/tinyodin.spi", ["hw-export", "verify", "export"]),
    "spikes.npz": ("tinyodin", "export/spikes.npz", ["hw-export", "verify", "export"]),
    "netx": ("loihi", "export/network.net", ["hw-export", "verify", "export"]),
    "stream": ("stream", "stream.cbor", ["hw-export", "updates", "inspect", "stream.cbor"]),
    "base image": (
        "stream",
        "image.cbor",
        ["hw-export", "updates", "replay", "bare.cbor", "--base", "image.cbor", "--out", "new.cbor"],
    ),
    "recording .npy": ("events.npy0", "recordings/a/0.npy", ["spikelfp", "data", "info", "recordings"]),
    "recording .h5": ("events.h50", "recordings/a/0.h5", ["spikelfp", "data", "info", "recordings"]),
    "recording .aedat4": ("events.aedat40", "recordings/a/0.aedat4", ["spikelfp", "data", "info", "recordings"]),
    "recording .csv": ("events.csv0", "recordings/a/0.csv", ["spikelfp", "data", "info", "recordings"]),
    "recording .raw": ("events.raw0", "recordings/a/0.raw", ["spikelfp", "data", "info", "recordings"]),
    "recording .mat": ("events.mat0", "recordings/a/0.mat", ["spikelfp", "data", "info", "recordings"]),
    "cache meta.json": ("cache", "cache/train/meta.json", ["spikelfp", "eval", "run", "--cache-dir", "cache"]),
    "cache offsets.bin": ("cache", "cache/train/offsets.bin", ["spikelfp", "eval", "run", "--cache-dir", "cache"]),
}
"""Files that commands read: the folder, the path, and the command."""


def reading() -> list[Attack]:
    found = []
    for name, (base, path, command) in READERS.items():
        for trap, way in _odd_files().items():
            found.append(Attack(f"{name} is {trap}", base, odd(path, way), command))
    return found
