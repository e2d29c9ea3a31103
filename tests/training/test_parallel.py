"""Several workers train as one: the same weights, the same numbers, from any checkpoint of any number of them."""

from pathlib import Path

import parallel_workers
import pytest
import torch
from parallel_workers import CASES, NORMALISED, go_on, numbers, stop_and_save, trained

from spikelfp import data, models
from spikelfp.errors import UserError
from spikelfp.training import TemporalTrainer, World, joined
from spikelfp.training.parallel import choose_device

ALL = [*CASES, "normalised", "not-finite", "random", "stop", "stopped-by-1", "stopped-by-2"]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """The folder with what two workers left of every case, and how they ended.

    Among the cases they go on where one, or both, stopped. Should one end badly, the cases that it left still count.
    """
    folder = tmp_path_factory.mktemp("workers")
    stop_and_save(folder / "stopped-by-1.pt")
    workers = parallel_workers.start(2, parallel_workers.__file__, str(folder), *ALL)
    return folder, parallel_workers.finish(workers)


@pytest.fixture
def folder(group):
    """The folder with what the workers left."""
    return group[0]


def read(folder, case, rank=0):
    file = folder / f"{case}-{rank}.pt"
    assert file.exists(), f"worker {rank} left nothing of {case}: see how the workers ended"
    return torch.load(file, weights_only=True)


def test_workers_end_well(group):
    for code, _, errors in group[1]:
        assert code == 0, errors


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
@pytest.mark.parametrize("rank", [0, 1])
def test_no_thread_of_the_group_is_left_behind_it(folder, rank):
    """One that asks for the interpreter while that is taken down would abort the process."""
    alone, together = read(folder, "threads", rank)
    assert any("gloo" in name for name in together)
    assert read(folder, "threads-left", rank) == alone


def agree(a, b):
    """Equal up to the order of summation."""
    assert set(a["weights"]) == set(b["weights"])
    for name, weight in a["weights"].items():
        torch.testing.assert_close(b["weights"][name], weight, rtol=1e-6, atol=1e-9)
    assert len(a["rows"]) == len(b["rows"]) == 2
    for row, other in zip(a["rows"], b["rows"], strict=True):
        assert other == pytest.approx(row, rel=1e-6)
    assert b["test"] == pytest.approx(a["test"], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_two_workers_end_with_the_weights_and_numbers_of_one(folder, case):
    alone = trained(case)
    agree(alone, read(folder, case))
    start, _ = parallel_workers.make(**CASES[case])
    assert any(not torch.equal(w, alone["weights"][name]) for name, w in start.net.state_dict().items())


@pytest.mark.parametrize(("case", "rows"), [("f3", 67), ("f3-class", 10)])
def test_two_workers_keep_the_errors_of_all_samples(folder, case, rows):
    """Each worker has those that the other one found, and equal weights of the feedback."""
    kept = [read(folder, case, rank)["weights"] for rank in (0, 1)]
    for each in kept:
        assert each["method.table.seen"].all()
        assert each["method.table.errors"].shape == (rows, 10)
        assert (each["method.table.errors"] != 0).any(1).all()
    names = [name for name in kept[0] if name.startswith("method.weights.")]
    assert len(names) == 1
    assert torch.equal(kept[0][names[0]], trained(case)["weights"][names[0]])


@pytest.mark.parametrize("case", CASES)
def test_all_workers_have_the_same_weights_bit_for_bit(folder, case):
    first, second = (read(folder, case, rank) for rank in (0, 1))
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["rows"] == second["rows"]
    assert first["test"] == second["test"]


def test_statistics_of_the_leader_are_those_of_the_checkpoint_and_of_the_evaluation(folder):
    left = read(folder, "normalised")
    trainer, _ = parallel_workers.make(**NORMALISED)
    trainer.net.load_state_dict(left["weights"])
    assert numbers(trainer.evaluate(data.load("digits").test)) == pytest.approx(left["test"], rel=1e-9)
    other = read(folder, "normalised", 1)["weights"]
    assert all(torch.equal(weight, other[name]) for name, weight in left["weights"].items())


def test_silent_layers_are_woken_by_the_whole_first_batch(folder):
    assert read(folder, "woken")["woken"] == trained("woken")["woken"] != {}


def test_random_numbers_differ_between_workers_and_come_back_on_resuming(folder):
    first, second = (read(folder, "random", rank) for rank in (0, 1))
    assert not torch.equal(first["inputs"], second["inputs"])
    assert all(torch.equal(first["weights"][name], first["resumed"][name]) for name in first["weights"])
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])


