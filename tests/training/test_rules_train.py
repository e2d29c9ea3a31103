"""A run with every rule and every reward by name, as ``spikelfp train`` makes it."""

import pytest

from spikelfp import rewards, rules
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train

SMALL = {"hidden": (32,), "steps": 6, "epochs": 12, "lr": 1e-2}
UNSTEADY = {"correct-class": 1.0, "false-positive": 0.0, "sign": 0.1}
"""Rewards without a convergence factor (v3, Table 2; v1, A.1), with the spike rate of the outputs that they drive a
network to, as they never stop to reward or to punish: all of the ten outputs fire at every step, none, or one."""


@pytest.mark.parametrize("model", ["lif-mlp", "mlp"])
@pytest.mark.parametrize("rule", list(rules.rules))
def test_every_rule_trains(rule, model, tmp_path):
    steps = 6 if model == "lif-mlp" else None
    config = RunConfig(**{**SMALL, "model": model, "rule": rule, "steps": steps})
    summary = train(config, tmp_path / "run", progress=False)
    assert summary["rule"] == rule
    assert summary["test_accuracy"] > 0.5  # chance is 0.1


@pytest.mark.parametrize("reward", [name for name in rewards.rewards if name not in ("softmax", "sigmoid")])
def test_every_reward_of_spikes_trains(reward, tmp_path):
    summary = train(RunConfig(reward=reward, **SMALL), tmp_path / "run", progress=False)
    assert summary["reward"] == reward
    if reward in UNSTEADY:
        assert list(summary["spike_rates"].values())[-1] == pytest.approx(UNSTEADY[reward], abs=0.02)
    else:
        assert summary["test_accuracy"] > 0.7


def test_a_learned_decay_is_kept_with_the_run(tmp_path):
    train(RunConfig(learn_beta=True, **SMALL), tmp_path / "run", progress=False)
    learned = load_run(tmp_path / "run").net
    assert all(abs(layer.beta - 0.9) > 1e-4 for layer in learned if hasattr(layer, "beta"))
