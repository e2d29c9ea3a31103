"""The examples run and learn."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(("name", "epochs", "least"), [("mixed_network", 10, 0.9), ("custom_reward", 15, 0.8)])
def test_an_example_learns(name, epochs, least):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(epochs) > least