def test_all_workers_name_the_value_that_one_of_them_found(folder):
    first, second = (read(folder, "not-finite", rank) for rank in (0, 1))
    assert first == second
    assert first.startswith("step 0: the output of layer 1 (Linear) is not finite")


def test_one_worker_that_wants_to_stop_stops_all_at_the_same_step(folder):
    content = torch.load(folder / "stopped-by-2.pt", weights_only=True)
    assert content["position"] == {"epoch": 0, "batch": 3, "step": 3}
    assert content["tally"]["samples"] == 96


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
def test_training_goes_on_with_another_number_of_workers(folder, before, after):
    whole = trained("adam")
    agree(whole, read(folder, f"stopped-by-{before}") if after == 2 else go_on(folder / f"stopped-by-{before}.pt"))


@pytest.mark.slow
def test_three_workers_go_on_from_two_and_share_batches_they_do_not_divide(folder):
    parallel_workers.run(3, folder, "stopped-by-2", "odd", "momentum-in-parts")
    agree(trained("adam"), read(folder, "stopped-by-2", 2))
    agree(trained("odd"), read(folder, "odd"))
    agree(trained("momentum-in-parts"), read(folder, "momentum-in-parts"))


def environment(**values):
    return {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1", **values}


def test_the_environment_of_torchrun_is_understood():
    assert World.of_environment({}) == World(0, 1, 0)
    assert World.of_environment({"WORLD_SIZE": "4"}) == World()  # some clusters set it by themselves
    assert World.of_environment(environment()) == World(1, 4, 0)
    assert not World.of_environment(environment()).leads
    with pytest.raises(UserError, match=r"not MASTER_PORT: start the workers by torchrun"):
        World.of_environment({k: v for k, v in environment().items() if k != "MASTER_PORT"})
    with pytest.raises(UserError, match="'four'"):
        World.of_environment(environment(WORLD_SIZE="four"))
    with pytest.raises(UserError, match="got 4"):
        World.of_environment(environment(RANK="4"))


def test_without_torchrun_there_is_no_group(monkeypatch):
    for name in environment():
        monkeypatch.delenv(name, raising=False)
    with joined() as world:
        assert world == World()
        assert not torch.distributed.is_initialized()
        net = models.mlp([4, 2])
        assert world.replica(net, torch.device("cpu")) is net


def test_alone_a_trainer_leaves_the_random_numbers_to_the_user():
    images, labels = data.load("digits").train.__getitems__(range(8))
    trainer = TemporalTrainer(models.lif_mlp([64, 10]), steps=2)
    state = torch.get_rng_state()
    trainer.train_step(images, labels)
    assert torch.equal(state, torch.get_rng_state())


def test_each_worker_takes_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda *arguments, **options: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda", 1) == torch.device("cuda", 1)
    assert choose_device("cpu", 1) == torch.device("cpu")
    with pytest.raises(UserError, match="worker 2 of this machine has no GPU of its own, there are 2"):
        choose_device("cuda", 2)
    with pytest.raises(UserError, match="--device cuda, not cuda:0"):
        choose_device("cuda:0", 1)


@pytest.mark.gpu
def test_a_world_of_one_trains_on_the_gpu_as_ever():
    train = data.load("digits").train.subset(torch.arange(64))

    def trained_in(**options):
        torch.manual_seed(0)
        trainer = TemporalTrainer(models.lif_mlp([64, 10]), steps=2, device="cuda", **options)
        (row,) = trainer.fit(train, 1)
        return row["train_accuracy"], [p.detach().cpu() for p in trainer.net.parameters()]

    (accuracy, weights), (expected, alone) = trained_in(world=World()), trained_in()
    assert accuracy == expected
    for one, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(one, other)
