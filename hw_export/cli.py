"""The command ``hw-export``: exports of trained runs, checks in simulators, and streams of updates.

Each command imports what it runs inside its function: torch takes seconds to import, and ``--help`` does not need it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from spikelfp.command import FAILED, OK, GroupedCommand, new_app, options_from, path_given, print_json, run_app
from spikelfp.errors import SaveError, UserError
from spikelfp.terminal import Terminal, say

if TYPE_CHECKING:
    from hw_export.targets import Chip
    from hw_export.updates.replay import Summary
    from hw_export.verify import Result
    from spikelfp.configuration import Schema

app = new_app("Take trained spiking networks to other simulators and to chips.", "hw-export")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")]


updates_app = new_app("Record training as a stream of changed integers, look into it, and bring it back.")
app.add_typer(updates_app, name="updates")


@app.command("targets")
def targets_command(
    name: Annotated[str | None, typer.Argument(help="one target, with everything it can hold")] = None,
    as_json: Json = False,
) -> int:
    """List the targets of exports, and the simulators that can check them."""
    from hw_export.simulators import SIMULATORS
    from hw_export.targets import TARGETS, make_target

    targets = {each: make_target(each).describe() for each in (TARGETS if name is None else [name])}
    simulators = {each: SIMULATORS[each].version() for each in SIMULATORS}
    table = Table("target", "bits", "what it is", box=None, pad_edge=False)
    for each, target in targets.items():
        table.add_row(each, _widths(target["bits"]), target["summary"])
    console = Terminal()
    console.print(table)
    if name is not None:
        for title in ("limits", "sources"):
            for line in targets[name].get(title, ()):
                console.print(f"{title[:-1]}: {line}", soft_wrap=True)
        for option, text in targets[name]["options"].items():
            console.print(f"option: {option}: {text}", soft_wrap=True)
        if "energy" in targets[name]:
            console.print(f"energy: {_energy(targets[name]['energy'])}", soft_wrap=True)
    found = ", ".join(f"{each} {version or '(not installed)'}" for each, version in simulators.items())
    console.print(f"simulators for `hw-export verify`: {found}", soft_wrap=True)
    if as_json:
        print_json({"targets": targets, "simulators": simulators})
    return OK


EXAMPLES = """\b
Examples:
  hw-export build runs/mnist
  hw-export build runs/mnist --target xylo --input-scale 15
  hw-export build runs/mnist --plugin my_chip.py --target my-chip
"""


def _options() -> Schema[Any]:
    from hw_export.build import OPTIONS

    return OPTIONS


@app.command("build", cls=GroupedCommand, epilog=EXAMPLES)
@options_from(_options)
def build_command(
    options: dict[str, Any],
    run: Annotated[str, typer.Argument(callback=path_given, help="run folder of `spikelfp train`")],
    out: Annotated[
        str | None, typer.Option(callback=path_given, help="export folder", show_default="exports/<run>-<target>")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the export folder")] = False,
    as_json: Json = False,
) -> int:
    """Quantise a trained run and write it to an export folder, with samples to check it."""
    from hw_export.build import build

    folder = Path(out or f"exports/{Path(run).resolve().name}-{options.get('target', 'nir')}")
    manifest = build(run, folder, overwrite=overwrite, **options)
    _show_build(folder, manifest)
    if as_json:
        print_json({**manifest, "out": str(folder)})
    return OK


@app.command("verify")
def verify_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", callback=path_given, help="export folder")],
    simulators: Annotated[
        str | None, typer.Option("--in", help="simulators, separated by commas", show_default="all of them")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="use only the first ones", show_default="all")] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            callback=path_given,
            help="compare this log of a chip, or of a simulator of it, with the export",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Run an export in other simulators and compare every spike with those of our network.

    For an export for a chip, run the chip's files in its arithmetic, or read the log of a chip, and compare every
    spike with those recorded in the export.

    Exit status 1 if any spike differs or a simulator fails, if a file of the export was changed, if a simulator
    asked for by name is not installed or cannot run the file, or if nothing could be compared.
    """
    from hw_export.build import VERIFIED, changed_files, read_export, target_of
    from hw_export.simulators import SIMULATORS
    from hw_export.targets import Chip
    from hw_export.verify import verify, verify_chip, verify_log

    asked = None if simulators is None else [name.strip() for name in simulators.split(",") if name.strip()]
    if asked == []:
        raise UserError(f"--in names no simulator: choose from {', '.join(SIMULATORS)}")
    for name in asked or []:
        SIMULATORS[name]
    manifest, net, whole = read_export(folder)
    shown = whole if samples is None else whole.first(samples)
    changed = changed_files(folder, manifest)
    target = target_of(manifest)
    if isinstance(target, Chip):
        if asked is not None:
            raise UserError(f"--in names simulators of NIR files; {folder} is for {target.name}: leave --in out")
        if log is None:
            results = [verify_chip(target, Path(folder), manifest, shown)]
        else:
            results = [verify_log(log, target, Path(folder), shown, len(whole))]
    elif log is not None:
        raise UserError(f"--log is compared with an export for a chip; {folder} is for {target.name}: leave it out")
    elif target.nir_file is None:
        raise UserError(f"{folder} is for {target.name}, which is no chip and has no NIR file: nothing here can run it")
    else:
        results = verify(net, Path(folder) / target.nir_file, shown.sequence(), asked)
    passed = _passed(results, asked is not None) and not changed
    _show_results(results, len(shown), shown.steps)
    for name in changed:
        say(f"{name} is not the file that was built: its checksum differs from the manifest")
    if log is None:
        _keep(Path(folder) / VERIFIED, results)
    if as_json:
        print_json(
            {
                "passed": passed,
                "export": str(folder),
                "samples": len(shown),
                "steps": shown.steps,
                "changed_files": changed,
                "results": [asdict(result) for result in results],
            }
        )
    return OK if passed else FAILED


