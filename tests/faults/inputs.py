"""Every kind of file that a command opens: how one is made, how it can be damaged, and the command that opens it."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.training import checkpoint

from . import mutators as m
from .scenarios import CHIPS, EVENT_TRAIN, TRAIN, must, recordings, trained

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "events"))

Open = Callable[[], int]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the row in the table.
        base: name of the folder of :data:`BASES` in which it lies.
        path: of the file within.
        opens: commands, one of which opens it; they take turns.
        ways: functions that damage it.
        writes: the command changes files, which are put back afterwards.
        sealed: a checksum is over its bytes: damage to them must be told.
        training: the commands train for a moment only.
    """

    name: str
    base: str
    path: str
    opens: Sequence[Sequence[str] | Open]
    ways: Sequence[m.Mutate]
    writes: bool = False
    sealed: bool = False


def _sealed_checkpoint(content: dict[str, Any]) -> bytes:
    """A checkpoint with the seal that the product gives it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        checkpoint.write(path, content)
        return path.read_bytes()


def packed(pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes], ways: Sequence[m.Mutate]) -> m.Mutate:
    """Damage what is inside a packed file, and pack it again."""

    def mutate(data: bytes, chance: Any) -> bytes:
        return pack(chance.choice(list(ways))(unpack(data), chance))

    return mutate


GZIP = packed(lambda data: gzip.compress(data, 1), gzip.decompress, m.BYTES)
XZ = packed(lambda data: lzma.compress(data, preset=0), lzma.decompress, m.BYTES)

EVAL = ["spikelfp", "eval", "run", "--json"]
RESUME = [*TRAIN[:-3], "3", "--out", "run", "--resume"]


def report() -> int:
    """Read a run as its report does, without drawing it."""
    from spikelfp.errors import UserError
    from spikelfp.report.facts import collect_facts

    try:
        collect_facts("run")
    except UserError as error:
        print(f"spikelfp: {error}", file=sys.stderr)
        return 2
    return 0


def read_nir() -> int:
    """Read a NIR file as a program does."""
    from hw_export import from_nir
    from spikelfp.errors import UserError

    try:
        from_nir("network.nir")
    except UserError as error:
        print(f"hw-export: {error}", file=sys.stderr)
        return 2
    return 0


def load_static(name: str) -> Open:
    """Load a data set of images as training does."""

    def load() -> int:
        from spikelfp.data import load as load_data
        from spikelfp.errors import UserError

        try:
            load_data(name, Path.cwd())
        except UserError as error:
            print(f"spikelfp: {error}", file=sys.stderr)
            return 2
        return 0

    return load


def kinds() -> list[Kind]:
    """All kinds, in the order of the table."""
    seal = m.tensors(_sealed_checkpoint)
    found = [
        Kind("checkpoint, eval", "run", "run/checkpoints/last.pt", [EVAL], [*m.BYTES, m.members], sealed=True),
        Kind("checkpoint, eval, other values", "run", "run/checkpoints/last.pt", [EVAL], [seal]),
        Kind(
            "checkpoint, resume, other values",
            "run",
            "run/checkpoints/last.pt",
            [RESUME],
            [seal, seal, m.members],
            writes=True,
        ),
        Kind(
            "checkpoint, record from it",
            "run",
            "run/checkpoints/initial.pt",
            [["hw-export", "updates", "record", "run", "--weights", "initial", "--steps", "1", "--out", "s.cbor"]],
            [seal, *m.BYTES],
            writes=True,
        ),
        Kind("config.yaml of a run", "run", "run/config.yaml", [EVAL, report], [*m.TEXT, m.yaml_values, m.yaml_values]),
        Kind(
            "config.yaml, resume",
            "run",
            "run/config.yaml",
            [RESUME, ["spikelfp", "train", "--out", "run", "--resume"]],
            [*m.TEXT, m.yaml_values, m.yaml_values],
            writes=True,
        ),
        Kind(
            "--config",
            "run",
            "options.yaml",
            [["spikelfp", "train", "--config", "options.yaml", "--out", "new", "--quiet", "--no-report"]],
            [*m.TEXT, m.yaml_values, m.yaml_values, m.yaml_values],
            writes=True,
        ),
        Kind("metrics.csv", "run", "run/metrics.csv", [report], m.TEXT),
        Kind("summary.json", "run", "run/summary.json", [report], [*m.TEXT, m.json_values, m.json_values]),
        Kind("verify.json", "run", "run/verify.json", [report], [*m.TEXT, m.json_values, m.json_values]),
    ]
    found += _exports()
    found += _streams()
    found += _events()
    found += _images()
    return found


def _exports() -> list[Kind]:
    verify = ["hw-export", "verify", "export", "--in", "snntorch"]
    chip = ["hw-export", "verify", "export"]
    text = [*m.TEXT, m.yaml_values, m.yaml_values]
    found = [
        Kind("manifest.yaml", "nir", "export/manifest.yaml", [verify], text, writes=True),
        Kind(
            "model.pt", "nir", "export/model.pt", [verify], [*m.BYTES, m.members, m.tensors(), m.tensors()], writes=True
        ),
        Kind(
            "samples.npz",
            "nir",
            "export/samples.npz",
            [verify],
            [*m.BYTES, m.members, m.members, m.arrays, m.arrays],
            writes=True,
        ),
        Kind("NIR, verify", "nir", "export/network.nir", [verify], [*m.BYTES, m.hdf5, m.hdf5], writes=True),
        Kind("NIR, from_nir", "nir", "network.nir", [read_nir], [*m.BYTES, m.hdf5, m.hdf5, m.hdf5, m.hdf5]),
        Kind("manifest.yaml of a chip", "tinyodin", "export/manifest.yaml", [chip], text, writes=True),
        Kind(
            "spikes.npz",
            "tinyodin",
            "export/spikes.npz",
            [chip],
            [*m.BYTES, m.members, m.arrays, m.arrays],
            writes=True,
        ),
    ]
    plain = {"manifest.yaml", "model.pt", "samples.npz", "spikes.npz", "verify.json"}
    for target in CHIPS:
        if target == "nir":
            continue
        for path in _names_of(target) or ():
            if path in plain:
                continue
            ways: list[m.Mutate] = list(m.BYTES)
            if path.endswith((".yaml", ".txt", ".spi", ".csv", ".json")):
                ways = [*m.TEXT]
            ways += {"yaml": [m.yaml_values] * 3, "npz": [m.members, m.arrays, m.arrays], "json": [m.json_values]}.get(
                path.rsplit(".", 1)[-1], []
            )
            if path.endswith((".net", ".h5", ".hdf5", ".nir")):
                ways += [m.hdf5, m.hdf5]
            found.append(Kind(f"{target}: {path}", target, f"export/{path}", [chip], ways, writes=True))
    return found


CHIP_FILES: dict[str, tuple[str, ...]] = {}
"""Names of the files of each export, found when the folders are made."""


def _names_of(target: str) -> tuple[str, ...]:
    return CHIP_FILES.get(target, ())


def _streams() -> list[Kind]:
    inspect = ["hw-export", "updates", "inspect", "stream.cbor"]
    replay = ["hw-export", "updates", "replay", "stream.cbor", "--out", "out.cbor"]
    bare = ["hw-export", "updates", "replay", "bare.cbor", "--base", "image.cbor", "--out", "out.cbor"]
    return [
        Kind("update stream", "stream", "stream.cbor", [inspect, replay], m.BYTES, writes=True, sealed=False),
        Kind("update stream, other values", "stream", "stream.cbor", [inspect, replay], [cbor_values], writes=True),
        Kind("image of integers", "stream", "image.cbor", [bare], [*m.BYTES, cbor_values], writes=True),
    ]


def cbor_values(data: bytes, chance: Any) -> bytes:
    """Other values in the records of a stream, with its checksums made anew."""
    import cbor2

    from hw_export.updates.format import Link, write_record

    bodies = list(bodies_of(data))
    number = chance.randrange(len(bodies))
    try:
        content = cbor2.loads(bodies[number])
        values = [each for each in m.VALUES if not isinstance(each, tuple)]
        bodies[number] = cbor2.dumps(m.change(content, chance, values))
    except Exception:
        bodies[number] = chance.choice(m.BYTES)(bodies[number], chance)
    if chance.random() < 0.2:
        bodies.insert(chance.randrange(len(bodies)), chance.choice(bodies))
    if chance.random() < 0.1:
        del bodies[chance.randrange(len(bodies))]
    made, link = b"", Link()
    for body in bodies:
        record, link = write_record(body, link)
        made += record
    return made


def bodies_of(data: bytes) -> list[bytes]:
    """The bodies of the records of a whole stream."""
    from hw_export.updates.format import Link, read_record

    found, link = list[bytes](), Link()
    while (record := read_record(memoryview(data)[link.offset :], link)) is not None:
        found.append(record.body)
        link = record.after
        if link.offset >= len(data):
            break
    return found


def _events() -> list[Kind]:
    info = ["spikelfp", "data", "info", "recordings"]
    train = [
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
        "--overwrite",
    ]
    found = []
    for suffix, seeds in event_files().items():
        ways: list[m.Mutate] = list(m.BYTES)
        if suffix in (".csv", ".txt"):
            ways = list(m.TEXT)
        if suffix in (".h5", ".hdf5"):
            ways += [m.hdf5, m.hdf5, m.hdf5]
        if suffix == ".npz":
            ways += [m.members, m.members, m.arrays, m.arrays]
        for number in range(len(seeds)):
            path = f"recordings/a/0{suffix}"
            found.append(
                Kind(f"recording {suffix} {number}", f"events{suffix}{number}", path, [info, train], ways, writes=True)
            )
    eval_events = ["spikelfp", "eval", "run", "--cache-dir", "cache"]
    listed = ["spikelfp", "data", "cache", "--cache-dir", "cache"]
    found += [
        Kind(
            "cache: meta.json",
            "cache",
            "cache/train/meta.json",
            [eval_events, listed],
            [*m.TEXT, m.json_values, m.json_values],
            writes=True,
        ),
        Kind("cache: arrays", "cache", "cache/train/offsets.bin", [eval_events], m.BYTES, writes=True, sealed=True),
        Kind(
            "cache: arrays, right checksums",
            "cache",
            "cache/train/offsets.bin",
            [eval_events],
            [m.numbers, m.swap, m.flip],
            writes=True,
        ),
    ]
    return found


def event_files() -> dict[str, list[bytes]]:
    """A few small recordings of every format."""
    from test_readers_fuzz import SEEDS

    return SEEDS


def _images() -> list[Kind]:
    mnist, cifar = load_static("mnist"), load_static("cifar10-subset")
    return [
        Kind("idx", "mnist", "mnist/train-images-idx3-ubyte", [mnist], m.BYTES),
        Kind("idx.gz", "mnist-gz", "mnist/train-images-idx3-ubyte.gz", [mnist], [*m.BYTES, GZIP, GZIP, GZIP]),
        Kind("cifar", "cifar", "cifar10_subset/data_batch_1.bin", [cifar], m.BYTES),
        Kind("cifar.gz", "cifar-gz", "cifar10_subset/data_batch_1.bin.gz", [cifar], [*m.BYTES, GZIP, GZIP]),
        Kind("cifar.xz", "cifar-xz", "cifar10_subset/data_batch_1.bin.xz", [cifar], [*m.BYTES, XZ, XZ]),
        Kind(
            "cifar.tar.gz",
            "cifar-tar",
            "cifar10/cifar-10-binary.tar.gz",
            [load_static("cifar10")],
            [*m.BYTES, GZIP, GZIP],
        ),
    ]


def make_run(folder: Path) -> None:
    trained(folder, "--epochs", "2")
    must(["hw-export", "build", "run", "--out", "export", "--samples", "4"], folder)
    must(["hw-export", "verify", "export", "--in", "snntorch"], folder)
    shutil.copy(folder / "export" / "verify.json", folder / "run" / "verify.json")
    shutil.rmtree(folder / "export")
    (folder / "options.yaml").write_text(
        "data: few-digits\nmodel: lif-mlp\nhidden: [12]\n"
        "steps: 3\nepochs: 2\nbatch_size: 48\nlr: 0.003\nbeta: 0.9\nthreshold: 1.0\nreset: subtract\noptimizer: adam\n"
        "schedule: one-cycle\nrule: epsilon\neps: 1e-06\nseed: 3\nvalidation: 0.1\npatience: 2\n"
    )


def make_export(target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        trained(folder, *CHIPS[target])
        must(["hw-export", "build", "run", "--target", target, "--out", "export", "--samples", "4"], folder)
        if target == "nir":
            shutil.copy(folder / "export" / "network.nir", folder / "network.nir")

    return make


def make_stream(folder: Path) -> None:
    trained(folder)
    record = ["hw-export", "updates", "record", "run", "--steps", "6"]
    must([*record, "--out", "stream.cbor"], folder)
    must([*record, "--out", "bare.cbor", "--no-embed"], folder)
    must(["hw-export", "updates", "replay", "stream.cbor", "--upto", "0", "--out", "image.cbor"], folder)


def make_events(suffix: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in ("a", "b"):
            for number in range(2):
                path = folder / "recordings" / name / f"{number}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    return make


def make_cache(folder: Path) -> None:
    recordings(folder)
    must([*EVENT_TRAIN, "--cache-dir", "cache"], folder)
    for entry in (folder / "cache").iterdir():
        part = "train" if "train" in entry.name else "test"
        (folder / f"{part}-is").write_text(entry.name)


def make_mnist(ending: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "mnist").mkdir()
        random = np.random.default_rng(0)
        for part, count in (("train", 20), ("t10k", 10)):
            images = random.integers(0, 255, (count, 28, 28)).astype("u1")
            labels = (np.arange(count) % 10).astype("u1")
            for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
                head = b"\0\0\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
                data = head + array.tobytes()
                (folder / "mnist" / f"{name}{ending}").write_bytes(gzip.compress(data) if ending else data)

    return make


def make_cifar(ending: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        random = np.random.default_rng(0)
        batch = b"".join(bytes([i % 10]) + random.integers(0, 255, 3072).astype("u1").tobytes() for i in range(12))
        pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}.get(ending)
        if pack is None:
            path = folder / "cifar10" / "cifar-10-binary.tar.gz"
            path.parent.mkdir()
            with tarfile.open(path, "w:gz") as archive:
                for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
                    info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                    info.size = len(batch)
                    archive.addfile(info, io.BytesIO(batch))
            return
        for name in ("data_batch_1.bin", "test_batch_first1000.bin"):
            path = folder / "cifar10_subset" / f"{name}{ending}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pack(batch))

    return make


def bases() -> dict[str, Callable[[Path], object]]:
    """Functions that fill an empty folder, by the name of the folder."""
    found: dict[str, Callable[[Path], object]] = {"run": make_run, "stream": make_stream, "cache": make_cache}
    found |= {target: make_export(target) for target in CHIPS}
    for suffix, seeds in event_files().items():
        for number, content in enumerate(seeds):
            found[f"events{suffix}{number}"] = make_events(suffix, content)
    found |= {"mnist": make_mnist(""), "mnist-gz": make_mnist(".gz")}
    found |= {
        f"cifar{name}": make_cifar(ending)
        for name, ending in (("", ""), ("-gz", ".gz"), ("-xz", ".xz"), ("-tar", ".tar.gz"))
    }
    return found
