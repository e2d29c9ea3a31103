"""What the README says is true: its example runs, its names exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from spikelfp import data, models, rewards, rules
from spikelfp.methods import methods

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs_and_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 20
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    accuracy = float(re.search(r"0\.\d+", printed).group())
    assert accuracy > 0.95


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_names_in_the_table_of_features_exist():
    features = README.split("## What works today")[1].split("\n## ")[0]
    for name in re.findall(r"`--data ([\w-]+)`", features):
        assert name in data.datasets
    for registry in (models.models, rewards.rewards, rules.rules, methods):
        for name in registry:
            assert f"`{name}`" in features, f"{name} is not in the README's table"
