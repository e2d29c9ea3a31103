"""The command ``hw-export``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hw_export.build import build, changed_files, read_export
from hw_export.quantize.scale import CLIPS
from hw_export.simulators import SIMULATORS
from hw_export.targets import TARGETS
from hw_export.targets.nir_file import FILE
from hw_export.verify import Result, verify
from spikelfp.command import FAILED, OK, new_app, print_json, run_app
from spikelfp.errors import SaveError, UserError
from spikelfp.files import write_text

app = new_app("Take trained spiking networks to other simulators and to chips.")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")]


@app.command("targets")
def targets_command(as_json: Json = False) -> int:
    """List what a network can be exported to, and the simulators that can check it."""
    targets = {name: {"summary": TARGETS[name].summary, "bits": list(TARGETS[name].bits)} for name in TARGETS}
    simulators = {name: SIMULATORS[name].version() for name in SIMULATORS}
    table = Table("target", "bits", "what it is", box=None, pad_edge=False)
    for name, target in targets.items():
        widths = target["bits"]
        table.add_row(name, f"{widths[0]}-{widths[-2]}, {widths[-1]}", str(target["summary"]))
    console = Console()
    console.print(table)
    found = ", ".join(f"{name} {version or '(not installed)'}" for name, version in simulators.items())
    console.print(f"simulators for `hw-export verify`: {found}", highlight=False, soft_wrap=True)
    if as_json:
        print_json({"targets": targets, "simulators": simulators})
    return OK


@app.command("build")
def build_command(
    run: Annotated[str, typer.Argument(help="run folder of `spikelfp train`")],
    target: Annotated[str, typer.Option(help=f"what to export to: {', '.join(TARGETS)}")] = "nir",
    bits: Annotated[int, typer.Option(help="bits of a weight, 2 to 16, or 32 for floats")] = 8,
    out: Annotated[str | None, typer.Option(help="export folder", show_default="exports/<run>-<target>")] = None,
    samples: Annotated[int, typer.Option(help="test samples that go with it")] = 100,
    clip: Annotated[str, typer.Option(help=f"how scales are chosen: {', '.join(CLIPS)}")] = "mse",
    weights: Annotated[str, typer.Option(help="checkpoint of the run: last or best")] = "last",
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", help="folder of the data sets", show_default="the run's")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the export folder")] = False,
    as_json: Json = False,
) -> int:
    """Quantise a trained run and write it, with samples to check it, to an export folder."""
    folder = Path(out or f"exports/{Path(run).resolve().name}-{target}")
    manifest = build(
        run,
        folder,
        target=target,
        bits=bits,
        clip=clip,
        samples=samples,
        weights=weights,
        data_dir=data_dir,
        overwrite=overwrite,
    )
    _show_build(folder, manifest)
    if as_json:
        print_json({**manifest, "out": str(folder)})
    return OK


@app.command("verify")
def verify_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="export folder")],
    simulators: Annotated[
        str | None, typer.Option("--in", help="simulators, separated by commas", show_default="all of them")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="use only the first ones", show_default="all")] = None,
    as_json: Json = False,
) -> int:
    """Run the exported file in other simulators and compare every spike with our network.

    Exit status 1 if any spike differs or a simulator fails, if a file of the export was changed, if a simulator
    asked for by name is not installed or cannot run the file, or if nothing could be compared.
    """
    asked = None if simulators is None else [name.strip() for name in simulators.split(",") if name.strip()]
    if asked == []:
        raise UserError(f"--in names no simulator: choose from {', '.join(SIMULATORS)}")
    for name in asked or []:
        SIMULATORS[name]
    manifest, net, shown = read_export(folder)
    if samples is not None:
        shown = shown.first(samples)
    changed = changed_files(folder, manifest)
    results = verify(net, Path(folder) / FILE, shown.sequence(), asked)
    passed = _passed(results, asked is not None) and not changed
    _show_results(results, len(shown), shown.steps)
    for name in changed:
        print(f"{name} is not the file that was built: its checksum differs from the manifest")
    try:  # for the report of the run; an export on a read-only disk can be verified all the same
        write_text(Path(folder) / "verify.json", json.dumps([asdict(result) for result in results], indent=2) + "\n")
    except SaveError as error:
        print(f"the result is not kept: {error}")
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


def _passed(results: list[Result], all_must: bool) -> bool:
    """Something compared, no difference and no simulator that broke; with ``all_must``, every one compared."""
    statuses = {result.status for result in results}
    if all_must:
        return statuses == {"identical"}
    return "identical" in statuses and not statuses & {"different", "failed"}


def _show_build(folder: Path, manifest: dict[str, Any]) -> None:
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
            str(layer["threshold"]),
            str(layer["max_weight"]),
            f"{layer['zero_fraction']:.1%}",
            f"{layer['relative_error']:.2e}",
        )
    console = Console()
    if manifest["quantization"]:
        console.print(table)
    accuracy = manifest["accuracy"]
    print(
        f"accuracy on {manifest['samples']} samples: {accuracy['float']:.4f} before, {accuracy['exported']:.4f} "
        f"exported ({manifest['bits']} bits); same class for {accuracy['agreement']:.1%}"
    )
    for note in manifest["notes"]:
        print(f"note: {note}")
    print(f"export: {folder}")


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
    console = Console()
    console.print(f"{samples} samples, {steps} steps, every neuron at every step", highlight=False)
    console.print(table)
    for result in results:
        if result.reason:
            print(f"{result.simulator}: {result.status}: {result.reason}")
        for layer in result.layers:
            if layer.first:
                print(f"{result.simulator}, layer {layer.layer}: first difference at {layer.first}")


def main() -> None:
    """Entry point."""
    run_app(app, "hw-export")


if __name__ == "__main__":
    main()
