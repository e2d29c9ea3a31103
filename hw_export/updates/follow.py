"""A stream written into a running target while it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hw_export.updates.content import Change, Frame, Header, changes_of
from hw_export.updates.decoder import Decoder, read_events
from hw_export.updates.image import IntegerImage, Parameter
from hw_export.updates.replay import base_of
from spikelfp.errors import UserError


class Target(Protocol):
    """What holds integers and takes new ones: a simulator, a chip, an :class:`~hw_export.updates.IntegerImage`."""

    def write(self, parameter: str, indices: NDArray[np.int64], values: NDArray[np.int32]) -> object:
        """Set elements of ``parameter``, counted in row-major order, to ``values``."""


@runtime_checkable
class FrameTarget(Protocol):
    """A target of whole frames, like a chip that must be stopped for each (:class:`~hw_export.updates.SpiWriter`)."""

    def begin(self, parameters: Sequence[Parameter]) -> object:
        """Get ready for frames of these parameters; called once, when the header of the stream was read."""

    def write_frame(self, step: int, changes: Sequence[Change]) -> object:
        """Set the elements of ``changes``, those of ``step``: of all parameters the base image, then frame by frame."""


class Follower:
    """Brings ``target`` up to the end of the stream file ``path``, again and again.

    The base image, the stream's or the one handed in, is written first, all of it; ``write_base=False`` leaves it out,
    for a target that holds it already. A frame is written when all of it is there and its checks have passed; one that
    is half written yet, and a file that does not exist yet, are waited for.

    step: of what the target holds. closed: whether the recording has ended there.
    """

    def __init__(
        self,
        path: str | Path,
        target: Target | FrameTarget,
        *,
        base: IntegerImage | None = None,
        write_base: bool = True,
    ) -> None:
        self.path, self.target, self.base, self.write_base = Path(path), target, base, write_base
        self._decoder = Decoder(str(path))

    @property
    def step(self) -> int:
        return self._decoder.step

    @property
    def closed(self) -> bool:
        return self._decoder.closed

    def poll(self) -> Iterator[Frame]:
        """The frames that arrived since, each when the target has it; raises what :func:`replay` would."""
        if self._decoder.header is None and not self.path.exists():
            return
        for event in read_events(self.path, self._decoder):
            if isinstance(event, Header):
                self._begin(event)
            elif isinstance(event, Frame):
                self._write(event.step, event.changes)
                yield event

    def _begin(self, header: Header) -> None:
        if isinstance(self.target, FrameTarget):
            self.target.begin(header.parameters)
        if not self.write_base and self.base is None:
            return
        image = base_of(header, self.base, str(self.path))
        if self.write_base:
            self._write(image.step, changes_of(image))

    def _write(self, step: int, changes: Sequence[Change]) -> None:
        if isinstance(self.target, FrameTarget):
            self.target.write_frame(step, changes)
            return
        for change in changes:
            self.target.write(change.parameter, change.indices, change.values)


def follow(
    path: str | Path,
    target: Target | FrameTarget,
    *,
    base: IntegerImage | None = None,
    write_base: bool = True,
    interval: float = 0.05,
    patience: float | None = None,
) -> Iterator[Frame]:
    """Write the frames of ``path`` into ``target`` as they are appended; gives each frame when the target has it.

    Ends when the recording is closed, or when nothing has come for ``patience`` seconds (``None``: waits for ever). The
    file is looked at every ``interval`` seconds. The other arguments are those of :class:`Follower`.
    """
    if interval <= 0 or (patience is not None and patience < 0):
        raise UserError(f"interval must be above 0 and patience at least 0 seconds, got {interval} and {patience}")
    follower = Follower(path, target, base=base, write_base=write_base)
    last = time.monotonic()
    while True:
        for frame in follower.poll():
            yield frame
            last = time.monotonic()
        if follower.closed or (patience is not None and time.monotonic() - last >= patience):
            return
        time.sleep(interval)
