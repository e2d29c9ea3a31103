"""Training loops, optimisers, schedules, checkpoints and run folders."""

from spikelfp.training.trainer import Evaluation, TemporalTrainer, Trainer, choose_device

__all__ = ["Evaluation", "TemporalTrainer", "Trainer", "choose_device"]
