"""Workers that train together, started as torchrun starts them; and what they train in ``test_parallel.py``.

As a script, ``parallel_workers.py FOLDER CASE …``, it is one worker, which trains each case and leaves its weights in
``FOLDER/CASE-RANK.pt``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from spikelfp import data, methods, models, nn, rewards, rules
from spikelfp.errors import NonFiniteError
from spikelfp.training import TemporalTrainer, joined
from spikelfp.training.parallel import SINGLE_WORKER


def start(processes: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """``python ARGUMENTS`` as each of so many workers on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "300",
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def finish(workers: list[subprocess.Popen[str]], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each."""
    try:
        outputs = [worker.communicate(timeout=seconds) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, *output) for worker, output in zip(workers, outputs, strict=True)]


def run(processes: int, folder: Path, *cases: str) -> None:
    """Train the cases by so many workers; their errors are the caller's."""
    for code, _, errors in finish(start(processes, __file__, str(folder), *cases)):
        assert code == 0, errors


class InDoubles(TemporalTrainer):
    """Shows the network float64."""

    def present(self, x):
        return super().present(x.double()).double()


def mlp():
    return models.lif_mlp([64, 20, 10], threshold=0.5)


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.LIF(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10), nn.LIF(threshold=0.5)
    )


def dropout():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.LIF(), nn.Dropout(0.3), nn.Linear(20, 10), nn.LIF())


def recurrent():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.RecurrentLIF(20), nn.Linear(20, 10), nn.LIF(threshold=0.5))


def normalised():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10))


LFP = methods.LFP(rewards.SpikeSequence())


class Blocks(methods.LFP):
    """Owns both ways: runs the layers one after the other, without the replica around them."""

    def learn(self, net, batch):
        outputs = batch.sequence
        for layer in net:
            outputs = layer(outputs)
        return outputs, self.backward(outputs, batch.targets, batch.share)


BY_NAME = rules.Composite([("0", rules.ZPlusMinus()), ("4", rules.Epsilon(1e-3))])

CASES: dict[str, dict[str, Any]] = {
    # 100 samples in batches of 32: the last one has 4
    "adam": {"net": mlp},
    "sgd": {"net": mlp, "optimizer": "sgd", "lr": 0.05, "clip": 0.1, "clip_norm": 0.05},
    "momentum-in-parts": {"net": mlp, "optimizer": "momentum", "lr": 0.5, "accumulate": 3},
    # slices of different lengths, and in the last batch, of one sample, an empty one
    "odd": {"net": mlp, "samples": 67, "batch_size": 33},
    "conv": {"net": conv},
    # the last batch has three samples
    "recompute": {"net": recurrent, "steps": 8, "recompute": 3, "accumulate": 2, "samples": 67},
    "composite": {"net": conv, "method": methods.LFP(rewards.SpikeSequence(), BY_NAME)},
    "static": {"net": lambda: models.mlp([64, 20, 10]), "steps": 1, "method": methods.LFP(rewards.Softmax())},
    "warm-up": {
        "net": lambda: models.mlp([64, 20, 10]),
        "steps": 1,
        "method": methods.WarmUp(methods.GradientDescent(), methods.LFP(rewards.Softmax()), 3),
    },
    "own-learn": {"net": conv, "method": Blocks(rewards.SpikeSequence()), "samples": 67, "batch_size": 33},
    "own-learn-later": {
        "net": lambda: models.mlp([64, 20, 10]),
        "steps": 1,
        "accumulate": 2,
        "method": methods.WarmUp(methods.GradientDescent(), Blocks(rewards.Softmax()), 3),
    },
    # slices of different lengths, in parts, and an empty slice; each training has a method of its own
    "f3": {
        "net": mlp,
        "accumulate": 2,
        "method": lambda: methods.F3(credit="step"),
        "samples": 67,
        "batch_size": 33,
    },
    "f3-class": {
        "net": lambda: models.mlp([64, 20, 10]),
        "steps": 1,
        "accumulate": 2,
        "method": lambda: methods.F3(error_memory="class", error_rate=0.3),
        "samples": 67,
        "batch_size": 33,
    },
    "pepita": {
        "net": lambda: models.mlp([64, 20, 10]),
        "steps": 1,
        "accumulate": 2,
        "method": lambda: methods.PEPITA(strength=0.5),
        "samples": 67,
        "batch_size": 33,
    },
    "woken": {"net": lambda: models.lif_mlp([64, 20, 10]), "encoding": "latency"},
}


