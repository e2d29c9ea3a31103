"""Training that starts from given weights: names, shapes and numbers fit, or are refused; what differs is told."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp import models, nn
from spikelfp.errors import CheckpointError, DataError, RunFolderError, UserError
from spikelfp.training import checkpoint
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train
from spikelfp.training.run_folder import RunFolder, read_config, read_started
from spikelfp.training.weights import load_given, read_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "convert"))
from plain_nets import VGG, resnet18, resnet34

SMALL = {"data": "digits", "hidden": (6,), "steps": 2, "epochs": 1, "batch_size": 512, "device": "cpu"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run whose weights others start from."""
    folder = tmp_path_factory.mktemp("base") / "base"
    train(RunConfig(**SMALL, seed=3), folder, progress=False)
    return folder


def weights_of(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["weights"]


def run(folder, lines=None, resume=False, **options):
    echo = (lambda line: None) if lines is None else lines.append
    return train(RunConfig(**SMALL | options), folder, progress=False, resume=resume, echo=echo)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def written(path, content, **options):
    torch.save(content, path, **options)
    return str(path)


def safe(path, tensors):
    """Write a safetensors file of floats by hand."""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.float64: "F64", torch.int64: "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        raw = value.numpy().tobytes()
        header[name] = {
            "dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]
        }  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return str(path)


# --- from where ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/initial.pt"])
def test_a_run_starts_from_another_run(base, tmp_path, path):
    lines = []
    summary = run(tmp_path / "run", lines, weights=str(base / path), seed=5)
    there = (path or "last.pt").rpartition("/")[2].removesuffix(".pt")
    assert equal(weights_of(tmp_path / "run", "initial"), weights_of(base, there))
    assert lines[0].startswith(f"starting from the weights {(base / path).name} (sha256 ")
    assert summary["started"] == {"name": (base / path).name, "sha256": summary["started"]["sha256"], "notes": []}
    assert summary["started"]["sha256"][:16] in lines[0]


def test_a_run_without_given_weights_says_nothing(base):
    assert read_started(RunFolder(base)) is None
    assert "started" not in json.loads((base / "summary.json").read_text())


def files(tmp_path, state):
    yield written(tmp_path / "plain.pt", state)
    yield written(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False)
    yield written(tmp_path / "parallel.pt", {f"module.{name}": value for name, value in state.items()})
    yield written(tmp_path / "compiled.pt", {f"_orig_mod.module.{name}": value for name, value in state.items()})
    for key in ("state_dict", "model", "model_state_dict"):
        yield written(tmp_path / f"{key}.pt", {"epoch": 3, key: state, "best": torch.tensor(0.5)})
    yield safe(tmp_path / "state.safetensors", state)


def test_files_of_all_kinds_hold_the_same_weights(base, tmp_path):
    state = weights_of(base)
    found = [read_weights(path) for path in files(tmp_path, state)]
    assert len({each.digest for each in found}) == 1
    assert all(equal(dict(each.tensors), dict(state)) for each in found)
    other = read_weights(written(tmp_path / "other.pt", {name: value + 1 for name, value in state.items()}))
    assert other.digest != found[0].digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(2)], "no tensors by name"),
        ({"epoch": 1, "notes": "none"}, r"holds no tensors by name, alone or under one of state_dict.*'epoch'"),
        ({"model": {"a": torch.ones(1)}, "state_dict": {"a": torch.ones(1)}}, "state_dict and model, and it is not"),
        ({"a": torch.ones(1), "epoch": 3}, "holds more than weights: epoch is 3"),
        ({"model": {}}, "holds no weights"),
        (torch.nn.Linear(2, 2), "neither plain data nor a tensor"),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_files_without_weights(tmp_path, content, said, new):
    path = written(tmp_path / "file.pt", content, _use_new_zipfile_serialization=new)
    with pytest.raises(DataError, match=said):
        read_weights(path)


