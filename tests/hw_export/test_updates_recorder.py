"""Recording: what is written when, what a failure leaves, and going on."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from torch.nn.utils import prune
from updates_nets import nudge, recorded, same, small

from hw_export import quantize
from hw_export.updates import IntegerImage, UpdateRecorder, grids_of, inspect, replay
from hw_export.updates.recorder import StreamFile
from spikelfp import TemporalTrainer, data, models, nn
from spikelfp.errors import NonFiniteError, SaveError, ShapeError, UserError
from spikelfp.quantized import Grid


@pytest.fixture
def net() -> nn.Sequential:
    return small()


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("input_scale", [None, 16])
def test_the_integers_are_those_of_quantize(bits, input_scale):
    net = models.lif_mlp((12, 20, 4))
    quantized = quantize(net, bits, input_scale=input_scale)
    image = IntegerImage.of(net, grids_of(net, bits, input_scale=input_scale))
    for name, p in quantized.named_parameters():
        assert np.array_equal(image.arrays[name], p.numpy()), name
    real = image.to_net(net)
    for (name, p), live in zip(real.named_parameters(), net.parameters(), strict=True):
        unit = image.grids[name].scale
        within = image.arrays[name].reshape(-1)
        inside = torch.from_numpy((within > image.grids[name].low) & (within < image.grids[name].high))
        assert (p - live).abs().flatten()[inside].max() <= unit / 2 * 1.001


@pytest.mark.parametrize("headroom", [1.0, 2.0, 3.7])
@pytest.mark.parametrize("input_scale", [None, 10])
def test_headroom_keeps_thresholds_whole(headroom, input_scale):
    net = models.lif_mlp((12, 20, 4))
    grids = grids_of(net, 8, headroom=headroom, input_scale=input_scale)
    plain = quantize(net, 8, input_scale=input_scale).report
    for index, (report, lif) in enumerate(zip(plain, (net[2], net[4]), strict=True)):
        factor = input_scale if index == 0 and input_scale else 1
        scale = grids[f"{report.layer}.weight"].scale
        steps = lif.threshold * factor / scale - 49 / 128
        assert steps / factor == pytest.approx(round(steps / factor), abs=1e-3)
        assert scale / report.scale == pytest.approx(headroom, rel=0.05)
        assert grids[f"{report.layer}.bias"].scale == pytest.approx(scale / factor)


def test_what_has_no_form_in_integers():
    with pytest.raises(UserError, match=r"2.decay has no form in integers"):
        grids_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.LIF(learn_beta=True)))
    with pytest.raises(UserError, match="2 to 16 bits"):
        grids_of(small(), 32)
    with pytest.raises(UserError, match="headroom"):
        grids_of(small(), headroom=0.5)
    grids = grids_of(small())
    with pytest.raises(UserError, match=r"1.bias: no grid is given"):
        IntegerImage.of(small(), {name: grid for name, grid in grids.items() if name != "1.bias"})
    with pytest.raises(UserError, match="a grid without a parameter"):
        IntegerImage.of(small(), {**grids, "9.weight": Grid(1.0, -1, 1)})
    with pytest.raises(UserError, match="within ±2\\^24"):
        IntegerImage.of(small(), {**grids, "1.bias": Grid(1.0, 0, 2**25)})


def test_steps_without_a_change_write_nothing(net, tmp_path):
    with UpdateRecorder(net, tmp_path / "a") as recorder:
        size = (tmp_path / "a").stat().st_size
        for _ in range(5):
            assert recorder.step() is None
        assert (tmp_path / "a").stat().st_size == size
        assert recorder.frames == 0
    image = replay(tmp_path / "a", strict=True)
    assert (image.step, image.notes) == (5, ())


def test_a_frame_holds_exactly_what_changed(net, random, tmp_path):
    with UpdateRecorder(net, tmp_path / "a") as recorder:
        before = recorder.image()
        nudge(net, random)
        frame = recorder.step()
        after = recorder.image()
    for change in frame.changes:
        old, new = (image.arrays[change.parameter].reshape(-1) for image in (before, after))
        assert np.array_equal(change.indices, np.flatnonzero(old != new))
        assert np.array_equal(change.values, new[change.indices])
    assert frame.changed == sum(int((before.arrays[n] != after.arrays[n]).sum()) for n in before.arrays)


def test_the_trainer_drives_it(tmp_path):
    digits, steps = data.load("digits"), 12
    torch.manual_seed(0)
    net = models.lif_mlp([64, 32, 10])
    images = {}
    with UpdateRecorder(net, tmp_path / "a") as recorder:
        trainer = TemporalTrainer(
            net, steps=5, batch_size=1, schedule="constant", wake=False,
            should_stop=lambda: trainer.position.step >= steps,
        )  # fmt: skip

        def after(position: object) -> None:
            recorder.after_step(position)
            images[trainer.position.step] = IntegerImage.of(net, recorder.base.grids)

        trainer.fit(digits.train, 1, after_step=after)
    assert len(images) == steps
    for step, image in images.items():
        assert same(replay(tmp_path / "a", upto=step), image)
    assert inspect(tmp_path / "a").frames > steps / 2


def test_an_exception_leaves_a_stream_that_says_so(net, random, tmp_path):
    with pytest.raises(KeyboardInterrupt), UpdateRecorder(net, tmp_path / "a") as recorder:  # noqa: PT012
        nudge(net, random)
        recorder.step()
        raise KeyboardInterrupt
    assert "not closed" in replay(tmp_path / "a").notes[0]
    with pytest.raises(UserError, match="is closed"):
        recorder.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_not_recorded(net, random, tmp_path, value):
    images = []
    with pytest.raises(NonFiniteError, match=r"3.weight holds NaN or infinity after step 2"):  # noqa: PT012, SIM117
        with UpdateRecorder(net, tmp_path / "a") as recorder:
            nudge(net, random)
            recorder.step()
            images.append(recorder.image())
            nudge(net, random)
            with torch.no_grad():
                net[3].weight[1, 1] = value
            recorder.step()
    assert same(replay(tmp_path / "a"), images[0])


def test_a_full_disk_takes_the_frame_back(net, random, tmp_path, monkeypatch):
    recorder = UpdateRecorder(net, tmp_path / "a")
    nudge(net, random)
    recorder.step()
    size = (tmp_path / "a").stat().st_size
    file = recorder._file._file

    class Full:
        """Takes ten bytes and no more."""

        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

        def write(self, content: bytes) -> int:
            if file.tell() > size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return file.write(content[:10])

    monkeypatch.setattr(recorder._file, "_file", Full())
    nudge(net, random)
    with pytest.raises(SaveError, match="No space left on device; the frames before are unchanged"):
        recorder.step()
    assert (tmp_path / "a").stat().st_size == size
    monkeypatch.setattr(recorder._file, "_file", file)
    nudge(net, random)
    recorder.step()  # the next frame has what the lost one had
    recorder.close()
    assert same(replay(tmp_path / "a", strict=True), IntegerImage.of(net, recorder.base.grids))


def test_a_crash_in_the_middle_of_a_frame_and_going_on(net, random, tmp_path):
    path = tmp_path / "a"
    recorder = UpdateRecorder(net, path, every=2)
    kept = {}
    for _ in range(6):
        nudge(net, random)
        recorder.step()
    kept.update({name: p.detach().clone() for name, p in net.named_parameters()})
    before = recorder.image()
    whole = path.read_bytes()
    nudge(net, random)
    recorder.step(), recorder.step()
    path.write_bytes(path.read_bytes()[:-3])  # the last frame is cut
    with pytest.raises(UserError, match="ends at step 6 with other weights than the network has"):
        UpdateRecorder(net, path, resume=True)
    net.load_state_dict(kept)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(UserError, match="being written by another recorder"):
            UpdateRecorder(net, path, **options)
    recorder._file._file.close()  # as the end of its process does
    with UpdateRecorder(net, path, resume=True) as again:
        assert path.read_bytes() == whole, "the cut frame is gone"
        assert (again.steps, again.every) == (6, 2)
        assert same(again.base, before)
        nudge(net, random)
        again.step()
    assert same(replay(path, upto=6), before)
    image = replay(path, strict=True)
    assert image.step == 7
    assert same(image, IntegerImage.of(net, again.base.grids))
    with UpdateRecorder(net, path, resume=True) as third:  # behind a mark
        nudge(net, random)
        third.step()
    assert same(replay(path, strict=True), IntegerImage.of(net, again.base.grids))


def test_going_on_without_the_base_image(net, random, tmp_path):
    with UpdateRecorder(net, tmp_path / "a", embed=False) as recorder:
        nudge(net, random)
        recorder.step()
    with pytest.raises(UserError, match="does not hold its base image"):
        UpdateRecorder(net, tmp_path / "a", resume=True)
    with UpdateRecorder(net, tmp_path / "a", resume=True, base=recorder.base) as again:
        nudge(net, random)
        again.step()
    assert same(replay(tmp_path / "a", recorder.base, strict=True), IntegerImage.of(net, recorder.base.grids))


def test_files_and_options_that_are_refused(net, tmp_path):
    recorded(tmp_path / "a", steps=2)
    content = (tmp_path / "a").read_bytes()
    for options, text in (
        ({}, "exists already"),
        ({"resume": True, "overwrite": True}, "exclude each other"),
        ({"every": 0}, "every"),
        ({"bits": 1, "overwrite": True}, "bits"),
    ):
        with pytest.raises(UserError, match=text):
            UpdateRecorder(net, tmp_path / "a", **options)
    assert (tmp_path / "a").read_bytes() == content
    with pytest.raises(UserError, match=r"other weights|no grid|a grid without"):
        UpdateRecorder(small((6, 4, 3)), tmp_path / "a", resume=True)
    with pytest.raises(UserError, match="No such file"):
        UpdateRecorder(net, tmp_path / "nothing", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="cannot write"):
        UpdateRecorder(net, tmp_path / "file" / "a")
    assert (tmp_path / "a").read_bytes() == content


def test_a_parameter_of_another_shape(net, tmp_path):
    with UpdateRecorder(net, tmp_path / "a") as recorder:
        recorder.net = small((6, 4, 3))
        with pytest.raises(ShapeError, match=r"the recording began with \(5, 6\)"):
            recorder.step()
        recorder.net = net


def test_an_appended_record_starts_where_the_last_whole_one_ended(tmp_path):
    file = StreamFile.create(tmp_path / "a", b"\x00")
    with open(tmp_path / "a", "ab") as other:
        other.write(b"left by somebody")
    file.append(b"\x01")
    file.close()
    assert b"left" not in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_kind_of_floats_is_recorded_as_it_is_rounded(tmp_path, net, random, dtype):
    net = net.to(dtype)
    recorder = UpdateRecorder(net, tmp_path / "a", input_scale=255)
    for _ in range(4):
        nudge(net, random, 0.02)
        recorder.step()
        live = dict(net.named_parameters())
        for p in recorder.base.parameters:
            assert np.array_equal(recorder.image().arrays[p.name], p.integers(live[p.name])), p.name
    recorder.close()
    assert same(replay(tmp_path / "a"), recorder.image())


def test_a_parameter_that_is_renamed_during_a_recording_is_told(tmp_path, net):
    recorder = UpdateRecorder(net, tmp_path / "a")
    layer = next(layer for layer in net if isinstance(layer, nn.Linear))
    prune.l1_unstructured(layer, "weight", 0.5)
    with pytest.raises(UserError, match="has it no more"):
        recorder.step()


def test_a_network_that_cannot_be_trained_is_not_recorded(tmp_path):
    with torch.inference_mode():
        net = small()
    with pytest.raises(UserError, match="inference_mode"):
        UpdateRecorder(net, tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": 4}, "has bits 8, not 4"),
        ({"every": 3}, "has every 2, not 3"),
        ({"grids": "coarser"}, "a grid of its own, not the grid that is given"),
    ],
)
def test_options_that_a_resumed_stream_contradicts(tmp_path, net, options, text):
    UpdateRecorder(net, path := tmp_path / "a", every=2).close()
    before = path.read_bytes()
    if "grids" in options:
        options = {"grids": grids_of(net, 8, headroom=2)}
    with pytest.raises(UserError, match=text):
        UpdateRecorder(net, path, resume=True, **options)
    assert path.read_bytes() == before
    with UpdateRecorder(net, path, resume=True, bits=8, every=2) as again:
        assert again.every == 2
    UpdateRecorder(net, path, resume=True, grids=again.base.grids).close()


@pytest.mark.parametrize("option", [{"bits": 8}, {"clip": "max"}, {"headroom": 2.0}, {"input_scale": 4}])
def test_options_without_effect_beside_grids(tmp_path, net, option):
    with pytest.raises(UserError, match=f"so that {next(iter(option))} has no effect"):
        UpdateRecorder(net, tmp_path / "a", grids=grids_of(net, 8), **option)
    with pytest.raises(UserError, match="base is the image from which a stream began that is resumed"):
        UpdateRecorder(net, tmp_path / "a", base=IntegerImage.of(net, grids_of(net)))
