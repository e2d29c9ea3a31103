"""Docstrings of public names have one form: a summary that says what it is, then parameters one a line (Google)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for package in ("spikelfp", "hw_export") for path in (ROOT / package).rglob("*.py"))
RIDDLES = ("What ", "Of ", "The same", "That ", "Whose ", "Those ")
SECTIONS = r"Args|Returns|Raises|Yields|Attributes|Example|Examples|Note|Warns"

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(path: Path) -> Iterator[tuple[str, ast.Module | Definition]]:
    """The module, its public classes and functions, and the public methods of these classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield "module", tree
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


def parameters(node: ast.Module | Definition) -> list[str]:
    """Names of the parameters of a function, or of those that make an object of a class."""
    if isinstance(node, ast.ClassDef):
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        fields = [
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
        return parameters(made[0]) if made else fields
    if isinstance(node, ast.Module):
        return []
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [each.arg for each in every if each.arg not in ("self", "cls")]


def section(text: str, name: str) -> str:
    """The lines under ``name:`` of a docstring in Google form."""
    found = re.search(rf"^{name}:\n((?:[ \t]+\S.*\n?|\s*\n)*)", text, re.M)
    return found[1] if found else ""


def complaints(path: Path) -> Iterator[str]:
    """Lines about docstrings of a file that are not in the form."""
    for name, node in public(path):
        text = ast.get_docstring(node)
        if text is None:
            overrides = isinstance(node, ast.FunctionDef) and "." in name
            if not overrides and path.read_text(encoding="utf-8").strip():
                yield f"{name}: no docstring"
            continue
        if text.startswith(RIDDLES):
            yield f"{name}: begins with {text.split()[0]!r}; begin with a noun or a verb"
        body = re.split(rf"^(?:{SECTIONS}):$", text, maxsplit=1, flags=re.M)[0]
        for parameter in parameters(node):
            if re.search(rf"(?:^|[.;] |\n){parameter}(?:, \w+)*: ", body):
                yield f"{name}: {parameter} stands in a paragraph; give it a line under Args or Attributes"
        if re.search(r"^Raises :|^\s*Raises :class:", body, re.M) or re.search(r"\. Raises ", body):
            yield f"{name}: an error stands in a paragraph; give it a line under Raises"
        given = set(re.findall(r"^ +\**(\w+)(?: \([^)]*\))?: ", section(text, "Args"), re.M))
        unknown = given - set(parameters(node)) - {"kwargs", "args", *_varied(node)}
        if given and isinstance(node, ast.FunctionDef) and unknown:
            yield f"{name}: there is no parameter {', '.join(sorted(unknown))}"


def _varied(node: ast.Module | Definition) -> set[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    return {each.arg for each in (node.args.vararg, node.args.kwarg) if each is not None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_have_one_form(path):
    assert list(complaints(path)) == []


def test_a_riddle_and_a_parameter_in_a_paragraph_are_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""A module."""\ndef run(x, steps):\n    """What runs.\n\n    steps: their number.\n    """\n')
    assert len(list(complaints(file))) == 2


def missing(package: str) -> Iterator[str]:
    """Parameters of the public functions and classes of a package that stand under no Args."""
    import importlib

    exported = set(importlib.import_module(package).__all__)
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        for name, node in public(path):
            if name in exported and isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                inits = [
                    e for e in getattr(node, "body", []) if isinstance(e, ast.FunctionDef) and e.name == "__init__"
                ]
                if isinstance(node, ast.ClassDef) and not inits:
                    continue
                described = section(text, "Args") + "".join(section(ast.get_docstring(e) or "", "Args") for e in inits)
                lacking = [
                    p
                    for p in parameters(node)
                    if not re.search(rf"^ +(\w+, )*{p}(?:, \w+)*(?: \([^)]*\))?: ", described, re.M)
                ]
                if lacking:
                    yield f"{path.relative_to(ROOT)} {name}: {', '.join(lacking)}"


PACKAGES = [
    "spikelfp", "spikelfp.nn", "spikelfp.rules", "spikelfp.rewards", "spikelfp.methods", "spikelfp.models",
    "spikelfp.data", "spikelfp.data.events", "spikelfp.tasks", "spikelfp.interop", "spikelfp.training", "hw_export",
]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_parameters_of_public_names_have_a_line_each(package):
    assert list(missing(package)) == []


ROLE = re.compile(r":(?:mod|class|func|data|meth|attr|exc):`(?:[^`<]*<)?([^`>]+)>?`")
OTHERS = ("torch", "numpy", "nir", "tonic", "h5py")


def exists(dotted: str) -> bool:
    """Whether a module, or a name in one, is there; fields of dataclasses are known by their annotations."""
    import importlib

    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            bases = getattr(found, "__mro__", (found,))
            if not hasattr(found, name):
                stated = [vars(base).get("__annotations__") for base in bases]
                return any(isinstance(each, dict) and name in each for each in stated)
            found = getattr(found, name)
        return True
    return False


def candidates(target: str, module: str) -> Iterator[str]:
    """Names that a role may mean: as it stands, in its module, in a class of it, or in a package around it."""
    import sys

    name = target.strip().lstrip("~")
    if not name.startswith("."):
        yield name
        yield f"{module}.{name}"
        for each, value in vars(sys.modules[module]).items():
            if isinstance(value, type) and value.__module__ == module:
                yield f"{module}.{each}.{name}"
    parts = module.split(".")
    for cut in range(len(parts), 0, -1):
        yield ".".join([*parts[:cut], name.lstrip(".")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_references_lead_somewhere(path):
    import importlib

    text = path.read_text(encoding="utf-8")
    roles = [(match[1], text[: match.start()].count("\n") + 1) for match in ROLE.finditer(text)]
    if not roles:
        return
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    try:
        importlib.import_module(dotted)
    except ImportError as error:
        pytest.skip(f"{dotted} needs a package that is not here ({error})")
    assert [
        (line, target)
        for target, line in roles
        if not target.strip("~").startswith(OTHERS)
        and not re.search(rf"\bself\.{re.escape(target.rpartition('.')[2])}\b.* = ", text)  # an attribute of objects
        and not any(map(exists, candidates(target, dotted)))
    ] == []
