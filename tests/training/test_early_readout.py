"""Early readout against a loop over samples and steps."""

import pytest
import torch
from sequence_data import Recordings, make, mlp, recordings, recurrent

from spikelfp import data, models, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.training import EarlyReadout, TemporalTrainer, early_readout

MARGINS = (0, 1, 2.5, 6, 1000)


def slow(net, dataset, margins, readout=None):
    """Each sample alone: after each step of the longest sequence whether it is right; class and step of decisions."""
    x, labels = dataset.__getitems__(range(len(dataset)))
    longest = int(x.lengths.max()) if x.lengths is not None else len(x.values)
    right, decided = [0] * longest, {margin: [] for margin in margins}
    for b in range(len(dataset)):
        length = int(x.lengths[b]) if x.lengths is not None else longest
        outputs = net(x.values[:length, b : b + 1])[:, 0].detach()
        open_margins, total, said = set(margins), torch.zeros(outputs.shape[-1]), None
        for t in range(longest):
            if t < length and (readout is None or t >= length - readout):
                total = total + outputs[t]
                best = sorted(total.tolist(), reverse=True)
                for margin in sorted(open_margins):
                    if best[0] - best[1] >= margin:
                        open_margins.remove(margin)
                        decided[margin].append((int(total.argmax()) == labels[b], t + 1, True))
            said = int(total.argmax())
            begun = readout is None or t >= length - readout
            right[t] += begun and said == int(labels[b])
        for margin in open_margins:
            decided[margin].append((said == int(labels[b]), length, False))
    count = len(dataset)
    return [r / count for r in right], {
        margin: tuple(sum(float(row[i]) for row in rows) / count for i in range(3)) for margin, rows in decided.items()
    }


def agree(found, expected):
    accuracy, decisions = expected
    assert isinstance(found, EarlyReadout)
    assert list(found.steps) == list(range(1, len(accuracy) + 1))
    assert found.accuracy == pytest.approx(accuracy)
    assert [own.margin for own in found.decisions] == list(decisions)
    for own in found.decisions:
        assert (own.accuracy, own.mean_step, own.decided) == pytest.approx(decisions[own.margin])


def part(first, last, unequal=True):
    """Some of 136 recordings of the same classes, so that what was learned on some holds for others."""
    whole = recordings(136, unequal=unequal)
    lengths = None if whole.lengths is None else whole.lengths[first:last]
    return Recordings(whole.spikes[:, first:last], whole.labels[first:last], lengths)


@pytest.fixture(scope="module")
def trained():
    trainer = make(recurrent)
    trainer.fit(part(0, 96), 10)
    return trainer


@pytest.mark.parametrize("unequal", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 6, 50])
def test_it_is_that_of_every_sample_alone(trained, unequal, chunk):
    dataset = part(96, 136, unequal)
    expected = slow(trained.net, dataset, MARGINS)
    found = early_readout(trained, dataset, MARGINS, batch_size=7, chunk=chunk)
    agree(found, expected)
    assert found.samples == 40
    assert found.accuracy[-1] == pytest.approx(trained.evaluate(dataset).accuracy)
    accuracy, steps, share = zip(*((d.accuracy, d.mean_step, d.decided) for d in found.decisions), strict=True)
    assert list(steps) == sorted(steps)
    assert steps[0] == 1.0
    assert (share[0], share[-1]) == (1.0, 0.0)
    assert accuracy[-1] == found.accuracy[-1]
    assert found.accuracy[0] < found.accuracy[-1]


@pytest.mark.parametrize("unequal", [True, False])
@pytest.mark.parametrize("chunk", [None, 6])
def test_a_readout_of_the_last_steps_decides_within_them(trained, unequal, chunk):
    dataset = recordings(40, unequal=unequal, seed=8)
    trainer = make(recurrent, readout_steps=5, chunk=chunk)
    trainer.net.load_state_dict(trained.net.state_dict())
    agree(early_readout(trainer, dataset, MARGINS), slow(trainer.net, dataset, MARGINS, readout=5))


def test_a_network_alone_takes_sequences(trained):
    dataset = recordings(40, seed=8)
    found = early_readout(trained.net, dataset, MARGINS, batch_size=16)
    agree(found, slow(trained.net, dataset, MARGINS))
    with pytest.raises(UserError, match="a network alone takes a data set of sequences"):
        early_readout(models.lif_mlp([64, 10]), data.load("digits").test)


def test_static_samples_are_shown_as_the_trainer_does():
    test = data.load("digits").test
    trainer = TemporalTrainer(models.lif_mlp([64, 20, 10]), steps=6, device="cpu", batch_size=50)
    found = early_readout(trainer, test, (2,))
    images, labels = test.__getitems__(range(len(test)))
    outputs = trainer.net(nn.constant(images, 6)).detach()
    expected = [float((outputs[: t + 1].sum(0).argmax(-1) == labels).double().mean()) for t in range(6)]
    assert found.accuracy == pytest.approx(expected)


def test_mode_and_random_numbers_are_kept(trained):
    trained.net.train()
    state = torch.get_rng_state()
    early_readout(trained, recordings(8))
    assert torch.equal(state, torch.get_rng_state())
    assert trained.net.training


@pytest.mark.parametrize("margin", [-1, float("nan"), float("inf")])
def test_wrong_margins_are_named(margin):
    with pytest.raises(UserError, match=f"0 or more, got {margin}"):
        early_readout(mlp(), recordings(8), (1, margin))


def test_a_single_output_is_never_ahead():
    with pytest.raises(ShapeError, match="of two classes or more"):
        early_readout(models.lif_mlp([12, 1]), recordings(8))
