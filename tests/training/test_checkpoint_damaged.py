"""A checkpoint that is damaged, or another's, is refused in one line, and nothing has changed then."""

import copy
import io
import random

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, ReduceLROnPlateau, SequentialLR

from spikelfp import data, nn
from spikelfp.errors import CheckpointError, RunFolderError, UserError
from spikelfp.kernels.choice import choices
from spikelfp.quantized import Quantization
from spikelfp.training import TemporalTrainer, checkpoint
from spikelfp.training.run_folder import check_found
from spikelfp.untrusted.tensors import canonical

TRAIN = data.load("digits").train.subset(torch.arange(64))


def trainer(**options):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LIF(learn_beta=True), nn.Flatten(), nn.Linear(72, 10), nn.LIF()
    )
    return TemporalTrainer(net, **{"steps": 2, "batch_size": 16, "device": "cpu", "wake": False} | options)


KINDS = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "schedule": "cosine", "lr": 0.01},
    "momentum": {"optimizer": "momentum", "schedule": "linear", "lr": 0.01, "max_weight": 2.0},
    "quantised": {"quantization": Quantization(bits=4), "schedule": "constant"},
    "plateau": {"optimizer": torch.optim.RMSprop, "schedule": lambda optimizer, steps: ReduceLROnPlateau(optimizer)},
    "parts": {"accumulate": 2, "optimizer": torch.optim.Adafactor, "schedule": "step"},
    "chained": {
        "optimizer": torch.optim.AdamW,
        "schedule": lambda optimizer, steps: SequentialLR(
            optimizer, [LinearLR(optimizer, total_iters=2), MultiStepLR(optimizer, [2, 4])], [2]
        ),
    },
}


def content_of(one):
    """All that a checkpoint keeps of a trainer."""
    return {
        "weights": one.net.state_dict(),
        "optimizer": one.optimizer.state_dict(),
        "position": vars(one.position),
        "tally": vars(one.tally),
        "history": one.history,
        "planned": vars(one.planned),
        "random": checkpoint.random_states(),
        "events": {name: choice.events for name, choice in choices(one.net).items()},
        "schedule": checkpoint.schedule_state(one),
    }


