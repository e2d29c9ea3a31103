"""Recording training as a stream of changed integers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import torch

from hw_export.updates.appending import StreamFile
from hw_export.updates.content import (
    Frame,
    Header,
    Mark,
    Plain,
    encode_frame,
    encode_header,
    encode_mark,
)
from hw_export.updates.decoder import Decoder, read_events
from hw_export.updates.framing import MAGIC
from hw_export.updates.grids import grids_of
from hw_export.updates.image import IntegerImage
from hw_export.updates.live import LiveParameter
from hw_export.updates.replay import apply, base_of
from spikelfp.errors import DataError, UserError
from spikelfp.files import check_replaceable
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
