"""Count files, lines, imports and names of the two packages: ``python -m benchmarks.house [--json] [ROOT]``.

Lines of code are those that are not blank, comments or docstrings. ``ROOT`` is another checkout to count.
"""

from __future__ import annotations

import ast
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("spikelfp", "hw_export")


def sources(root: Path = ROOT) -> list[Path]:
    """List the source files of both packages."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def _span(node: Any) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))


def count(path: Path) -> tuple[int, int, int]:
    """Count the lines of a file.

    Returns:
        all lines, lines of code, lines of import statements.
    """
    text = path.read_text(encoding="utf-8")
    imports: set[int] = set()
    words: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _span(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            words |= _span(node)
    lines = text.splitlines()
    code = [
        n for n, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#") and n not in words
    ]
    return len(lines), len(code), len(imports)


def public_classes(root: Path = ROOT) -> dict[str, list[str]]:
    """Find the files that define each public class."""
    found = defaultdict(list)
    for path in sources(root):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(root)))
    return dict(found)


def modules(root: Path = ROOT) -> dict[str, list[str]]:
    """Find the files of each name."""
    found = defaultdict(list)
    for path in sources(root):
        found[path.name].append(str(path.relative_to(root)))
    return dict(found)


def house(root: Path = ROOT) -> dict[str, Any]:
    """Count both packages under ``root``."""
    counts = [count(path) for path in sources(root)]
    lines, code, imports = (sum(each) for each in zip(*counts, strict=True))
    return {
        "files": len(counts),
        "median lines of a file": statistics.median(each[0] for each in counts),
        "files under 50 lines": sum(each[0] < 50 for each in counts),
        "lines": lines,
        "lines of code": code,
        "lines of imports": imports,
        "imports, % of lines": round(100 * imports / lines, 1),
        "public classes of one name": sum(len(files) > 1 for files in public_classes(root).values()),
        "modules of one name, three or more": sum(len(files) > 2 for files in modules(root).values()),
    }


def main() -> None:
    """Print the counts."""
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    found = house(Path(given[0]).resolve() if given else ROOT)
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for name, value in found.items():
        sys.stdout.write(f"{name}: {value}\n")


if __name__ == "__main__":
    main()
