"""Training loops, optimisers, schedules, checkpoints and run folders."""

from spikelfp.registry import check_constructors, public_names
from spikelfp.training.evaluation import Decisions, EarlyReadout, early_readout
from spikelfp.training.optim import Momentum
from spikelfp.training.parallel import WorkerLost, World, choose_device, joined
from spikelfp.training.trainer import Evaluation, TemporalTrainer, Trainer

__all__ = [
    "Decisions", "EarlyReadout", "Evaluation", "Momentum", "TemporalTrainer", "Trainer", "WorkerLost", "World",
    "choose_device", "early_readout", "joined",
]  # fmt: skip

check_constructors(Momentum)
public_names(globals())
