"""Recording training as a stream of changed integers."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.updates.content import (
    Change,
    Decoder,
    Frame,
    Header,
    IntegerImage,
    Mark,
    Parameter,
    Plain,
    encode_frame,
    encode_header,
    encode_mark,
    read_events,
)
from hw_export.updates.format import MAGIC, Link, write_record
from hw_export.updates.quantized import grids_of
from hw_export.updates.replay import apply, base_of
from spikelfp.errors import DataError, NonFiniteError, SaveError, ShapeError, UserError
from spikelfp.files import check_replaceable, write_whole
from spikelfp.quantized import Grid


class UpdateRecorder:
    """Writes a frame to the stream ``path`` whenever a step of training has changed an integer of ``net``.

    ::

        with UpdateRecorder(net, "updates.cbor") as recorder:
            trainer.fit(digits.train, epochs=1, after_step=recorder.after_step)

    or :meth:`step` behind every step of an optimiser. The integers are those of ``grids``, by default of
    :func:`grids_of` with ``bits``, ``clip``, ``headroom`` and ``input_scale``; they are chosen once, from the weights
    the recorder finds, so wake silent layers before. A frame has only what changed since the frame before, as whole new
    values; a step that changes no integer writes nothing.

    every: look at the weights after every so many steps only. embed: keep the base image in the stream; without it,
    :attr:`base` must reach the receiver by another way. about: names and plain values for the header. durable: bring
    every frame to disk, not only to the system. An existing ``path`` is refused unless ``overwrite``, or ``resume``:
    then the recording goes on with the grids and the ``every`` of the stream, if the live weights have the integers it
    ends with; what a crash left of its last frame is removed. base: for a stream to be resumed that has none itself.

    steps: since the base image, whatever the trainer counts. frames, bytes: written so far, the header aside. base: the
    image it began with. Leaving the ``with`` block writes a last frame and a mark with the digest of the image; leaving
    it by an exception does not, so that the stream says it was cut.

    Raises :class:`~spikelfp.errors.UserError` for what cannot be recorded, :class:`~spikelfp.errors.SaveError` when the
    file cannot be written, and :class:`~spikelfp.errors.NonFiniteError` at the first NaN or infinity.
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
        if every < 1:
            raise UserError(f"every is a number of steps of at least 1, got {every}")
        if resume and overwrite:
            raise UserError("resume and overwrite exclude each other")
        self.net, self.path, self.every = net, Path(path), every
        self.frames, self.bytes = 0, 0
        if resume:
            self._file = self._resume(base, durable)
        else:
            if os.path.lexists(self.path):
                if not overwrite:
                    raise UserError(f"{path} exists already: overwrite it, go on with it (resume), or name another")
                check_replaceable(self.path, True, begins=MAGIC, what="no stream")
            if grids is None:
                grids = grids_of(net, bits, clip, headroom=headroom, input_scale=input_scale)
            self.base = IntegerImage.of(net, grids)
            header = Header(
                self.base.parameters, 0, every, self.base.digest(), self.base if embed else None, dict(about or {})
            )
            self._file = StreamFile.create(self.path, encode_header(header), durable=durable)
        self.steps, self._looked = self.base.step, self.base.step
        device = next(net.parameters()).device
        self._live = [LiveParameter(p, self.base.arrays[p.name], device) for p in self.base.parameters]

    def step(self) -> Frame | None:
        """To be called after every step; the frame it wrote, ``None`` if it was not due or nothing had changed."""
        if self._file.closed:
            raise UserError(f"the recording of {self.path} is closed: make another recorder, with resume=True to go on")
        self.steps += 1
        return self._look() if self.steps % self.every == 0 else None

    def after_step(self, position: object = None) -> None:
        """:meth:`step`, for ``trainer.fit(…, after_step=recorder.after_step)``."""
        self.step()

    def image(self) -> IntegerImage:
        """The integers as last recorded."""
        arrays = {live.parameter.name: live.image().copy() for live in self._live}
        return IntegerImage(self.base.parameters, arrays, self._looked)

    def close(self) -> None:
        """Record what changed since the last look, write a mark, and close the file."""
        if self._file.closed:
            return
        try:
            self._look()
            self.bytes += self._file.append(encode_mark(Mark(self._looked, self.image().digest())))
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

    def _look(self) -> Frame | None:
        if self.steps == self._looked:
            return None
        live = dict(self.net.named_parameters())
        found = [(entry, entry.change(live[entry.parameter.name], self.steps)) for entry in self._live]
        changed = [(entry, change) for entry, change in found if change is not None]
        if not changed:
            self._looked = self.steps
            return None
        frame = Frame(self.steps, tuple(change for _, change in changed), self._file.link.sequence)
        size = self._file.append(encode_frame(frame, self.base.parameters))
        for entry, _ in changed:
            entry.keep()
        self._looked = self.steps
        self.frames, self.bytes = self.frames + 1, self.bytes + size
        return replace(frame, size=size)

    def _resume(self, base: IntegerImage | None, durable: bool) -> StreamFile:
        """Bring :attr:`base` to the end of the stream, and open it behind its last whole record."""
        decoder = Decoder(str(self.path))
        image: IntegerImage | None = None
        for event in read_events(self.path, decoder):
            if isinstance(event, Header):
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


