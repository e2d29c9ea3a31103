"""The command ``spikelfp data``: what there is, what a recording looks like, and the cache of binned recordings."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from spikelfp.command import OK, new_app, print_json
from spikelfp.data.events import EventSplits, load_recordings
from spikelfp.data.events.binning import USUAL
from spikelfp.data.events.cache import CacheEntry, cache_folder, clear_caches, limit_bytes, list_caches
from spikelfp.data.events.readers import can_read
from spikelfp.data.events.show import overview, overview_text
from spikelfp.data.load import check_data_name, is_event_data
from spikelfp.errors import DataError, UserError
from spikelfp.report import show_file, show_recording
from spikelfp.terminal import Terminal, say
from spikelfp.training.config import RunConfig
from spikelfp.training.run import pipeline_of

app = new_app("Look at recordings of events, and at the cache of binned ones.")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="folder of the data sets", show_default="$SPIKELFP_DATA")
]
CacheDir = Annotated[
    str | None, typer.Option("--cache-dir", help="folder of binned recordings", show_default="$SPIKELFP_CACHE")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave out files that cannot be read, and list them")]
Steps = Annotated[int | None, typer.Option(help="steps of the sequence", show_default="the data set's")]
Window = Annotated[float | None, typer.Option(help="ms of a step", show_default="the data set's")]
Transforms = Annotated[
    str | None, typer.Option(help="what is done to events, such as denoise=10000", show_default="the data set's")
]


@app.command("show")
def show_command(
    what: Annotated[str, typer.Argument(help="data set of events, folder:PATH, or the file of a recording")],
    out: Annotated[str, typer.Option(help="picture to write: .png, .gif (cameras) or .html")] = "recording.png",
    part: Annotated[str, typer.Option(help="train or test")] = "train",
    index: Annotated[int | None, typer.Option(help="number of the recording", show_default="the first")] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="first recording of that class", show_default="any")
    ] = None,
    steps: Steps = None,
    window: Window = None,
    transforms: Transforms = None,
    data_dir: DataDir = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> int:
    """Draw a recording: its events, their rate over time, and what a network gets to see of them."""
    wanted = RunConfig(data=f"folder:{what}", steps=steps, window=window, transforms=transforms)
    if Path(what).is_file():
        if index is not None or label is not None:
            raise UserError(f"{what} is one recording: --index and --class choose among those of a data set")
        show_file(what, out, pipeline=pipeline_of(wanted, USUAL))
    else:
        splits = _recordings(what, data_dir, skip_bad)
        pipeline = pipeline_of(wanted, splits.pipeline)
        show_recording(splits, out, part=part, index=index, label=label, pipeline=pipeline)
    say(out)
    if as_json:
        print_json({"picture": out, "of": what})
    return OK


@app.command("info")
def info_command(
    what: Annotated[str, typer.Argument(help="data set of events, or folder:PATH")],
    most: Annotated[int, typer.Option(help="read at most so many recordings")] = 200,
    data_dir: DataDir = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> int:
    """What is in a data set of events: its sensor, parts and classes, and how long its recordings are."""
    found = overview(_recordings(what, data_dir, skip_bad), most, skip_bad)
    say(*overview_text(found).split("\n"))
    if as_json:
        print_json(asdict(found))
    return OK


@app.command("cache")
def cache_command(
    entries: Annotated[
        list[str] | None, typer.Argument(help="with --clear: names of data sets, or keys", show_default="all")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="remove them")] = False,
    listed: Annotated[bool, typer.Option("--list", help="list them (also the default)")] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Binned recordings that are kept on disk: what is there, and removing it.

    The largest size of all together is $SPIKELFP_CACHE_LIMIT (20GB); what was used longest ago goes first.
    """
    if clear and listed:
        raise UserError("--list and --clear exclude each other")
    if entries and not clear:
        raise UserError(f"--clear removes {', '.join(entries)}; the list is of everything")
    folder, limit = cache_folder(cache_dir), limit_bytes()
    if clear:
        done = clear_caches(entries or None, folder)
        say(f"removed {len(done.removed)} from {folder}: {_size(done.bytes)}")
        for entry in done.in_use:
            say(f"in use, left there: {entry.name} {entry.key[:12]}")
        if as_json:
            print_json({"removed": len(done.removed), "bytes": done.bytes, "in_use": len(done.in_use)})
        return OK
    found = list_caches(folder)
    _show_entries(found, folder, limit)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "limit": limit,
                "entries": [
                    {"name": each.name, "key": each.key, "bytes": each.bytes, "used": each.used, **each.about}
                    for each in found
                ],
            }
        )
    return OK


def _recordings(what: str, data_dir: str | None, skip_bad: bool) -> EventSplits:
    """The data set of that name, or in the folder of that path."""
    name = f"folder:{what}" if Path(what).is_dir() else what
    if ":" not in name and (can_read(name) or os.sep in name):
        raise DataError(f"there is no file or folder {what}")
    check_data_name(name)
    if not is_event_data(name):
        raise UserError(f"{name} holds no recordings of events")
    return load_recordings(name, data_dir, skip_bad=skip_bad)


def _show_entries(entries: list[CacheEntry], folder: Path, limit: int) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "key", "recordings", "steps", "size", "last used"):
        table.add_column(column, justify="right" if column in ("recordings", "steps", "size") else "left")
    for entry in entries:
        about = entry.about
        steps = " to ".join(map(str, dict.fromkeys(about["steps"]))) if about else "damaged, or of another version"
        count = f"{about['recordings']:,}" if about else ""
        used = entry.used.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(entry.name, entry.key[:12], count, steps, _size(entry.bytes), used)
    if entries:
        Terminal().print(table)
    total = sum(entry.bytes for entry in entries)
    say(f"{len(entries)} in {folder}: {_size(total)} of at most {_size(limit)}")


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