def written(content):
    buffer = io.BytesIO()
    torch.save(canonical(content), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """A checkpoint in the middle of the second epoch: options of its trainer, and its file."""
    path = tmp_path_factory.mktemp("saved") / "c.pt"
    one = trainer(**KINDS[request.param])
    one.should_stop = lambda: one.position.step >= 5
    one.fit(TRAIN, 3)
    assert (one.position.epoch, one.position.batch) == (1, 1)
    one.save(path)
    trainer(**KINDS[request.param]).load(path)
    return KINDS[request.param], path


ODD = [
    None, True, -1, 1, 2**70, float("inf"), float("nan"), -1e300, 3.5, "x", "\x1b[31m\n", b"z", [], {}, (), [1, 2],
    {"a": 1}, torch.tensor(float("nan")), torch.zeros(0), torch.zeros(3, 5), torch.tensor(-2), torch.tensor([1 + 2j]),
    torch.zeros(1).expand(10), torch.eye(2).to_sparse(), torch.empty(3, device="meta"), torch.float32, 10**9,
    torch.nn.Parameter(torch.ones(2)),
]  # fmt: skip


def leaves(value, place=()):
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    yield place
    for key, each in inside:
        if not isinstance(key, int) or key < 12 or key == len(value) - 1:
            yield from leaves(each, (*place, key))


def replaced(value, place, other):
    if not place:
        return other
    key, *rest = place
    if isinstance(value, dict):
        return {**value, key: replaced(value[key], rest, other)}
    each = [*value]
    each[key] = replaced(value[key], rest, other)
    return type(value)(each)


def without(value, place):
    """The content without the value at ``place``."""
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    rest = {**holder} if isinstance(holder, dict) else [*holder]
    del rest[place[-1]]
    return replaced(value, place[:-1], rest)


def line_of(call):
    """What ``call`` is refused with, on one line; ``None`` if it is not."""
    line = None
    try:
        call()
    except (UserError, ArithmeticError) as error:
        line = str(error)
    assert line is None or (line.isprintable() and len(line) < 900), line
    return line


def outcome(one, path):
    """Load the file; ``None`` for one that loads, else the one line, with nothing changed."""
    before = written(content_of(one))
    line = line_of(lambda: one.load(path))
    assert line is None or written(content_of(one)) == before, f"changed, though refused: {line}"
    return line


def test_what_is_odd_is_refused_or_trains_on(saved, tmp_path):
    options, path = saved
    content, chance = torch.load(path, weights_only=True), random.Random(0)
    places = [place for place in leaves(content) if place]
    bad, one, refused = tmp_path / "bad.pt", trainer(**options), 0
    for _ in range(20):
        place = chance.choice(places)
        other = without(content, place) if chance.random() < 0.15 else replaced(content, place, chance.choice(ODD))
        torch.save(other, bad)
        if outcome(one, bad) is not None:
            refused += 1
            continue
        one.should_stop = lambda: True
        line_of(lambda: one.fit(TRAIN, 3))  # noqa: B023 (called at once)
        one = trainer(**options)
    assert refused > 12


def test_a_flipped_bit_is_told_or_means_nothing(saved, tmp_path):
    options, path = saved
    good, chance, bad = path.read_bytes(), random.Random(1), tmp_path / "bad.pt"
    one, reference = trainer(**options), trainer(**options)
    reference.load(path)
    expected = written(content_of(reference))
    for _ in range(20):
        flipped = bytearray(good)
        flipped[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        bad.write_bytes(flipped)
        if outcome(one, bad) is None:
            assert written(content_of(one)) == expected
            one = trainer(**options)


def test_a_flipped_bit_of_a_weight_is_told(saved, tmp_path):
    options, path = saved
    good = path.read_bytes()
    weight = torch.load(path, weights_only=True)["weights"]["4.weight"].numpy().tobytes()
    at = good.index(weight)
    for place in (at, at + len(weight) // 2, at + len(weight) - 1):
        (tmp_path / "bad.pt").write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert "CRC" in outcome(trainer(**options), tmp_path / "bad.pt")


def test_a_record_marked_as_a_folder_is_refused(saved, tmp_path):
    """Torch takes it for one, reads nothing, and hands out what was in memory before."""
    options, path = saved
    good = path.read_bytes()
    entry = good.rindex(b"PK\1\2", 0, good.rindex(b"/data/3"))
    (tmp_path / "bad.pt").write_bytes(good[: entry + 38] + b"\x10" + good[entry + 39 :])
    assert "no file of torch.save" in outcome(trainer(**options), tmp_path / "bad.pt")


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("weights", "4.weight"), torch.full((10, 72), float("nan")), r"4\.weight holds NaN or infinity"),
        (("weights", "4.weight"), torch.zeros(10, 72, dtype=torch.float64), r"4\.weight is torch\.float64"),
        (("weights", "1.running_var"), -torch.ones(2), r"1\.running_var is -1 in places"),
        (("weights", "2.decay"), torch.tensor(1.5), r"2\.decay is 1\.5"),
        (("optimizer", "state", 0, "exp_avg"), torch.zeros(3), r"optimizer\.state\.0\.exp_avg .*shape \[2, 1, 3, 3\]"),
        (("optimizer", "state", 0, "exp_avg_sq"), -torch.ones(2, 1, 3, 3), r"exp_avg_sq .*0 or more"),
        (("optimizer", "state", 0, "step"), torch.tensor(-1.0), r"state\.0\.step .*0 or more"),
        (("optimizer", "state", 0, "step"), torch.tensor(float("nan")), r"state\.0\.step is NaN"),
        (("optimizer", "param_groups", 0, "betas"), (0.9, 2.0), r"param_groups\[0\]\.betas.*from 0 to 1"),
        (("optimizer", "param_groups", 0, "maximize"), True, r"maximize True, this trainer has False"),
        (("position", "step"), -1, r"position\.step is -1"),
        (("position", "batch"), "1", r"position\.batch is '1'"),
        (("tally", "samples"), None, r"tally\.samples is None"),
        (("random", "torch"), torch.zeros(5056, dtype=torch.uint8), r"random\.torch"),
        (("random", "numpy"), ("MT19937", torch.zeros(624, dtype=torch.int64), 9999, 0, 0.0), r"random\.numpy\[2\]"),
        (("random", "python"), (3, [0] * 624, None), r"random\.python\[1\]"),
        (("schedule", "last_epoch"), 4, r"schedule\.last_epoch is 4, expected 5"),
        (("schedule", "total_steps"), "12", r"schedule\.total_steps is '12'"),
        (("events", "4"), 1, r"events\.4 is 1, expected true or false"),
        (("history", 0, "epoch"), 2, r"history\[0\]\.epoch is 2, expected 1"),
        (("total_steps",), -5, r"total_steps is -5"),
        (("rules",), [1], r"rules is list of 1"),
        (("seed",), torch.tensor(0), r"seed is a tensor"),
    ],
)
def test_the_first_value_that_is_wrong_is_named(tmp_path, place, value, named):
    one = trainer()
    one.should_stop = lambda: one.position.step >= 5
    one.fit(TRAIN, 3)
    one.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    torch.save(replaced(content, place, value), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=named) as found:
        trainer().load(tmp_path / "c.pt")
    assert str(tmp_path / "c.pt") in str(found.value)


