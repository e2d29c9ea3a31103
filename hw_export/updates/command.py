"""``hw-export updates``: record, inspect and replay streams of updates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hw_export.updates.format import MAGIC, PREFIX
from hw_export.updates.online import OPTIONS, record_run
from hw_export.updates.replay import Summary, inspect, load_image, replay, save_image
from hw_export.updates.spi import SPI_TITLE, write_spi
from spikelfp.command import OK, GroupedCommand, new_app, options_from, print_json
from spikelfp.errors import UserError
from spikelfp.files import begins_with, check_replaceable
from spikelfp.terminal import Terminal, say

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""

FOREIGN = "no stream and no image"
"""Kind of a file that is not replaced, as in "is no …"."""

updates_app = new_app("Record training as a stream of changed integers, look into it, and bring it back.")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")]
Stream = Annotated[str, typer.Argument(metavar="FILE", help="stream of updates")]
Base = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="file of the base image", show_default="the one in the stream")
]


@updates_app.command("record", cls=GroupedCommand)
@options_from(OPTIONS)
def record_command(
    options: dict[str, Any],
    run: Annotated[str, typer.Argument(help="run folder of `spikelfp train`")],
    out: Annotated[str, typer.Option(metavar="FILE", help="stream to write")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the stream")] = False,
    as_json: Json = False,
) -> int:
    """Go on training a run online and write what changes in its integers; the run itself stays as it is."""
    check_replaceable(out, overwrite, begins=MAGIC + PREFIX, what=FOREIGN)
    done = record_run(run, out, overwrite=overwrite, **options)
    say(
        f"accuracy {done['accuracy_before']:.4f} before, {done['accuracy_after']:.4f} after {done['steps']} steps, "
        f"{done['accuracy_of_integers']:.4f} with the integers that were streamed"
    )
    each = 1e3 / done["steps"]
    say(
        f"a step: {done['seconds_training'] * each:.2f} ms of training, "
        f"{done['seconds_recording'] * each:.2f} ms of recording"
    )
    summary = inspect(out)
    _show(summary)
    say(f"stream: {out}")
    if as_json:
        print_json({**summary.as_dict(), **done})
    return OK


@updates_app.command("inspect")
def inspect_command(
    stream: Stream,
    base: Base = None,
    plot: Annotated[str | None, typer.Option(metavar="PNG", help="draw it over time, into this file")] = None,
    as_json: Json = False,
) -> int:
    """Show what a stream holds: density, bytes against dense images, weights at the ends of their grid."""
    if plot is not None and Path(plot).exists() and not begins_with(plot, PNG):
        raise UserError(f"{plot} is no PNG file, so it is not replaced: name another --plot")
    summary = inspect(stream, None if base is None else load_image(base))
    _show(summary)
    if plot is not None:
        from hw_export.updates.plot import save_plot  # matplotlib takes longer to import than most streams to read

        save_plot(summary, plot)
        say(f"plot: {plot}")
    if as_json:
        print_json({**summary.as_dict(), "stream": stream, "plot": plot})
    return OK


@updates_app.command("replay")
def replay_command(
    stream: Stream,
    out: Annotated[str, typer.Option(metavar="IMAGE", help="file to write the image to")],
    base: Base = None,
    upto: Annotated[int | None, typer.Option(help="step of training", show_default="the last one")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a stream that was cut or not closed")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the image")] = False,
    as_json: Json = False,
) -> int:
    """Write the integers of a step of training, or of the last, as an image."""
    read = [stream] if base is None else [stream, base]
    check_replaceable(out, overwrite, begins=MAGIC + PREFIX, what=FOREIGN, keep=read)
    image = replay(stream, None if base is None else load_image(base), upto, strict=strict)
    save_image(out, image)
    digest = image.digest().hex()
    for note in image.notes:
        say(f"note: {note}")
    say(f"image of step {image.step}, {image.nbytes:,} bytes, digest {digest[:16]}…: {out}")
    if as_json:
        print_json(
            {"out": out, "step": image.step, "bytes": image.nbytes, "digest": digest, "notes": list(image.notes)}
        )
    return OK


@updates_app.command("spi")
def spi_command(
    stream: Stream,
    out: Annotated[str, typer.Option(metavar="FILE", help="file to write the SPI writes to")],
    base: Base = None,
    whole: Annotated[bool, typer.Option("--image/--frames", help="begin with all weights of the base image")] = True,
    upto: Annotated[int | None, typer.Option(help="step of training", show_default="the last one")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a stream that was cut or not closed")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file of SPI writes")] = False,
    as_json: Json = False,
) -> int:
    """Write a stream as the SPI writes that bring its frames into a tinyODIN chip."""
    kept = [stream] if base is None else [stream, base]
    check_replaceable(out, overwrite, keep=kept, begins=SPI_TITLE.encode(), what="no file of SPI writes")
    done = write_spi(stream, out, None if base is None else load_image(base), upto, whole=whole, strict=strict)
    for note in done.notes:
        say(f"note: {note}")
    say(f"{done.frames} frames up to step {done.step}, {done.writes} weight writes in {done.openings} openings: {out}")
    if as_json:
        print_json({"out": out, **asdict(done)})
    return OK


def _show(summary: Summary) -> None:
    table = Table("parameter", "elements", "bits", "changes", "density", "at the ends", box=None, pad_edge=False)
    for p in summary.parameters:
        ends = "-" if p.saturated_last is None else f"{p.saturated_first} → {p.saturated_last}"
        table.add_row(p.name, str(p.elements), str(p.bits), str(p.changes), f"{p.density:.4%}", ends)
    Terminal().print(table)
    say(
        f"steps {summary.first_step} to {summary.first_step + summary.steps}, {summary.frames} frames of "
        f"{summary.mean_frame_bytes:,.0f} bytes on average; density {summary.density:.4%}, at most "
        f"{summary.largest_density:.4%}"
    )
    if summary.share_of_dense is not None:
        say(
            f"{summary.bytes:,} bytes, {summary.header_bytes:,} of them the header: {summary.share_of_dense:.3%} of "
            f"{summary.looks} dense images ({summary.dense_bytes:,} bytes)"
        )
    for note in summary.notes:
        say(f"note: {note}")
