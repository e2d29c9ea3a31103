"""An image in a file: a stream that has a header with its base image, and no frames."""

from __future__ import annotations

from pathlib import Path

from hw_export.updates.content import Header, encode_header
from hw_export.updates.decoder import Decoder, left_over, read_events
from hw_export.updates.framing import Link, write_record
from hw_export.updates.image import IntegerImage
from spikelfp.errors import DataError
from spikelfp.files import write_whole


def save_image(path: str | Path, image: IntegerImage) -> None:
    """Write ``image`` to ``path``, whole or not at all."""
    data, _ = write_record(encode_header(Header(image.parameters, image.step, 1, image.digest(), image)), Link())
    write_whole(path, lambda file: file.write(data))


def load_image(path: str | Path) -> IntegerImage:
    """The image of a file of :func:`save_image`.

    Raises :class:`~spikelfp.errors.DataError` for a file that is missing, cut or damaged, and for a stream with frames.
    """
    decoder = Decoder(str(path))
    events = list(read_events(path, decoder))
    if not events or left_over(path, decoder):
        raise DataError(f"{path} is cut off: it holds no whole image")
    header = events[0]
    assert isinstance(header, Header)
    if len(events) > 1:
        raise DataError(f"{path} is a stream with frames, no image: make one of it with `hw-export updates replay`")
    if header.base is None:
        raise DataError(f"{path} holds no image, only its digest")
    return header.base