NORMALISED = {"net": normalised, "steps": 1, "method": methods.LFP(rewards.Softmax()), "samples": 97}
"""Batch statistics are those of each worker's slice, so this one is not the same as alone."""


def make(net, samples=100, method=LFP, world=SINGLE_WORKER, **options):
    """The trainer of a case and its data."""
    torch.manual_seed(world.rank)  # the leader's weights count
    options = {"steps": 6, "batch_size": 32, "lr": 1e-2, **options}
    own = method if isinstance(method, methods.Method) else method()
    trainer = InDoubles(net().double(), method=own, world=world, device="cpu", **options)
    return trainer, data.load("digits").train.subset(torch.arange(samples))


def trained(case, world=SINGLE_WORKER):
    """The weights after two epochs, the rows of metrics, and the accuracy on other samples."""
    trainer, train = make(**(NORMALISED if case == "normalised" else CASES[case]), world=world)
    rows = trainer.fit(train, 2)
    return result(trainer, rows)


def result(trainer, rows):
    return {
        "weights": trainer.net.state_dict() | dict(kept_by(trainer.method.state_dict(), "method")),
        "rows": rows,
        "woken": trainer.woken,
        "test": numbers(trainer.evaluate(data.load("digits").test)),
    }


def kept_by(state, name):
    """Tensors of the state of a method, by dotted names."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from kept_by(value, f"{name}.{key}")
        else:
            yield f"{name}.{key}", value


def numbers(found):
    """Score, loss and mean output of an evaluation."""
    return found.score, found.loss, found.mean_output


def stop_and_save(path: Path, world=SINGLE_WORKER, after=3, asks=0, **options):
    """Train until worker ``asks`` alone wants to stop after step ``after``, and save."""
    trainer, train = make(**{**CASES["adam"], **options}, world=world)
    trainer.should_stop = lambda: world.rank == asks and trainer.position.step >= after
    trainer.fit(train, 2)
    trainer.save(path)
    world.wait()


def go_on(path: Path, world=SINGLE_WORKER, **options):
    """Train to the end from a checkpoint, with weights that are to be replaced by its."""
    trainer, train = make(**{**CASES["adam"], **options}, world=world)
    trainer.load(path)
    return result(trainer, trainer.fit(train, 2))


def random_case(folder: Path, world):
    """Random encoding and dropout: a run that was stopped and went on, and one that was not."""
    options = {"net": dropout, "encoding": "rate"}
    trainer, train = make(**options, world=world)
    whole = result(trainer, trainer.fit(train, 2))
    stop_and_save(folder / "random.pt", world, asks=1, **options)
    resumed = go_on(folder / "random.pt", world, **options)
    inputs = trainer.present(torch.full((2, 1, 8, 8), 0.5))  # drawn behind the last step
    return {"weights": whole["weights"], "resumed": resumed["weights"], "inputs": inputs}


def not_finite(world):
    """What each worker says of an overflow that only the last one has."""
    trainer, train = make(**CASES["adam"], world=world)
    images, labels = train.__getitems__(range(4))
    trainer.net[1].weight.data.fill_(1e280)
    if world.rank == world.size - 1:
        images[2] = 1e38
    try:
        trainer.train_step(images, labels)
    except NonFiniteError as error:
        return str(error)
    return ""


def threads() -> list[str]:
    """Names of the threads of this process, where the system tells them."""
    return sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*"))


def threads_left(alone: list[str]) -> list[str]:
    """Names of the threads of this process behind the group.

    The system may list a thread that Python has joined for a moment longer, under the name of the process. Those of
    the group have names of their own, and are gone at once.
    """
    left = threads()
    deadline = time.monotonic() + 10
    while set(left) == set(alone) and left != alone and time.monotonic() < deadline:
        time.sleep(0.01)
        left = threads()
    return left


def main(folder: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    alone = threads()
    with joined("cpu") as world:
        kept, train = make(**CASES["adam"], world=world)  # outlives the group
        kept.fit(train, 1)
        torch.save([alone, threads()], folder / f"threads-{world.rank}.pt")
        for case in cases:
            if case == "random":
                left = random_case(folder, world)
            elif case == "not-finite":
                left = not_finite(world)
            elif case == "stop":
                stop_and_save(folder / f"stopped-by-{world.size}.pt", world, asks=world.size - 1)
                continue
            elif case.startswith("stopped-by-"):
                left = go_on(folder / f"{case}.pt", world)
            else:
                left = trained(case, world)
            torch.save(left, folder / f"{case}-{world.rank}.pt")
    torch.save(threads_left(alone), folder / f"threads-left-{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
