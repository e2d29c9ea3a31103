"""Recorder of training: finds the integers that a step changed and appends them to a stream.

docs/update-stream.md specifies the format of the stream.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.updates.content import (
    Change,
    Decoder,
    Frame,
    IntegerImage,
    Mark,
    Parameter,
    Plain,
    StreamHeader,
    check_image,
    encode_frame,
    encode_header,
    encode_mark,
    read_events,
)
from hw_export.updates.format import MAGIC, Link, write_record
from hw_export.updates.quantized import grids_of
from hw_export.updates.replay import apply, base_of
from spikelfp import checks
from spikelfp.errors import DataError, NonFiniteError, SaveError, ShapeError, UserError
from spikelfp.files import check_replaceable, write_whole
from spikelfp.functional.grid import check_bits
from spikelfp.quantized import Grid
from spikelfp.terminal import brief


class UpdateRecorder:
    """Records training as a stream: a frame for each step that changes an integer of the network.

    ::

        with UpdateRecorder(net, "updates.cbor") as recorder:
            trainer.fit(digits.train, epochs=1, after_step=recorder.after_step)

    In a loop of your own call :meth:`step` after every step of the optimiser. A weight ``w`` has the integer
    ``round(w / scale)``, limited to its grid. The grids are chosen once, from the weights that the recorder finds: wake
    silent layers before. A frame holds the elements that changed since the frame before, as whole new values. A step
    that changes no integer writes nothing.

    Leaving the ``with`` block writes a last frame, and a mark with the digest of the image. Leaving it by an exception
    does not, so that readers know that the stream was cut.

    Args:
        net: network in training.
        path: stream to write. A file that exists is refused unless ``overwrite`` or ``resume`` is set.
        bits: of a weight, for :func:`grids_of`.
        grids: by name of the parameter; by default those of :func:`grids_of` with ``bits``, ``clip``, ``headroom`` and
            ``input_scale``.
        every: steps of training between two comparisons of the weights.
        clip: how scales are chosen, for :func:`grids_of`.
        headroom: factor on the scales, for :func:`grids_of`.
        input_scale: steps of the receiver's inputs to 1, for :func:`grids_of`.
        embed: keep the base image in the stream. Without it the receiver must get :attr:`base` by another way.
        about: names and plain values for the header, for people.
        durable: bring every frame to disk, not only to the operating system.
        overwrite: replace a stream.
        resume: go on with the stream at ``path``, with its grids and its ``every``, if the network has the integers
            with which it ends. A last frame that a crash cut off is removed.
        base: base image of a stream to be resumed that does not hold it.

    Attributes:
        net: as given.
        path: of the stream.
        every: as given, or of the stream that is resumed.
        steps: steps of training since the base image.
        frames: number of frames written by this recorder.
        bytes: bytes written by this recorder, without the header.
        base: image with which the recording began.

    Raises:
        UserError: for options that exclude each other or that a resumed stream contradicts, a file that exists, a
            network that cannot be quantised, and a stream to be resumed that ends with other weights.
        DataError: for a damaged stream to be resumed.
        SaveError: when the file cannot be written.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        path: str | Path,
        *,
        bits: int | None = None,
        grids: Mapping[str, Grid] | None = None,
        every: int = 1,
        clip: str = "mse",
        headroom: float = 1.0,
        input_scale: int | None = None,
        embed: bool = True,
        about: Mapping[str, Plain] | None = None,
        durable: bool = False,
        overwrite: bool = False,
        resume: bool = False,
        base: IntegerImage | None = None,
    ) -> None:
        checks.graph_of(net)
        every = checks.whole("every, a number of steps,", every, 1)
        if base is not None:
            check_image("base", base)
        check_about(about)
        for name, grid in {} if grids is None else _mapping("grids", grids).items():
            if not isinstance(grid, Grid):
                raise UserError(f"grids are Grid objects by name of the parameter, {name!r} is {brief(grid)}")
        for name, value in (("embed", embed), ("durable", durable), ("overwrite", overwrite), ("resume", resume)):
            checks.truth(name, value)
        if resume and overwrite:
            raise UserError("resume and overwrite exclude each other")
        if base is not None and not resume:
            raise UserError("base is the image from which a stream began that is resumed: leave it out, or set resume")
        chosen = {
            "bits": bits is None,
            "clip": clip == "mse",
            "headroom": headroom == 1,
            "input_scale": input_scale is None,
        }
        if grids is not None and not all(chosen.values()):
            name = next(name for name, absent in chosen.items() if not absent)
            raise UserError(f"the grids are given, so that {name} has no effect: leave one of the two out")
        self.net, self.path, self.every = net, checks.path("path", path), every
        self.frames, self.bytes = 0, 0
        if resume:
            self._file = self._resume(base, durable)
            self._check_resumed(bits, grids, every)
        else:
            if os.path.lexists(self.path):
                if not overwrite:
                    raise UserError(f"{path} exists already: overwrite it, go on with it (resume), or name another")
                check_replaceable(self.path, True, begins=MAGIC, what="no stream")
            if grids is None:
                grids = grids_of(net, bits, clip, headroom=headroom, input_scale=input_scale)
            self.base = IntegerImage.of(net, grids)
            header = StreamHeader(
                self.base.parameters, 0, every, self.base.digest(), self.base if embed else None, dict(about or {})
            )
            self._file = StreamFile.create(self.path, encode_header(header), durable=durable)
        self.steps, self._compared = self.base.step, self.base.step
        device = next(net.parameters()).device
        self._live = [LiveParameter(p, self.base.arrays[p.name], device) for p in self.base.parameters]

    def _check_resumed(self, bits: int | None, grids: Mapping[str, Grid] | None, every: int) -> None:
        """Refuse options that the stream that is resumed contradicts.

        Raises:
            UserError: naming the option, its value and that of the stream.
        """
        own = self.base.grids
        tops = {grid.high for name, grid in own.items() if name.endswith(".weight")}
        found: list[tuple[str, object, object]] = []
        if every not in (1, self.every):
            found.append(("every", every, self.every))
        if bits is not None and tops != {2 ** (check_bits(bits) - 1) - 1}:
            found.append(("bits", bits, ", ".join(str(top.bit_length() + 1) for top in sorted(tops))))
        for name, grid in (grids or {}).items():
            if name not in own or not _equal(grid, own[name]):
                found.append((f"for {name}", "the grid that is given", "a grid of its own"))
        if found:
            self._file.close()
            name, value, stated = found[0]
            raise UserError(f"{self.path}, which is resumed, has {name} {stated}, not {value}: leave that out")

    def step(self) -> Frame | None:
        """Count a step of training and record what it changed; to be called after every step.

        Returns:
            The frame that was written; ``None`` where nothing changed, or no comparison is due.

        Raises:
            UserError: after the recorder was closed.
            NonFiniteError: for NaN or infinity in a parameter.
            ShapeError: for a parameter whose shape has changed.
            SaveError: when the file cannot be written.
        """
        if self._file.closed:
            raise UserError(f"the recording of {self.path} is closed: make another recorder, with resume=True to go on")
        self.steps += 1
        return self._record() if self.steps % self.every == 0 else None

    def after_step(self, position: object = None) -> None:
        """Call :meth:`step`, for ``trainer.fit(…, after_step=recorder.after_step)``."""
        self.step()

    def image(self) -> IntegerImage:
        """Return a copy of the integers as last recorded."""
        arrays = {live.parameter.name: live.image().copy() for live in self._live}
        return IntegerImage(self.base.parameters, arrays, self._compared)

    def close(self) -> None:
        """Record what changed since the last comparison, write a mark, and close the file."""
        if self._file.closed:
            return
        try:
            self._record()
            self.bytes += self._file.append(encode_mark(Mark(self._compared, self.image().digest())))
        finally:
            self._file.close()

    def __enter__(self) -> UpdateRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()

    def _record(self) -> Frame | None:
        if self.steps == self._compared:
            return None
        live = dict(self.net.named_parameters())
        for entry in self._live:
            if entry.parameter.name not in live:
                raise UserError(
                    f"the network had the parameter {entry.parameter.name} when the recording began and has it no more "
                    "(pruning and weight normalisation rename it): change layers before a recording"
                )
        found = [(entry, entry.change(live[entry.parameter.name], self.steps)) for entry in self._live]
        changed = [(entry, change) for entry, change in found if change is not None]
        if not changed:
            self._compared = self.steps
            return None
        frame = Frame(self.steps, tuple(change for _, change in changed), self._file.link.sequence)
        size = self._file.append(encode_frame(frame, self.base.parameters))
        for entry, _ in changed:
            entry.keep()
        self._compared = self.steps
        self.frames, self.bytes = self.frames + 1, self.bytes + size
        return replace(frame, size=size)

    def _resume(self, base: IntegerImage | None, durable: bool) -> StreamFile:
        """Bring :attr:`base` to the end of the stream, and open the file after its last whole record."""
        decoder = Decoder(str(self.path))
        image: IntegerImage | None = None
        for event in read_events(self.path, decoder):
            if isinstance(event, StreamHeader):
                self.every = event.every
                image = base_of(event, base, decoder.name)
            elif image is not None:
                apply(image, event, decoder.name)
        if image is None:
            raise DataError(f"{self.path} ends inside its header: there is nothing to go on from")
        live = IntegerImage.of(self.net, image.grids)
        if live.digest() != image.digest():
            raise UserError(
                f"{self.path} ends at step {image.step} with other weights than the network has: load those it ended "
                "with, or begin another stream"
            )
        self.base = image
        return StreamFile(self.path, decoder.link, durable=durable)