def test_equal_runs_give_equal_bytes(tmp_path):
    def run(name, stops=False):
        one = trainer()
        one.should_stop = lambda: stops and one.position.step >= 5
        one.fit(TRAIN, 3)
        one.save(tmp_path / name)
        return tmp_path / name

    whole = run("a.pt").read_bytes()
    assert run("b.pt").read_bytes() == whole
    again = trainer()
    again.load(run("half.pt", stops=True))
    again.save(tmp_path / "half-again.pt")
    assert (tmp_path / "half-again.pt").read_bytes() == (tmp_path / "half.pt").read_bytes()
    again.fit(TRAIN, 3)
    again.save(tmp_path / "c.pt")
    assert (tmp_path / "c.pt").read_bytes() == whole


def test_a_schedule_that_was_loaded_is_saved_again(tmp_path):
    one = trainer()
    one.should_stop = lambda: one.position.step >= 5
    one.fit(TRAIN, 3)
    one.save(tmp_path / "a.pt")
    between = trainer()
    between.load(tmp_path / "a.pt")
    between.save(tmp_path / "b.pt")
    whole, again = trainer(), trainer()
    whole.fit(TRAIN, 3)
    again.load(tmp_path / "b.pt")
    again.fit(TRAIN, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), again.net.parameters(), strict=True))


def test_state_in_another_order_in_memory_is_the_same_state(tmp_path):
    one, other = trainer(), trainer()
    one.fit(TRAIN, 1)
    one.save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    state = content["optimizer"]["state"]
    shared = torch.cat([state[5]["exp_avg"].flatten(), state[5]["exp_avg_sq"].flatten()])
    for name, part in zip(("exp_avg", "exp_avg_sq"), shared.chunk(2), strict=True):
        state[5][name] = part.view(10, 72)  # views of one memory
    state[0]["exp_avg"] = state[0]["exp_avg"].transpose(2, 3).contiguous().transpose(2, 3)
    torch.save(content, tmp_path / "d.pt")
    one.load(tmp_path / "c.pt")
    other.load(tmp_path / "d.pt")
    for each in (one, other):
        each.fit(TRAIN, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))


def test_what_would_not_load_again_is_not_written(tmp_path):
    one = trainer()
    one.fit(TRAIN, 1, after_epoch=lambda row: row.update(layer=nn.LIF()))
    with pytest.raises(UserError, match=r"history\[0\]\.layer is a LIF"):
        one.save(tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()


def test_a_mask_of_infinities_is_no_damage(tmp_path):
    def masked(value=float("-inf")):
        net = nn.Sequential(nn.Linear(4, 2))
        net.register_buffer("mask", torch.tensor([0.0, value]))
        return net

    checkpoint.write(tmp_path / "w.pt", {"weights": masked().state_dict()})
    checkpoint.load_weights(tmp_path / "w.pt", masked())
    with pytest.raises(CheckpointError, match="mask holds NaN or infinity"):
        checkpoint.load_weights(tmp_path / "w.pt", masked(1.0))


def test_a_layer_that_refuses_its_weights_leaves_all_as_it_was(tmp_path):
    class Choosy(nn.Linear):
        def _load_from_state_dict(self, state, prefix, *arguments):
            super()._load_from_state_dict(state, prefix, *arguments)
            if float(state[f"{prefix}bias"][0]) == 7:
                raise KeyError("no\nthanks")

    net = nn.Sequential(nn.Linear(4, 3), Choosy(3, 2))
    other = nn.Sequential(nn.Linear(4, 3), Choosy(3, 2))
    with torch.no_grad():
        other[1].bias.fill_(7)
    checkpoint.write(tmp_path / "w.pt", {"weights": other.state_dict()})
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CheckpointError, match="does not load: "):
        checkpoint.load_weights(tmp_path / "w.pt", net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shape": [1, -8, 8]}, r"shape\[1\] is -8"),
        ({"shape": [2**20, 2**20]}, "shape is list of 2"),
        ({"shape": 64}, "shape is 64"),
        ({"classes": 2**40}, "classes is 1099511627776"),
        ({"classes": True}, "classes is True"),
        ({"woken": [1]}, "woken is list of 1"),
        ({"woken": {"1": float("nan")}}, r"woken\.1 is nan"),
        ({"class_names": {"a": 1}}, "class_names is dict of 1"),
    ],
)
def test_what_a_run_says_of_its_data_is_checked(change, named):
    with pytest.raises(RunFolderError, match=named):
        check_found("config.yaml", {"shape": [1, 8, 8], "classes": 10, "class_names": ["a"], "woken": None, **change})
