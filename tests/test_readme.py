"""The names in the README's table exist; its example and its links are tried in ``tests/test_docs.py``."""

import re
from pathlib import Path

from spikelfp import data, models, rewards, rules
from spikelfp.methods import methods

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_is_short():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 20


def test_names_in_the_table_of_features_exist():
    features = README.split("## What works today")[1].split("\n## ")[0]
    for name in re.findall(r"`--data ([\w-]+)`", features):
        assert name in data.datasets
    for registry in (models.models, rewards.rewards, rules.rules, methods):
        for name in registry:
            assert f"`{name}`" in features, f"{name} is not in the README's table"