_WORD = 8
"""Bytes of an int64."""


class LiveParameter:
    """One parameter in training, and the integers that were recorded of it.

    Buffers are made once: on a small network, making them takes longer than filling them.
    """

    def __init__(self, parameter: Parameter, integers: NDArray[np.generic], device: torch.device) -> None:
        self.parameter = parameter
        self.integers = torch.from_numpy(np.array(integers)).to(device)
        self.rounded = torch.empty_like(self.integers)
        self.differs = torch.zeros(-(-parameter.size // _WORD) * _WORD, dtype=torch.bool, device=device)
        self.scaled = torch.empty(0)

    @torch.no_grad()
    def change(self, live: Tensor, step: int) -> Change | None:
        """What differs from :attr:`integers`; ``None`` where nothing does. :meth:`keep` makes it their new state.

        The integers are ``grid.to_integers(live)``, the same operations into buffers of their own. Raises
        :class:`~spikelfp.errors.NonFiniteError` for NaN or infinity.
        """
        p = self.parameter
        if tuple(live.shape) != p.shape:
            raise ShapeError(f"{p.name} has shape {tuple(live.shape)}, the recording began with {p.shape}")
        if not math.isfinite(live.sum(dtype=None if live.dtype == torch.float64 else torch.float32).item()):
            raise NonFiniteError(f"{p.name} holds NaN or infinity after step {step}: this step is not recorded")
        self._move(live)
        scale = p.grid.scale.to(live) if isinstance(p.grid.scale, Tensor) else p.grid.scale
        torch.div(live, scale, out=self.scaled).round_().clamp_(p.grid.low, p.grid.high)
        self.rounded.copy_(self.scaled)
        torch.ne(self.rounded.view(-1), self.integers.view(-1), out=self.differs[: p.size])
        indices = _places(self.differs)
        if not len(indices):
            return None
        values = self.rounded.view(-1)[indices]
        return Change(p.name, indices.cpu().numpy(), values.to("cpu", torch.int32).numpy())

    def keep(self) -> None:
        """The last :meth:`change` is recorded: what comes next is compared with it."""
        self.integers, self.rounded = self.rounded, self.integers

    def image(self) -> NDArray[np.generic]:
        """The integers as recorded."""
        return self.integers.cpu().numpy()

    def _move(self, live: Tensor) -> None:
        """Buffers for a parameter on this device and of this type."""
        if self.integers.device != live.device:
            self.integers, self.rounded = self.integers.to(live.device), self.rounded.to(live.device)
            self.differs = self.differs.to(live.device)
        if self.scaled.shape != live.shape or self.scaled.dtype != live.dtype or self.scaled.device != live.device:
            self.scaled = torch.empty_like(live, memory_format=torch.contiguous_format)


def _places(differs: Tensor) -> Tensor:
    """Where the bytes ``differs`` are true, rising, int64; eight are looked at in one go, as most are false."""
    words = differs.view(torch.int64).nonzero()
    candidates = (words * _WORD + torch.arange(_WORD, device=differs.device)).flatten()
    return candidates[differs[candidates]]


class StreamFile:
    """Appends records to a file, each by one write that the system has when it returns.

    A program that is killed leaves the record it was writing cut off and all earlier ones whole; ``durable`` has every
    record brought to disk, which a machine that loses power needs. A write that fails is taken back. The file is locked
    while it is open: a second writer is refused, a reader is not.
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
        """Make a new file with its first record, which is there whole or not at all.

        Raises:
            UserError: for a file there that is being written.
        """
        data, link = write_record(body, Link())
        with ExitStack() as held:
            with suppress(OSError):  # there is none, or writing will tell why
                before = held.enter_context(open(path, "rb"))
                _lock(before, Path(path))
            write_whole(path, lambda file: file.write(data))
        return StreamFile(path, link, durable=durable)

    def append(self, body: bytes) -> int:
        """Write the next record; returns its size in bytes."""
        data, link = write_record(body, self.link)
        try:
            self._to_end()
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if self.durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # where even this fails, readers tell a cut record from a whole one
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
        """Behind the last whole record; what a failed write left there is removed."""
        if self._file.seek(0, os.SEEK_END) != self.link.offset:
            self._file.truncate(self.link.offset)
            self._file.seek(self.link.offset)


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock an open file until it is closed; where there are no locks, go on without.

    Raises:
        UserError: for one that is locked.
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
