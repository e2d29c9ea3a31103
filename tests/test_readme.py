"""The names in the README's table exist; its example and its links are tried in ``tests/test_docs.py``."""

import re
from importlib.metadata import PackageNotFoundError, requires
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


def test_the_verdicts_are_counted():
    page = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
    verdicts = [line.split(" | ")[3] for line in page.splitlines() if line.startswith("| [")]
    said = [f"**{verdict}**" for verdict in ("holds", "does not hold", "not testable here")]
    holds, fails, untested = (sum(verdict.startswith(one) for verdict in verdicts) for one in said)
    assert holds + fails + untested == len(verdicts)
    assert f"Of {len(verdicts)} claims {holds} hold here, {fails} do not, and {untested} cannot be tested" in README


def test_the_package_alone_needs_no_copyleft_package():
    left, seen = ["spikelfp"], set()
    while left:
        name = left.pop()
        seen.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:  # of another system
            continue
        names = {re.split(r"[^\w.-]", line)[0].lower() for line in needed if "extra ==" not in line}
        left += names - seen
    assert {"torch", "numpy", "nir"} <= seen
    assert not seen & {"tonic", "rockpool", "nest-simulator", "nengo", "brian2", "norse", "faery"}
