"""Fuzzed folders of data sets: recordings that can be read, or one line; no other error, little memory.

``python -m tests.data.events.test_sources_fuzz 10000`` tries as many more, and prints the memory that it took.
"""

from __future__ import annotations

import gzip
import random
import resource
import shutil
import struct
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from source_files import bin_bytes, digits, random_events, write_spike_lists, write_tar, write_zip  # noqa: E402

from spikelfp.data.events import check_events, load_recordings  # noqa: E402
from spikelfp.errors import UserError  # noqa: E402
from spikelfp.untrusted.bounds import ALWAYS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # each is a line too many

TRIES = 25
"""Inputs to each source in the suite; each loads the whole of a small data set."""

READ = 3
"""Recordings of each part that are read."""


def _digits(folder: Path) -> dict[str, bytes]:
    return {f"N-MNIST/{name}": bin_bytes(events) for name, events in digits().items()}


def nmnist_zip(folder: Path) -> str:
    write_zip(folder / "nmnist/all.zip", _digits(folder))
    return "nmnist"


def nmnist_tar(folder: Path) -> str:
    (folder / "nmnist").mkdir()
    write_tar(folder / "nmnist/all.tar", _digits(folder))
    packed = gzip.compress((folder / "nmnist/all.tar").read_bytes(), mtime=0)
    (folder / "nmnist/all.tar").unlink()
    (folder / "nmnist/all.tar.gz").write_bytes(packed)
    return "nmnist"


def nmnist_folders(folder: Path) -> str:
    for name, events in digits().items():
        path = folder / "nmnist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bin_bytes(events))
    return "nmnist"


def gesture(folder: Path) -> str:
    """Recordings of AEDAT 3.1 with tables of labels, and lists of the parts."""
    place = folder / "dvs-gesture"
    place.mkdir()
    for number, person in enumerate(("user01_led", "user02_lab")):
        words = b"".join(
            struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t)
            for t, x, y, p in random_events(number, 300, 128, 128).tolist()
        )
        header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
        packet = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 300, 300, 300) + words
        (place / f"{person}.aedat").write_bytes(header + packet)
        table = "class,startTime_usec,endTime_usec\n1,0,90000\n2,90000,200000\n"
        (place / f"{person}_labels.csv").write_text(table)
    (place / "trials_to_train.txt").write_text("user01_led.aedat\n")
    (place / "trials_to_test.txt").write_text("user02_lab.aedat\n")
    return "dvs-gesture"


def spike_lists(folder: Path, chunks: bool = False) -> str:
    rng = np.random.default_rng(0)
    lists = [(rng.random(5).tolist(), rng.integers(0, 20, 5).tolist()) for _ in range(12)]
    path = write_spike_lists(folder / "mine.h5", lists, [number % 2 for number in range(12)], ["no", "yes"])
    if chunks:
        with h5py.File(path, "r+") as file:
            for name in ("spikes/times", "spikes/units"):
                values, kind = file[name][()], file[name].dtype
                del file[name]
                file.create_dataset(name, data=values, dtype=kind, chunks=(4,), compression="gzip", shuffle=True)
    return f"hdf5:{path}"


def chunked_spike_lists(folder: Path) -> str:
    return spike_lists(folder, chunks=True)