def _keep(path: Path, results: list[Result]) -> None:
    """Write the results for the report of the run; on a read-only disk only print that they are not kept."""
    from spikelfp.files import write_text

    try:
        write_text(path, json.dumps([asdict(result) for result in results], indent=2) + "\n")
    except SaveError as error:
        say(f"the result is not kept: {error}")


def _passed(results: list[Result], all_must: bool) -> bool:
    """Whether a result is identical and none is different or failed; with ``all_must``, whether all are identical."""
    statuses = {result.status for result in results}
    if all_must:
        return statuses == {"identical"}
    return "identical" in statuses and not statuses & {"different", "failed"}


def _show_build(folder: Path, manifest: dict[str, Any]) -> None:
    from hw_export.build import target_of
    from hw_export.targets import Chip

    table = Table(
        "layer",
        "weights",
        "scale",
        "threshold",
        "largest",
        "zeros",
        "relative error",
        box=None,
        pad_edge=False,
    )
    for layer in manifest["quantization"]:
        table.add_row(
            f"{layer['layer']} {layer['kind']}",
            str(layer["weights"]),
            f"{layer['scale']:.4g}",
            _spanned(layer["threshold"]),
            str(layer["max_weight"]),
            f"{layer['zero_fraction']:.1%}",
            f"{layer['relative_error']:.2e}",
        )
    console = Terminal()
    if manifest["quantization"]:
        console.print(table)
    rates = Table("neurons", "rate before", "exported", "silenced", "same spikes", box=None, pad_edge=False)
    for layer in manifest["rates"]:
        rates.add_row(
            layer["layer"],
            f"{layer['float_rate']:.2%}",
            f"{layer['quantized_rate']:.2%}",
            f"{layer['silenced']:.1%}",
            f"{layer['overlap']:.1%}",
        )
    console.print(rates)
    accuracy, delays = manifest["accuracy"], manifest.get("weights_of_chosen_delays")
    if delays:
        say(f"every connection keeps one of its delays: {delays['kept']:,} of {delays['of']:,} weights")
    say(
        f"accuracy on {manifest['samples']} samples: {accuracy['float']:.4f} before, {accuracy['exported']:.4f} "
        f"exported ({manifest['bits']} bits); same class for {accuracy['agreement']:.1%}"
    )
    target = target_of(manifest)
    if isinstance(target, Chip):
        _show_chip(target, manifest["chip"])
    for note in manifest["notes"]:
        say(f"note: {note}")
    say(f"export: {folder}")


def _show_chip(target: Chip, chip: dict[str, Any]) -> None:
    name = target.name
    say(f"in the arithmetic of {name}: {chip['accuracy']:.4f}; same class for {chip['agreement']:.1%}")
    counts, energy = chip["per_sample"], chip["energy"]
    say(
        f"per sample: {counts['spikes']:.0f} spikes, {counts['synaptic_operations']:.0f} synaptic operations, "
        f"{counts['membrane_updates']:.0f} membrane updates, {counts['bytes_touched']:.0f} bytes touched"
    )
    if energy["nanojoule"] is not None:
        least = "at least " if energy["not_published"] else ""
        say(f"energy estimate: {least}{energy['nanojoule']:.4g} nJ per sample (from {energy['source']})")
    else:
        say(f"energy estimate: none, the energy of an operation of {name} is not published")
    for layer, count in chip["saturated"].items():
        if count:
            say(f"note: membranes of layer {layer} left the range of the state at {count} neuron-steps")
    for line in target.describe_samples(chip):
        say(line)


def _spanned(value: Any) -> str:
    """Write a number, or the smallest and the largest of a layer."""
    return f"{value['from']} to {value['to']}" if isinstance(value, dict) else str(value)


def _energy(model: dict[str, Any] | None) -> str:
    """Write the energies of a chip's operations in one line."""
    if model is None:
        return "not published"
    figures = [f"{name[:-3].replace('_', ' ')} {value:g} pJ" for name, value in model.items() if _is_price(name, value)]
    return f"{', '.join(figures) or 'not published per operation'}; {model['taken']} (from {model['source']})"


def _is_price(name: str, value: Any) -> bool:
    return name.endswith("_pj") and value is not None


