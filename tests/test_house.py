"""The source tree: one name, one meaning, and no circles of imports between packages."""

import ast
from pathlib import Path

from benchmarks.house import ROOT, count, house, modules, public_classes, sources

SAME = {"Sigmoid"}
"""Public classes of one name on purpose: ``nn.Sigmoid`` and ``rewards.Sigmoid`` are both the field's word."""
EVERYWHERE = {"__init__.py", "base.py", "lif.py"}
"""Files of one name on purpose: the base of each kind of plug-in, and a neuron under its own name."""


def test_no_two_public_classes_have_one_name():
    assert {name: files for name, files in public_classes().items() if len(files) > 1 and name not in SAME} == {}


def test_no_three_modules_have_one_name():
    assert {name: files for name, files in modules().items() if len(files) > 2 and name not in EVERYWHERE} == {}


def test_the_trainer_does_not_know_the_exporter():
    for path in sources():
        if path.is_relative_to(ROOT / "spikelfp"):
            for node in ast.walk(ast.parse(path.read_text())):
                named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                named += [each.name for each in node.names] if isinstance(node, ast.Import) else []
                assert not any(name.split(".")[0] == "hw_export" for name in named), path


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found


def test_modules_import_each_other_without_circles():
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources()}
    known = {name: path for name, path in names.items() if not name.endswith("__init__")}
    needs = {
        name: {each for each in imports_of(path) if each in known and each != name} for name, path in known.items()
    }
    done: set[str] = set()
    while ready := {name for name in needs if name not in done and needs[name] <= done}:
        done |= ready
    assert {name: sorted(needs[name] - done) for name in needs if name not in done} == {}


def test_lines_are_counted(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Words,\n\nmore."""\n\nimport ast\nfrom os import (\n    path,\n)\n\n# why\nA = 1\n"""Words."""\n'
    )
    assert count(path) == (12, 5, 4)


def test_a_checkout_is_counted(tmp_path):
    for package in ("spikelfp", "hw_export"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "one.py").write_text("class Thing:\n    pass\n")
    found = house(tmp_path)
    assert (found["files"], found["lines"], found["public classes of one name"]) == (2, 4, 1)
    assert modules(tmp_path)["one.py"] == ["hw_export/one.py", "spikelfp/one.py"]
