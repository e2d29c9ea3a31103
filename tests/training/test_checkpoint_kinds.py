"""Checkpoints of networks and trainers that people have: buffers of every kind, steps of one's own, copies."""

import copy
import math
import pickle

import pytest
import torch

from spikelfp import nn
from spikelfp.errors import CheckpointError, UserError
from spikelfp.training import TemporalTrainer, checkpoint

X, Y = torch.rand(48, 6, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 4


class BatchResult(torch.nn.Module):
    """A network with a buffer, of which each pass fills in the first half."""

    def __init__(self, buffer):
        super().__init__()
        self.hidden, self.spikes, self.out, self.last = nn.Linear(6, 8), nn.LIF(), nn.Linear(8, 4), nn.LIF()
        self.register_buffer("seen", buffer.clone())

    def forward(self, x):
        h = self.spikes(self.hidden(x))
        self.seen[:2] = h.detach().mean().to(self.seen.dtype)
        return self.last(self.out(h))


def trainer(net=None, **options):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), nn.LIF(), nn.Linear(8, 4), nn.LIF()) if net is None else net()
    return TemporalTrainer(plain, **{"steps": 3, "batch_size": 16, "device": "cpu"} | options)


BUFFERS = {
    "no number yet": torch.full((4,), math.nan),
    "least value so far": torch.full((4,), -math.inf),
    "a filter of complex numbers": torch.full((4,), 1j),
    "bfloat16": torch.ones(4, dtype=torch.bfloat16),
    "16 bits without a sign": torch.full((4,), 65535, dtype=torch.uint16),
    "32 bits without a sign": torch.full((4,), 2**32 - 1, dtype=torch.uint32),
    "8-bit floats": torch.ones(4).to(torch.float8_e4m3fn),
    "switches": torch.ones(4, dtype=torch.bool),
}


@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS)
def test_a_buffer_of_any_kind_goes_on_bit_for_bit(buffer, tmp_path):
    whole = trainer(lambda: BatchResult(buffer))
    whole.fit((X, Y), 1)
    whole.save(tmp_path / "c.pt")
    whole.fit((X, Y), 2)
    again = trainer(lambda: BatchResult(buffer))
    again.load(tmp_path / "c.pt")
    again.fit((X, Y), 2)
    for name, value in whole.net.state_dict().items():
        other = again.net.state_dict()[name]
        assert torch.equal(value.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)), name


def test_what_became_nan_is_refused_in_a_buffer_too(tmp_path):
    broken = trainer(lambda: BatchResult(torch.zeros(4)))
    broken.fit((X, Y), 1)
    broken.net.seen[3] = math.nan
    broken.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="seen holds NaN or infinity"):
        trainer(lambda: BatchResult(torch.zeros(4))).load(tmp_path / "c.pt")


def test_nan_in_a_weight_is_refused_even_where_the_network_has_it(tmp_path):
    broken = trainer()
    broken.fit((X, Y), 1)
    with torch.no_grad():
        broken.net[0].weight[0, 0] = math.nan
    broken.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        broken.load(tmp_path / "c.pt")


def test_a_buffer_that_torch_cannot_load_is_told_in_one_line_and_nothing_changes(tmp_path):
    class Wide(BatchResult):
        def __init__(self):
            super().__init__(torch.zeros(4))
            self.register_buffer("wide", torch.zeros(1).expand(100))

    first = trainer(Wide)
    first.fit((X, Y), 1)
    first.save(tmp_path / "c.pt")
    second = trainer(Wide)
    before = copy.deepcopy(second.net.state_dict())
    with pytest.raises(CheckpointError, match=r'copying the parameter named "wide"') as told:
        second.load(tmp_path / "c.pt")
    assert "\n" not in str(told.value)
    assert all(torch.equal(value, before[name]) for name, value in second.net.state_dict().items())


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "linear"])
def test_a_step_of_ones_own_between_load_and_save_moves_the_schedule_too(schedule, tmp_path):
    whole = trainer(schedule=schedule)
    whole.fit((X, Y), 3, after_step=lambda place: whole.save(tmp_path / "c.pt") if place.step == 4 else None)
    other = trainer(schedule=schedule)
    other.load(tmp_path / "c.pt")
    rate = other.optimizer.param_groups[0]["lr"]
    other.train_step(X[:16], Y[:16])
    assert other.optimizer.param_groups[0]["lr"] != rate
    other.save(tmp_path / "d.pt")
    trainer(schedule=schedule).load(tmp_path / "d.pt")


def test_a_step_behind_the_end_of_a_schedule_is_refused_before_anything_changes(tmp_path):
    done = trainer(schedule="one-cycle")
    done.fit((X, Y), 1)
    before = copy.deepcopy(done.net.state_dict())
    with pytest.raises(UserError, match="was made for 3 steps"):
        done.train_step(X[:16], Y[:16])
    assert all(torch.equal(value, before[name]) for name, value in done.net.state_dict().items())
    done.save(tmp_path / "c.pt")
    trainer().load(tmp_path / "c.pt")


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))], ids=["copy", "pickle"]
)
def test_a_copy_of_a_trainer_goes_on_as_the_trainer_does(copied):
    first = trainer()
    first.fit((X, Y), 1)
    second = copied(first)
    for each in (first, second):
        each.fit((X, Y), 2)
    weights = second.net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.net.state_dict().items())
    assert checkpoint.constants(first.net) == checkpoint.constants(second.net)
