"""Smoke test of the wheel, installed alone: ``python tests/wheel.py dist`` (``make wheel``).

The wheel and its requirements are installed into a new virtual environment in a temporary folder, from the package
index, in the versions of ``constraints.txt``. Nothing of the checkout is on its path: commands run in that folder, in
processes that see neither ``PYTHONPATH`` nor this environment. It takes a few minutes, most of them for torch.

``--borrow`` takes the libraries of the environment that runs it, at the end of the path, and installs the wheel alone.
That is quick, but does not notice a requirement that ``pyproject.toml`` forgets. The wheel is that of the new
environment either way, which is checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spikelfp", "hw_export")

CHECK = """
import importlib.metadata, importlib.resources, pathlib, sys
import hw_export, spikelfp
for package in (spikelfp, hw_export):
    place = pathlib.Path(package.__file__).resolve()
    assert place.is_relative_to(pathlib.Path(sys.prefix).resolve()), f"{place} is not of this environment"
    assert (importlib.resources.files(package) / "py.typed").is_file(), f"{package.__name__} has no py.typed"
assert importlib.metadata.version("spikelfp") == spikelfp.__version__
print(spikelfp.__version__, "at", place.parent)
"""

COMMANDS = (
    "spikelfp --version",
    "spikelfp train --data digits --hidden 32 --steps 4 --epochs 1 --reset zero --out runs/tiny --quiet",
    "spikelfp eval runs/tiny",
    "spikelfp report runs/tiny",
    "hw-export targets",
    "hw-export build runs/tiny --target nir --bits 8 --out exports/tiny",
    "hw-export verify exports/tiny --in snntorch",
    "hw-export build runs/tiny --target generic --bits 8 --out exports/chip",
    "hw-export verify exports/chip",
)


def tracked() -> set[str]:
    """Return the files of both packages that are under version control."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    return {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}


def check_contents(wheel: Path, source: Path) -> None:
    """Compare what is in both archives with what is tracked: templates, styles and ``py.typed`` included."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.partition("/")[0] in PACKAGES}
    missing, more = sorted(tracked() - inside), sorted(inside - tracked())
    if missing or more:
        sys.exit(f"{wheel.name} lacks {missing}, and has besides {more}")
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    if lacking := sorted((tracked() | {"README.md", "LICENSE", "NOTICE", "pyproject.toml"}) - packed):
        sys.exit(f"{source.name} lacks {lacking}")


def main(folder: Path, borrow: bool) -> None:
    """Install the wheel of ``folder`` and use it; ``borrow`` the libraries of this environment or install them."""
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_contents(wheel, source)
    with tempfile.TemporaryDirectory(prefix="wheel-") as place:
        home = Path(place)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        clean |= {"SPIKELFP_CACHE": str(home / "cache"), "PYTHONNOUSERSITE": "1"}
        venv.create(home / "venv", with_pip=True)
        bin_ = home / "venv" / "bin"

        def run(*words: str | Path) -> str:
            line = [str(word) for word in words]
            done = subprocess.run(line, cwd=home, env=clean, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
            return done.stdout

        pip = (bin_ / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        pip += ("-c", ROOT / "constraints.txt")
        print("installing into a new environment …", flush=True)
        if borrow:
            packages = run(bin_ / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
            Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
            run(*pip, "--no-deps", wheel.resolve())
        else:
            run(*pip, "torch")
            run(*pip, wheel.resolve())
        print(run(bin_ / "python", "-c", CHECK).strip(), flush=True)
        for command in COMMANDS:
            print(command, flush=True)
            program, *words = command.split()
            run(bin_ / program, *words)
        report = (home / "runs/tiny/report.html").read_text()
        if "<svg" not in report and "data:image" not in report:
            sys.exit("report.html has no picture")
        summary = json.loads((home / "runs/tiny/summary.json").read_text())
        print(f"{wheel.name} works alone: test accuracy {summary['test_accuracy']:.2f} after one epoch")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--borrow" in sys.argv[2:])
