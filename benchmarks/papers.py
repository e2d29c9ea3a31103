"""Page of the papers' experiments: ``python -m benchmarks.papers [--runs FOLDER]``.

``FOLDER`` holds a finished folder of ``spikelfp reproduce NAME`` for each experiment, under its name. Their tables,
figures and verdicts are copied to ``docs/results/NAME``, and ``docs/results.md`` is written anew from all that is
there. Without ``--runs`` only the page is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.tables import rows
from spikelfp.files import copy_whole, write_text
from spikelfp.reproduce import Experiment, experiments

DOCS = Path(__file__).parents[1] / "docs"
PAGE, KEPT = DOCS / "results.md", DOCS / "results"
FILES = ("results.csv", "figure.png", "verdicts.json")
LARGEST = 400_000
"""Bytes of the largest file that is kept in the repository."""

ABOUT = """\
# What the papers claim, and what holds here

Each experiment is one command, `spikelfp reproduce NAME --out DIR`; `spikelfp reproduce --list` shows all of them.
It writes the numbers, the figure and the verdicts that stand here. A verdict is computed from the numbers by the
experiment's own rule, never by hand. *Not testable here*: the data or the pretrained networks of the claim are not at
hand, or the runs that two cores allow are too short to tell. LFP v1 and v3 are two versions of one paper
(arXiv 2308.12053); F³ is Feed-Forward with delayed Feedback.
"""


def collect(runs: Path) -> list[str]:
    """Copy the results of finished, full experiments into the documentation.

    Args:
        runs: folder of folders, each under the name of its experiment.

    Returns:
        Names of those that were copied.
    """
    found = []
    for name in experiments:
        verdicts = runs / name / "verdicts.json"
        if not verdicts.is_file() or json.loads(verdicts.read_text())["quick"]:
            continue
        for file in FILES:
            if (runs / name / file).stat().st_size > LARGEST:
                raise SystemExit(f"{runs / name / file} is larger than {LARGEST:,} bytes")
            (KEPT / name).mkdir(parents=True, exist_ok=True)
            copy_whole(runs / name / file, KEPT / name / file)
        found.append(name)
    return found


def held() -> dict[str, dict[str, Any]]:
    """Read the verdicts that the documentation keeps, by name of the experiment, in the order of the papers."""
    found = {name: KEPT / name / "verdicts.json" for name in sorted(experiments, key=place)}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}


def place(name: str) -> tuple[bool, bool, str]:
    """Return the place of an experiment on the page: LFP v3, then v1, then F³; figures of the text first.

    Args:
        name: of the experiment.
    """
    source = experiments[name].source
    return source.startswith("F³"), source.startswith("LFP v1"), source


def page() -> str:
    """Write the page."""
    kept = held()
    body = [
        [f"[{about['title']}](#{name})", about["source"], claim["claim"], f"**{claim['verdict']}**"]
        for name, about in kept.items()
        for claim in about["claims"]
    ]
    lines = [ABOUT, *rows(["experiment", "of", "claim", "verdict"], body)]
    missing = [f"`{name}` ({experiments[name].source})" for name in sorted(experiments, key=place) if name not in kept]
    if missing:
        lines += [f"Not run in full yet: {', '.join(missing)}.", ""]
    for name, about in kept.items():
        lines += _section(name, about, experiments[name])
    return "\n".join(lines)


def _section(name: str, about: dict[str, Any], experiment: type[Experiment]) -> list[str]:
    body = [[each["claim"], f"**{each['verdict']}**", each["text"]] for each in about["claims"]]
    seeds = "one seed" if about["seeds"] == 1 else f"{about['seeds']} seeds"
    return [
        f'<a id="{name}"></a>', "",  # the ids that sites make of headings differ
        f"## {about['title']} ({about['source']})", "",
        f"{about['setting']} {seeds.capitalize()}.", "",
        f"![{about['title']}](results/{name}/figure.png)", "",
        *rows(["claim", "verdict", "here"], body),
        f"All numbers: [results.csv](results/{name}/results.csv), by `{about['command']}`.", "",
    ]  # fmt: skip


def main(given: list[str] | None = None) -> None:
    """Collect, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of finished experiments")
    options = parser.parse_args(given)
    if options.runs is not None:
        print("copied:", ", ".join(collect(options.runs)) or "none", file=sys.stderr)
    write_text(PAGE, page())


if __name__ == "__main__":
    main()