def _mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{name} are values by name, in a dictionary, got {brief(value)}")
    return value


def check_about(about: Any) -> None:
    """Refuse notes that no header of a stream holds.

    Raises:
        UserError: for what is no dictionary of texts, finite numbers, truth values and ``None`` by name.
    """
    for name, value in {} if about is None else _mapping("about", about).items():
        if not isinstance(name, str) or not isinstance(value, Plain):
            raise UserError(f"about holds texts, numbers and truth values by name, got {brief(name)}: {brief(value)}")


def _equal(one: Grid, other: Grid) -> bool:
    scales = [torch.as_tensor(grid.scale, dtype=torch.float64).flatten() for grid in (one, other)]
    return (one.low, one.high) == (other.low, other.high) and torch.equal(*scales)


_WORD = 8
"""Bytes of an int64."""


class LiveParameter:
    """Parameter in training with the integers that were recorded last.

    Its buffers are made once, because making them takes longer than filling them on a small network.

    Args:
        parameter: name, shape and grid.
        integers: integers that were recorded last, of the parameter's shape.
        device: of the live parameter.
    """

    def __init__(self, parameter: Parameter, integers: NDArray[np.generic], device: torch.device) -> None:
        self.parameter = parameter
        self.integers = torch.from_numpy(np.array(integers)).to(device)
        self.rounded = torch.empty_like(self.integers)
        self.differs = torch.zeros(-(-parameter.size // _WORD) * _WORD, dtype=torch.bool, device=device)
        self.scaled = torch.empty(0)

    @torch.no_grad()
    def change(self, live: Tensor, step: int) -> Change | None:
        """Find the elements whose integers differ from the recorded ones; :meth:`keep` then takes them over.

        The integers are those of ``grid.to_integers(live)``, computed by the same operations into the buffers.

        Args:
            live: parameter of the network.
            step: steps of training, for errors.

        Returns:
            The new values, ``None`` where nothing differs.

        Raises:
            ShapeError: for another shape than the recording began with.
            NonFiniteError: for NaN and infinity.
        """
        p = self.parameter
        if tuple(live.shape) != p.shape:
            raise ShapeError(f"{p.name} has shape {tuple(live.shape)}, the recording began with {p.shape}")
        if not math.isfinite(live.sum(dtype=None if live.dtype == torch.float64 else torch.float32).item()):
            raise NonFiniteError(f"{p.name} holds NaN or infinity after step {step}: this step is not recorded")
        if self.integers.device != live.device:
            self.integers, self.rounded = self.integers.to(live.device), self.rounded.to(live.device)
            self.differs = self.differs.to(live.device)
        if live.dtype in (torch.float16, torch.bfloat16):
            live = live.float()  # as the grid does: integers beyond 2^11 or 2^8 do not fit into such floats
        if self.scaled.shape != live.shape or self.scaled.dtype != live.dtype or self.scaled.device != live.device:
            self.scaled = torch.empty_like(live, memory_format=torch.contiguous_format)
        scale = p.grid.scale.to(live) if isinstance(p.grid.scale, Tensor) else p.grid.scale
        torch.div(live, scale, out=self.scaled).round_().clamp_(p.grid.low, p.grid.high)
        self.rounded.copy_(self.scaled)
        torch.ne(self.rounded.view(-1), self.integers.view(-1), out=self.differs[: p.size])
        any_true = self.differs.view(torch.int64).nonzero()
        candidates = (any_true * _WORD + torch.arange(_WORD, device=self.differs.device)).flatten()
        indices = candidates[self.differs[candidates]]
        if not len(indices):
            return None
        values = self.rounded.view(-1)[indices]
        return Change(p.name, indices.cpu().numpy(), values.to("cpu", torch.int32).numpy())

    def keep(self) -> None:
        """Take over the integers of the last :meth:`change` as recorded."""
        self.integers, self.rounded = self.rounded, self.integers

    def image(self) -> NDArray[np.generic]:
        """Return the recorded integers; on the CPU they share their memory."""
        return self.integers.cpu().numpy()


class StreamFile:
    """Stream file that grows by whole records.

    When :meth:`append` returns, the operating system has the record. A program that is killed leaves the record that it
    was writing cut off, and all earlier ones whole. A write that fails is taken back. The file is locked while it is
    open: a second writer is refused, a reader is not.

    Args:
        path: file that exists.
        link: place after its last whole record; what follows there is removed.
        durable: bring every record to disk, which also protects it from a loss of power.

    Raises:
        UserError: for a file that is being written.
        SaveError: for a file that cannot be written.
    """

    def __init__(self, path: str | Path, link: Link, *, durable: bool = False) -> None:
        self.path, self.link, self.durable = Path(path), link, durable
        try:
            self._file = open(self.path, "r+b", buffering=0)  # noqa: SIM115  (closed by close)
            _lock(self._file, self.path)
            if self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                raise _in_use(self.path)  # another writer has just replaced it
            self._to_end()
        except OSError as error:
            raise SaveError(f"cannot write {self.path}: {error.strerror or error}") from error

    @property
    def closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._file.closed

    @staticmethod
    def create(path: str | Path, body: bytes, *, durable: bool = False) -> StreamFile:
        """Make a new file with its first record, whole or not at all; a file that is there is replaced.

        Args:
            path: of the file.
            body: of the first record.
            durable: as above.

        Raises:
            UserError: for a file there that is being written.
            SaveError: when the file cannot be written.
        """
        data, link = write_record(body, Link())
        with ExitStack() as held:
            with suppress(OSError):  # there is no file, or write_whole says why it cannot be opened
                before = held.enter_context(open(path, "rb"))
                _lock(before, Path(path))
            write_whole(path, lambda file: file.write(data))
        return StreamFile(path, link, durable=durable)

    def append(self, body: bytes) -> int:
        """Write the next record.

        Returns:
            Its size in bytes.

        Raises:
            SaveError: when it cannot be written; the records before are unchanged.
        """
        data, link = write_record(body, self.link)
        try:
            self._to_end()
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if self.durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # readers can tell a cut record from a whole one
                self._to_end()
            raise SaveError(
                f"cannot write {self.path}: {error.strerror or error}; the frames before are unchanged"
            ) from error
        self.link = link
        return len(data)

    def close(self) -> None:
        """Bring the file to disk and close it."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SaveError(f"cannot write {self.path}: {error.strerror or error}") from error
        finally:
            self._file.close()

    def _to_end(self) -> None:
        """Move to the end of the last whole record and remove what a failed write left after it."""
        if self._file.seek(0, os.SEEK_END) != self.link.offset:
            self._file.truncate(self.link.offset)
            self._file.seek(self.link.offset)


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock an open file until it is closed; go on without a lock on file systems that have none.

    flock rather than filelock, which locks another file beside the one that is written.

    Raises:
        UserError: for a file that is locked.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise _in_use(path) from None
    except OSError:
        pass


def _in_use(path: Path) -> UserError:
    return UserError(f"{path} is being written by another recorder: wait until that is closed, or name another file")