def _widths(bits: list[int]) -> str:
    whole = [width for width in bits if width < 32]
    span = f"{whole[0]}-{whole[-1]}" if len(whole) > 1 else str(whole[0])
    return f"{span}, 32" if 32 in bits else span


def _show_results(results: list[Result], samples: int, steps: int) -> None:
    table = Table(
        "simulator",
        "version",
        "layer",
        "compared",
        "spikes",
        "differences",
        "result",
        box=None,
        pad_edge=False,
    )
    for result in results:
        head = (result.simulator, result.version or "-")
        for layer in result.layers:
            table.add_row(
                *head, layer.layer, str(layer.compared), str(layer.spikes), str(layer.differences),
                "different" if layer.differences else "identical",
            )  # fmt: skip
            head = ("", "")
        if not result.layers:
            table.add_row(*head, "-", "-", "-", "-", result.status)
    console = Terminal()
    console.print(f"{samples} samples, {steps} steps, every neuron at every step")
    console.print(table)
    for result in results:
        if result.reason:
            say(f"{result.simulator}: {result.status}: {result.reason}")
        for layer in result.layers:
            if layer.first:
                say(f"{result.simulator}, layer {layer.layer}: first difference at {layer.first}")


# --- streams of updates: hw-export updates -------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""

FOREIGN = "no stream and no image"
"""Words in an error for a file that is not replaced: "FILE is no stream and no image"."""

Stream = Annotated[str, typer.Argument(metavar="FILE", callback=path_given, help="stream of updates")]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE", callback=path_given, help="file of the base image", show_default="the one in the stream"
    ),
]


def _record_options() -> Schema[Any]:
    from hw_export.updates.online import OPTIONS

    return OPTIONS


@updates_app.command("record", cls=GroupedCommand)
@options_from(_record_options)
def record_command(
    options: dict[str, Any],
    run: Annotated[str, typer.Argument(callback=path_given, help="run folder of `spikelfp train`")],
    out: Annotated[str, typer.Option(metavar="FILE", callback=path_given, help="stream to write")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the stream")] = False,
    as_json: Json = False,
) -> int:
    """Train a run further online and write the changes of its integers; the run folder stays unchanged."""
    from hw_export.updates.format import MAGIC, PREFIX
    from hw_export.updates.online import record_run
    from hw_export.updates.replay import inspect
    from spikelfp.files import check_replaceable

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
    _show_stream(summary)
    say(f"stream: {out}")
    if as_json:
        print_json({**summary.as_dict(), **done})
    return OK


@updates_app.command("inspect")
def inspect_command(
    stream: Stream,
    base: Base = None,
    plot: Annotated[
        str | None, typer.Option(metavar="PNG", callback=path_given, help="draw it over time, into this file")
    ] = None,
    as_json: Json = False,
) -> int:
    """Describe a stream: its density, its size against dense images, the weights at the ends of their grids."""
    from hw_export.updates.replay import inspect, load_image
    from spikelfp.files import begins_with

    if plot is not None and Path(plot).exists() and not begins_with(plot, PNG):
        raise UserError(f"{plot} is no PNG file, so it is not replaced: name another --plot")
    summary = inspect(stream, None if base is None else load_image(base))
    _show_stream(summary)
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
    out: Annotated[str, typer.Option(metavar="IMAGE", callback=path_given, help="file to write the image to")],
    base: Base = None,
    upto: Annotated[int | None, typer.Option(help="step of training", show_default="the last one")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a stream that was cut or not closed")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the image")] = False,
    as_json: Json = False,
) -> int:
    """Write the integers after a step of training, by default the last, as an image."""
    from hw_export.updates.format import MAGIC, PREFIX
    from hw_export.updates.replay import load_image, replay, save_image
    from spikelfp.files import check_replaceable

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
    out: Annotated[str, typer.Option(metavar="FILE", callback=path_given, help="file to write the SPI writes to")],
    base: Base = None,
    whole: Annotated[bool, typer.Option("--image/--frames", help="begin with all weights of the base image")] = True,
    upto: Annotated[int | None, typer.Option(help="step of training", show_default="the last one")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a stream that was cut or not closed")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file of SPI writes")] = False,
    as_json: Json = False,
) -> int:
    """Write a stream as the SPI writes that load its frames into a tinyODIN chip."""
    from hw_export.updates.replay import load_image
    from hw_export.updates.spi import SPI_TITLE, write_spi
    from spikelfp.files import check_replaceable

    kept = [stream] if base is None else [stream, base]
    check_replaceable(out, overwrite, keep=kept, begins=SPI_TITLE.encode(), what="no file of SPI writes")
    done = write_spi(stream, out, None if base is None else load_image(base), upto, whole=whole, strict=strict)
    for note in done.notes:
        say(f"note: {note}")
    say(f"{done.frames} frames up to step {done.step}, {done.writes} weight writes in {done.openings} openings: {out}")
    if as_json:
        print_json({"out": out, **asdict(done)})
    return OK


def _show_stream(summary: Summary) -> None:
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


def main() -> None:
    """Run the command."""
    run_app(app, "hw-export")


if __name__ == "__main__":
    main()
