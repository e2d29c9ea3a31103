"""From a stream back to the integers of any step."""

from __future__ import annotations

from hw_export.updates.content import Frame, Header, Mark
from hw_export.updates.decoder import Decoder, Stream, left_over, name_of, read_events
from hw_export.updates.image import IntegerImage
from spikelfp.errors import DataError, UserError


def replay(
    stream: Stream, base: IntegerImage | None = None, upto: int | None = None, *, strict: bool = False
) -> IntegerImage:
    """The image after step ``upto`` (default: at the end), by writing the frames over the base image.

    It is bit for bit what rounding the live weights at that step gives, for every step the recording looked at; between
    two of these, the image of the earlier. ``step`` of the result says which step it is of.

    base: where the stream does not hold its own; the one it was recorded from, which its digest tells.
    A stream whose last frame was cut off, or that was not closed, gives the image up to there, with a note in ``notes``
    (``strict``: an error).

    Raises :class:`~spikelfp.errors.DataError` for another base image, a damaged, repeated, misplaced or missing frame,
    an unknown version, or bytes that are no frame, and :class:`~spikelfp.errors.UserError` for a step that the stream
    does not reach, or no base image.
    """
    decoder = Decoder(name_of(stream))
    image: IntegerImage | None = None
    for event in read_events(stream, decoder):
        if isinstance(event, Header):
            image = base_of(event, base, decoder.name)
            if upto is not None and upto < event.step:
                raise UserError(f"{decoder.name} begins at step {event.step}: there is no step {upto} in it")
        elif image is not None:
            if upto is not None and event.step > upto:
                return image
            apply(image, event, decoder.name)
    notes = tail_notes(stream, decoder)
    if image is None or (strict and notes):
        raise DataError(f"{decoder.name}: {notes[0]}")
    if upto is not None and upto > decoder.step:
        raise UserError(f"{decoder.name} ends at step {decoder.step}: there is no step {upto} in it")
    image.notes = notes
    return image


def base_of(header: Header, given: IntegerImage | None, name: str) -> IntegerImage:
    """A copy of the base image, the one handed in or the stream's own; an error if it is not the one recorded from."""
    if given is not None:
        if given.digest() != header.digest:
            raise DataError(
                f"{name} was recorded from another base image: it wants {header.digest.hex()[:12]}…, "
                f"this one is {given.digest().hex()[:12]}…"
            )
        return given.copy().at(header.step)
    if header.base is None:
        raise UserError(f"{name} does not hold its base image: hand in the one it was recorded from")
    return header.base.copy()


def apply(image: IntegerImage, event: Frame | Mark | Header, name: str = "the stream") -> None:
    """Write a frame over ``image``; a mark is compared with it."""
    if isinstance(event, Frame):
        for change in event.changes:
            image.write(change.parameter, change.indices, change.values)
        image.step = event.step
    elif isinstance(event, Mark):
        if image.digest() != event.digest:
            raise DataError(f"{name}: the image at step {event.step} does not have the digest that was recorded")
        image.step = event.step


def tail_notes(stream: Stream, decoder: Decoder) -> tuple[str, ...]:
    """What is to be said about the end of a stream that was read as far as it goes."""
    rest = left_over(stream, decoder)
    if decoder.header is None:
        return (f"it ends inside its header, after {rest} bytes: nothing can be restored",)
    notes = []
    if rest:
        notes.append(
            f"it ends inside a frame: the last {rest} bytes are lost, and what came after step {decoder.step} with them"
        )
    elif not decoder.closed:
        notes.append(f"it was not closed: frames after step {decoder.step} may be missing")
    return tuple(notes)