def packed_spike_lists(folder: Path) -> str:
    name = spike_lists(folder)
    path = Path(name.partition(":")[2])
    path.with_name("mine.h5.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return f"{name}.gz"


def rasters(folder: Path) -> str:
    rng = np.random.default_rng(0)
    made = [np.packbits(rng.random((5, rng.integers(1, 30))) < 0.4, axis=1) for _ in range(24)]
    steps = [each.shape[1] * 8 for each in made]
    (folder / "fsdd-cochlea").mkdir()
    np.savez_compressed(
        folder / "fsdd-cochlea/fsdd_cochlea_spikes.npz",
        packed=np.concatenate([each.reshape(-1) for each in made]),
        offsets=np.cumsum([0, *(each.size for each in made)]),
        n_steps=np.array(steps, np.int32),
        labels=np.arange(24, dtype=np.uint8) % 2,
        take=np.arange(24, dtype=np.uint8) // 2,
        n_channels=np.int32(5),
        dt_us=np.int32(125),
    )
    return "fsdd-cochlea"


def own_files(folder: Path) -> str:
    """A folder of one's own with a layout of each kind."""
    place = folder / "own"
    for number, label in enumerate(("left", "left", "right", "right", "right")):
        (place / label).mkdir(parents=True, exist_ok=True)
        events = random_events(number, 120)
        t, x, y, p = (events[name].astype("i8") for name in "txyp")
        path = place / label / f"{number}"
        match number:
            case 0:
                np.savetxt(
                    path.with_suffix(".csv"), np.stack([t, x, y, p], 1), "%d", ",", header="t,x,y,p", comments=""
                )
            case 1:
                with h5py.File(path.with_suffix(".h5"), "w") as file:
                    for name, column in {"ts": t * 1e-6, "xs": x, "ys": y, "ps": p}.items():
                        file.create_dataset(f"events/{name}", data=column, chunks=(50,), compression="gzip")
                    file.attrs["geometry"] = "34x34"
            case 2:
                scipy.io.savemat(path.with_suffix(".mat"), {"TD": {"ts": t, "x": x + 1, "y": y + 1, "p": p + 1}})
            case 3:
                np.savez_compressed(path.with_suffix(".npz"), events=np.stack([t, x, y, p], 1))
            case 4:
                with h5py.File(path.with_suffix(".hdf5"), "w") as file:
                    file["davis/left/events"] = np.stack([x, y, t * 1e-6, 2 * p - 1], 1)
                    file["davis/right"] = h5py.SoftLink("/davis/left")
                    file["davis"].attrs["note"] = "a text"
    return f"folder:{place}"


SOURCES: dict[str, Callable[[Path], str]] = {
    each.__name__: each
    for each in (nmnist_zip, nmnist_tar, nmnist_folders, gesture, spike_lists, chunked_spike_lists, packed_spike_lists,
                 rasters, own_files)
}  # fmt: skip
PIECES = (b"\xff" * 4, b"\xff" * 8, bytes(4), b"\x7f\xff\xff\xff", b"9" * 20, b",", b"\n", b"-1")


def damage(folder: Path, chance: random.Random) -> None:
    """Change, cut, lose, move or swap a file, once or twice."""
    for _ in range(chance.choice((1, 1, 2))):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        if not files:
            return
        path = chance.choice(files)
        content = bytearray(path.read_bytes())
        at = chance.randrange(min(len(content), chance.choice((100, 2500, 1 << 30))) + 1)
        match chance.choice(("change", "change", "insert", "remove", "cut", "empty", "lose", "swap", "folder", "link")):
            case "change":
                piece = chance.choice((*PIECES, chance.randbytes(1 + chance.randrange(4))))
                content[at : at + len(piece)] = piece
            case "insert":
                content[at:at] = chance.choice(PIECES)
            case "remove":
                del content[at : at + 1 + chance.randrange(8)]
            case "cut":
                del content[at:]
            case "empty":
                content.clear()
            case "lose":
                path.unlink()
                continue
            case "swap":
                content[:] = chance.choice(files).read_bytes()
            case "folder":
                path.unlink()
                path.mkdir()
                continue
            case "link":
                path.unlink()
                path.symlink_to(chance.choice(("nowhere", path.name, "..", "/dev/zero", "/dev/null")))
                continue
        path.write_bytes(content)


def attempt(name: str, data_dir: Path, skip_bad: bool) -> str:
    """Load a data set and read some of it; the error in its one line, or nothing."""
    lines = []
    try:
        splits = load_recordings(name, data_dir, skip_bad=skip_bad)
    except UserError as error:
        return str(error)
    lines += splits.skipped
    for part in (splits.train, splits.test):
        for index in range(min(READ, len(part))):
            try:
                check_events(part.read(index), part.sensor, "here")
            except UserError as error:
                lines.append(str(error))
    for line in lines:
        assert "\n" not in line
    return max(lines, default="", key=len)


@pytest.mark.parametrize("source", SOURCES)
def test_a_damaged_data_set_is_read_or_refused_in_one_line(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    whole = tmp_path / "whole"
    whole.mkdir()
    name = SOURCES[source](whole)
    assert attempt(name, whole, False) == ""
    for number in range(TRIES):
        tried = tmp_path / "tried"
        shutil.copytree(whole, tried)
        chance = random.Random(f"{source} {number}")
        damage(tried, chance)
        tracemalloc.start()
        try:
            line = attempt(name.replace(str(whole), str(tried)), tried, chance.random() < 0.5)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "\n" not in line
        assert len(line) < 1000
        assert peak < ALWAYS, (number, line)
        shutil.rmtree(tried)


def main(tries: int) -> None:
    """Try many more, in this process, and print the memory that it took at most."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as place:
        for source, make in SOURCES.items():
            whole = Path(place) / source
            whole.mkdir()
            name = make(whole)
            for number in range(tries // len(SOURCES)):
                tried = Path(place) / f"tried {number}"
                shutil.copytree(whole, tried)
                chance = random.Random(f"more {source} {number}")
                damage(tried, chance)
                try:
                    line = attempt(name.replace(str(whole), str(tried)), tried, chance.random() < 0.5)
                    found["refused" if line else "read"] = found.get("refused" if line else "read", 0) + 1
                    assert "\n" not in line
                    assert len(line) < 1000, line
                except Exception:
                    print(f"{source} {number}", flush=True)
                    raise
                shutil.rmtree(tried)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{found}, at most {memory} MiB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
