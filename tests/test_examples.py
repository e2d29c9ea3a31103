"""The examples run and learn."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "epochs", "least"),
    [
        ("mixed_network", 10, 0.9),
        ("custom_reward", 15, 0.8),
        ("train_for_f1", 2, 0.4),  # 0.31 by always saying the largest class
        ("train_for_levenshtein", 100, 1.5),  # updates; edits saved of about 3.2
        ("snntorch_model_in_place", 10, 0.9),
        ("norse_round_trip", 10, 0.85),
        ("live_updates", 1, 0.7),
        ("own_method", 5, 0.8),  # 0.74 when the last layer learns alone
        ("own_chip", 6, 0.7),
        ("own_neuron", 5, 0.75),
        ("own_neuron_export", 6, 0.8),
        pytest.param("own_recordings", 12, 0.8, marks=pytest.mark.slow),
    ],
)
def test_an_example_learns(name, epochs, least, monkeypatch, registrations_end):
    if name == "norse_round_trip":
        pytest.importorskip("norse")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert module.main(epochs) > least