def test_what_is_no_file_of_weights(tmp_path, base):
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(DataError, match=r"no file of weights: torch\.save"):
        read_weights(str(tmp_path / "text.pt"))
    with pytest.raises(UserError, match="no run folder"):
        read_weights(str(tmp_path))
    with pytest.raises(UserError, match="there are no weights at"):
        read_weights(str(tmp_path / "absent.pt"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text((base / "config.yaml").read_text())
    with pytest.raises(UserError, match="has no weights yet"):
        read_weights(str(tmp_path / "begun"))
    content = torch.load(base / "checkpoints" / "last.pt", weights_only=True)
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        read_weights(written(tmp_path / "later.pt", content | {"format": 99}))


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("new", [True, False])
def test_no_file_runs_code(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "file.pt", {"a": torch.ones(1), "b": Evil()}, _use_new_zipfile_serialization=new)
    with pytest.raises(DataError, match="neither plain data nor a tensor"):
        read_weights(path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["plain.pt", "old.pth", "state.safetensors"])
def test_damaged_files(base, tmp_path, kind):
    list(files(tmp_path, weights_of(base)))
    whole = (tmp_path / kind).read_bytes()
    for cut in (b"", whole[:9], whole[: len(whole) // 2], whole[:-1], whole + b"\0" * 4):
        (tmp_path / kind).write_bytes(cut)
        with pytest.raises(DataError):
            read_weights(str(tmp_path / kind))


@pytest.mark.parametrize("kind", ["old.pth", "state.safetensors"])
def test_flipped_bytes_are_refused_or_numbers(tmp_path, kind):
    list(files(tmp_path, torch.nn.Linear(3, 2).state_dict()))
    whole, random = (tmp_path / kind).read_bytes(), np.random.default_rng(0)
    refused = []
    for place in random.integers(0, len(whole), 150):
        (tmp_path / kind).write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            found = read_weights(str(tmp_path / kind))
        except DataError as error:
            refused.append(str(error))
        else:
            assert all(value.numel() <= 6 for value in found.tensors.values())
    assert 75 < len(refused) <= 150
    assert not any("\n" in text for text in refused)


def old_file(path, count, declared):
    """An old file whose storage of ``count`` floats is declared to have others."""
    torch.save({"a": torch.ones(count)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"K" + bytes([count])) >= 2  # the storage, and the shape
    path.write_bytes(content.replace(b"K" + bytes([count]), b"K" + bytes([declared])))


def test_an_old_file_cannot_read_beyond_its_end(tmp_path):
    old_file(tmp_path / "long.pt", 77, 99)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_weights(str(tmp_path / "long.pt"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data_offsets": [0, 12]}, "are not those of the tensor"),
        ({"data_offsets": [4, 12]}, "are not those of the tensor"),
        ({"data_offsets": [0]}, "has no shape, or no place"),
        ({"shape": [1 << 60, 1 << 60]}, "are not those of the tensor"),
        ({"shape": [-2]}, "has no shape, or no place"),
        ({"dtype": "F8_E4M3"}, "'F8_E4M3', which is not read"),
        ({"dtype": ["F32"]}, "which is not read"),
        ({"shape": [1], "data_offsets": [0, 4]}, "its tensors take 4 bytes, and 8 are there"),
    ],
)
def test_hostile_safetensors(tmp_path, change, said):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(DataError, match=said):
        read_weights(str(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + header)
    with pytest.raises(DataError, match="no safetensors file, or truncated"):
        read_weights(str(tmp_path / "b.safetensors"))


# --- torchvision -----------------------------------------------------------------------------------------------------

PAIRS = {
    "resnet18": (lambda c: models.resnet18((3, 32, 32), c, width=4, stem="7x7"), resnet18),
    "resnet34": (lambda c: models.resnet34((3, 64, 64), c, width=4, noise=0.1), resnet34),
    "vgg16": (lambda c: models.vgg16((3, 32, 32), c, width=4, head="7x7"), VGG),
    "vgg16-bn": (lambda c: models.vgg16((3, 32, 32), c, width=4, head="7x7", batch_norm=True, noise=0.1),
                 lambda classes: VGG(classes, batch_norm=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_weights_of_torchvision_compute_the_same(name, tmp_path):
    make, plain = PAIRS[name]
    net, theirs = make(5).eval(), plain(classes=5).eval()
    for buffer in theirs.buffers():
        buffer.data = (torch.rand_like(buffer.float()) + 0.5).to(buffer.dtype)
    given = read_weights(written(tmp_path / "net.pth", theirs.state_dict(), _use_new_zipfile_serialization=False))
    assert load_given(net, given, name, 5) == []
    x = torch.randn(2, 3, 64, 64) if name == "resnet34" else torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net(x.unsqueeze(0))[0], theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_the_last_layer_stays_at_its_start_where_the_classes_differ(name, tmp_path):
    make, plain = PAIRS[name]
    net, theirs = make(3), plain(classes=5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    notes = load_given(net, read_weights(written(tmp_path / "net.pth", theirs.state_dict())), name, 3)
    last = "fc" if name.startswith("resnet") else "classifier.6"
    width = theirs.state_dict()[f"{last}.weight"].shape[1]
    assert notes == [
        "the last layer keeps its random start, since the number of classes differs: "
        f"{last}.weight [5, {width}] in the file and [3, {width}] here, {last}.bias [5] in the file and [3] here"
    ]
    after = list(net.state_dict().items())
    kept = [key for key, value in after if torch.equal(value, before[key]) and "batches" not in key]
    assert {key for key, _ in after[-2:]} <= set(kept)
    for (_, own), value in zip(after[:-2], list(theirs.state_dict().values())[:-2], strict=True):
        assert torch.equal(own, value)


def test_counts_of_batches_may_be_missing(tmp_path):
    state = {key: value for key, value in resnet18().state_dict().items() if "num_batches" not in key}
    net = PAIRS["resnet18"][0](5)
    notes = load_given(net, read_weights(written(tmp_path / "net.pth", state)), "resnet18", 5)
    assert notes == ["counts of batches that net.pth lacks start at 0 (20 normalisation layers)"]


@pytest.mark.parametrize(("name", "hint"), [("vgg16", "--head 7x7"), ("resnet18", "--stem 7x7")])
def test_networks_of_small_images_name_the_option_that_fits(name, hint, tmp_path):
    make = {"vgg16": models.vgg16, "resnet18": models.resnet18}[name]
    net = make((3, 32, 32), 5, width=4)
    path = written(tmp_path / "net.pth", PAIRS[name][1](classes=5).state_dict())
    with pytest.raises(
        CheckpointError, match=rf"net\.pth do not fit the network {name}: .* is \[.*\], here \[.*{hint}"
    ):
        load_given(net, read_weights(path), name, 5)


# --- what does not fit -----------------------------------------------------------------------------------------------


def changed(state, **changes):
    """A copy with other values; None leaves one out."""
    found = {key.replace("_", ".", 1): value for key, value in changes.items()}
    return {key: value for key, value in {**state, **found}.items() if value is not None}


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


STATE = {
    "0.weight": torch.ones(4, 3), "0.bias": torch.ones(4), "2.weight": torch.ones(2, 4), "2.bias": torch.ones(2)
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"0_weight": None}, r"0\.weight is missing$"),
        ({"0_weight": None, "0_bias": None}, r"0\.weight, 0\.bias are missing$"),
        ({"4_weight": torch.ones(1)}, r"network mlp: 4\.weight is of no layer here$"),
        (
            {"0_weight": None, "0_weigth": torch.ones(4, 3)},
            r"0\.weight is missing; 0\.weigth \(did you mean 0\.weight\?\) is of no layer here$",
        ),
        ({"0_weight": torch.ones(4, 5)}, r"0\.weight is \[4, 5\], here \[4, 3\]"),
        ({"0_weight": torch.ones(5, 3), "0_bias": torch.ones(5)}, r"0\.weight is \[5, 3\], here \[4, 3\]"),
        ({"2_weight": torch.ones(7, 4)}, r"2\.weight is \[7, 4\], here \[2, 4\]"),
        ({"2_weight": torch.ones(7, 5), "2_bias": torch.ones(7)}, r"2\.weight is \[7, 5\], here \[2, 4\]"),
        ({"2_weight": torch.ones(7, 4), "2_bias": torch.ones(8)}, r"2\.weight is \[7, 4\], here \[2, 4\]"),
        ({"2_weight": torch.ones(7, 4), "2_bias": None}, r"2\.weight is \[7, 4\].*2\.bias is missing"),
        ({"0_bias": torch.ones(4, dtype=torch.int64)}, r"0\.bias is int64, and the network has floats there"),
        ({"0_bias": torch.ones(4, dtype=torch.int8)}, r"0\.bias is int8, and the network has floats there"),
        ({"0_bias": torch.ones(4, dtype=torch.complex64)}, r"0\.bias is complex64"),
        ({"0_bias": torch.tensor([1, 1, 1, torch.nan])}, r"0\.bias holds NaN or infinity"),
        ({"0_bias": torch.tensor([1, 1, 1, torch.inf], dtype=torch.float16)}, r"0\.bias holds NaN or infinity"),
        (
            {"0_bias": torch.full((4,), 1e300, dtype=torch.float64)},
            r"0\.bias has numbers that are too large for float32",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(changes, said, tmp_path):
    net = small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert before.keys() == STATE.keys()
    given = read_weights(written(tmp_path / "net.pt", changed(STATE, **changes)))
    with pytest.raises(CheckpointError, match=said):
        load_given(net, given, "mlp", 2)
    assert equal(net.state_dict(), before)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_sizes_are_converted_and_told(kind, tmp_path):
    net = small()
    state = {name: torch.randn(value.shape).to(kind) for name, value in STATE.items()}
    notes = load_given(net, read_weights(written(tmp_path / "net.pt", state)), "mlp", 2)
    assert notes == [f"weights that are {str(kind)[6:]} in net.pt are float32 here"]
    assert equal(net.state_dict(), {name: value.float() for name, value in state.items()})


def test_one_weight_by_two_names_is_refused(tmp_path):
    state = resnet18().state_dict()
    state["conv1.0.weight"] = state["conv1.weight"]
    with pytest.raises(CheckpointError, match=r"holds conv1\.weight and conv1\.0\.weight, which are one weight"):
        load_given(PAIRS["resnet18"][0](5), read_weights(written(tmp_path / "net.pt", state)), "resnet18", 5)


def test_variances_below_zero_are_refused(tmp_path):
    state = resnet18().state_dict()
    state["bn1.running_var"] = -torch.ones(4)
    with pytest.raises(CheckpointError, match=r"conv1\.1\.running_var is -1 in places"):
        load_given(PAIRS["resnet18"][0](5), read_weights(written(tmp_path / "net.pt", state)), "resnet18", 5)


def test_another_network_is_refused_before_the_folder_changes(base, tmp_path):
    with pytest.raises(CheckpointError, match=r"1\.weight is \[6, 64\], here \[7, 64\]"):
        run(tmp_path / "run", weights=str(base), hidden=(7,))
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run" / "checkpoints").glob("*.pt"))


# --- other options ---------------------------------------------------------------------------------------------------


def test_decays_that_learn_are_weights(base, tmp_path):
    with pytest.raises(CheckpointError, match=r"2\.decay, 4\.decay are missing; a decay that learns .*--learn-beta"):
        run(tmp_path / "fixed", weights=str(base), learn_beta=True)
    run(tmp_path / "learned", learn_beta=True, lr=0.05)
    with pytest.raises(CheckpointError, match=r"2\.decay.*of no layer here; a decay that learns .*--learn-beta"):
        run(tmp_path / "lost", weights=str(tmp_path / "learned"))
    run(tmp_path / "again", weights=str(tmp_path / "learned"), learn_beta=True)
    assert equal(weights_of(tmp_path / "again", "initial"), weights_of(tmp_path / "learned"))


def test_constants_of_other_neurons_are_told(base, tmp_path):
    lines = []
    run(tmp_path / "run", lines, weights=str(base), beta=0.5)
    assert lines[1].startswith("the network differs from that of base: layer 2 was LIF(beta=0.9, ")
    assert "is LIF(beta=0.5, " in lines[1]
    assert "and 0 more" not in lines[1]


def test_quantised_weights(base, tmp_path):
    run(tmp_path / "few", weights=str(base), weight_bits=4)  # floats are put on a grid
    grids = weights_of(tmp_path / "few", "initial")
    assert torch.equal(grids["1.weight"], weights_of(base)["1.weight"])
    net = load_run(tmp_path / "few", "initial").net
    assert net[1].weight_scale.item() == pytest.approx(grids["1.weight"].abs().max().item() / 7, rel=0.5)
    lines = []
    run(tmp_path / "again", lines, weights=str(tmp_path / "few"), weight_bits=4)
    assert "the scales of quantised weights in few are chosen anew" in lines
    with pytest.raises(CheckpointError, match=r"1\.weight_scale.*quantised weights: say --weight-bits, too"):
        run(tmp_path / "floats", weights=str(tmp_path / "few"))


def test_layers_that_stay_silent_are_woken_as_ever(base, tmp_path):
    quiet = {name: value * 1e-3 for name, value in weights_of(base).items()}
    path = written(tmp_path / "quiet.pt", quiet)
    lines = []
    summary = run(tmp_path / "run", lines, weights=path)
    assert summary["wake"]["1"] > 1
    assert any(line.startswith("layer 1 left its neurons silent") for line in lines)
    assert not run(tmp_path / "asleep", weights=path, wake=False)["wake"]


def test_feedback_weights_and_the_warm_up_are_those_of_the_new_run(base, tmp_path):
    states = {}
    for name, options in {"drawn": {}, "given": {"weights": str(base)}}.items():
        run(tmp_path / name, method="f3", credit="step", **options)
        states[name] = torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["method_state"]
    same = [name for name, value in states["drawn"].items() if name == "weights" or "feedback" in name]
    assert all(equal_state(states["drawn"][name], states["given"][name]) for name in same)
    run(tmp_path / "warm", weights=str(base), warm_up_steps=1)
    assert equal(weights_of(tmp_path / "warm", "initial"), weights_of(base))


def equal_state(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_state(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_seed_draws_the_last_layer(tmp_path):
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
    path = written(tmp_path / "net.pt", plain.state_dict())
    heads = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        lines = []
        run(tmp_path / folder, lines, weights=path, model="mlp", steps=None, seed=seed)
        start = weights_of(tmp_path / folder, "initial")
        assert torch.equal(start["1.weight"], plain[1].weight)
        heads.append(start["3.weight"])
        assert lines[1].startswith("the last layer keeps its random start, since the number of classes differs: 3.wei")
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


# --- the record ------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_does_not_load_them_again(base, tmp_path):
    source = tmp_path / "source.pt"
    path = written(source, weights_of(base))
    whole = run(tmp_path / "whole", weights=path, epochs=2, schedule="constant")
    run(tmp_path / "run", weights=path, schedule="constant")
    record = read_config(RunFolder(tmp_path / "run"))[0].run.weights
    pinned = f"{path}@sha256:{read_weights(path).digest}"
    source.unlink()
    run(tmp_path / "run", resume=True, weights=pinned, schedule="constant")
    lines = []
    again = run(tmp_path / "run", lines, resume=True, weights=record, epochs=2, schedule="constant")
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))
    assert again["started"] == whole["started"]
    assert not any(line.startswith("starting from") for line in lines)
    other = written(source, {name: value + 1 for name, value in weights_of(base).items()})
    with pytest.raises(RunFolderError, match=r"other options: weights source\.pt@sha256:.* → source\.pt@sha256:"):
        run(tmp_path / "run", resume=True, weights=other, epochs=2, schedule="constant")


def test_the_record_names_the_weights_and_not_their_folder(base, tmp_path, monkeypatch, here):
    run(tmp_path / "run", weights=str(base))
    text = (tmp_path / "run" / "config.yaml").read_text() + (tmp_path / "run" / "summary.json").read_text()
    assert str(base.parent) not in text
    config = tmp_path / "run" / "config.yaml"
    monkeypatch.chdir(tmp_path)
    done = here("train", "--config", config, "--out", tmp_path / "lost", check=2)
    assert "the weights base that the run was started from are not here" in done.stderr
    assert "--weights FOLDER/base@sha256:" in done.stderr
    here("train", "--config", config, "--weights", base, "--out", tmp_path / "again", "--no-report")
    assert equal(weights_of(tmp_path / "again"), weights_of(tmp_path / "run"))
    monkeypatch.chdir(base.parent)
    here("train", "--config", config, "--out", tmp_path / "beside", "--no-report")  # the record is a path from here
    assert (tmp_path / "beside" / "config.yaml").read_text().count("base@sha256:") == 1


def test_a_run_that_was_killed_before_its_first_checkpoint_asks_for_the_weights(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "run", weights=str(base))
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "metrics.csv", "summary.json"):
        (tmp_path / "run" / name).unlink()
    record = read_config(RunFolder(tmp_path / "run"))[0].run.weights
    with pytest.raises(UserError, match=f"base that the run was started from are not here.*FOLDER/{record}"):
        run(tmp_path / "run", resume=True, weights=record)
    lines = []
    run(tmp_path / "run", lines, resume=True, weights=str(base))
    assert lines[0].startswith("starting from the weights base")


def test_a_path_with_a_hash_is_checked(base, tmp_path):
    digest = read_weights(str(base)).digest
    assert read_weights(f"{base}@sha256:{digest}").digest == digest
    with pytest.raises(UserError, match=r"holds other weights than those that are asked for: sha256 .*expected 0{16}"):
        read_weights(f"{base}@sha256:{'0' * 16}")


def test_the_report_says_what_the_run_started_from(base, tmp_path, here):
    path = written(tmp_path / "net.pt", models.lif_mlp([64, 6, 4]).state_dict())
    options = ("--hidden", 6, "--steps", 2, "--epochs", 1, "--batch-size", 512, "--quiet")
    here("train", *options, "--weights", path, "--out", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the weights net.pt (sha256 " in page
    assert "the last layer keeps its random start" in page
    assert "3.weight [4, 6] in the file and [10, 6] here" in page
    assert str(tmp_path) not in page
    shown = here("train", "--help").stdout
    assert "--weights" in shown


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ("text", "started is 'text', expected values by name"),
        ({"name": "a", "sha256": "b"}, r"started\.notes is missing"),
        ({"name": "a", "sha256": 3, "notes": []}, r"started\.sha256 is 3, expected text"),
        ({"name": "a", "sha256": "b", "notes": [1]}, r"started\.notes\[0\] is 1, expected text"),
    ],
)
def test_a_damaged_record_is_refused(base, tmp_path, started, said):
    (tmp_path / "config.yaml").write_text((base / "config.yaml").read_text() + f"started: {json.dumps(started)}\n")
    with pytest.raises(RunFolderError, match=said):
        read_config(RunFolder(tmp_path))


def test_chosen_delays_stay_chosen(tmp_path):
    options = {"delays": (0, 1), "choose_delays": 1, "epochs": 2}
    run(tmp_path / "first", **options)
    there = weights_of(tmp_path / "first")
    run(tmp_path / "second", weights=str(tmp_path / "first"), delays=(0, 1))
    assert equal(weights_of(tmp_path / "second", "initial"), there)
    assert any(name.endswith(".mask") for name in there)
    checkpoint.read(tmp_path / "second" / "checkpoints" / "last.pt")
