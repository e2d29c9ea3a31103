"""Dropout over sequences and steps, of elements and channels: masks, credit, chunks, recomputation, resume, export."""

import pytest
import torch

from spikelfp import models, nn, propagate, rules
from spikelfp.errors import ShapeError, UnknownNameError, UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.sequence import is_constant
from spikelfp.kernels import choice
from spikelfp.training import TemporalTrainer

T, B = 9, 4
KINDS = [("sequence", "elements"), ("sequence", "channels"), ("step", "elements"), ("step", "channels")]


def net(over="sequence", of="elements", p=0.5, margin=1.0):
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 6, 2), nn.LIF(0.9, 0.2, margin=margin), nn.Dropout(p, over, of), nn.Flatten(),
        nn.Linear(24, 5), nn.LIF(0.9, 0.2, margin=margin), nn.Dropout(p, over), nn.Linear(5, 3), nn.LIF(0.9, 0.2),
    )  # fmt: skip


@pytest.mark.parametrize("p", [1.5, -0.1, float("nan"), "a", None, True])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(UserError, match="a probability p from 0 to 1, got"):
        nn.Dropout(p)
    layer = nn.Dropout()
    with pytest.raises(UserError, match="a probability p from 0 to 1, got"):
        layer.p = p


def test_what_is_set_later_is_checked_and_counts():
    layer = nn.Dropout(0.5)
    for name, value in (("over", "steps"), ("of", "channel")):
        with pytest.raises(UserError, match=f"unknown {name} '{value}'"):
            setattr(layer, name, value)
    layer.over, layer.of = "step", "channels"
    y = layer(torch.ones(30, 4, 6, 2, 2))
    assert (y == y[..., :1, :1]).all()
    assert not (y == y[:1]).all()


@pytest.mark.parametrize(("over", "of"), KINDS)
def test_masks_are_drawn_as_named(over, of):
    layer = nn.Dropout(0.25, over, of)
    y = layer(torch.ones(50, 20, 6, 8, 8))
    assert y.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    same_over_time = bool((y == y[:1]).all())
    same_over_space = bool((y == y[..., :1, :1]).all())
    assert (same_over_time, same_over_space) == (over == "sequence", of == "channels")
    drawn = y[:1] if same_over_time else y
    drawn = drawn[..., 0, 0] if same_over_space else drawn
    share = float((drawn == 0).float().mean())
    assert share == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / drawn.numel()) ** 0.5)
    samples = (drawn != 0).flatten(2)
    assert not bool((samples == samples[:, :1]).all())
    layer.eval()
    x = torch.ones(50, 20, 6, 8, 8)
    assert layer(x) is x


def test_all_and_none():
    x = torch.rand(T, B, 6)
    assert nn.Dropout(0.0)(x) is x
    for over in ("sequence", "step"):
        assert torch.equal(nn.Dropout(1.0, over)(x), torch.zeros(T, B, 6))


@pytest.mark.parametrize("over", ["sequence", "step"])
def test_constant_sequences(over):
    x = nn.constant(torch.rand(B, 10) + 0.5, T)
    assert is_constant(x)
    y = nn.Dropout(0.5, over)(x)
    assert is_constant(y) == (over == "sequence")
    assert bool((y == y[:1]).all()) == (over == "sequence")


@pytest.mark.parametrize(("over", "of"), KINDS)
def test_sparse_sequences(over, of):
    x = (torch.rand(T, B, 5, 4, 3) < 0.4).float()
    layer = nn.Dropout(0.5, over, of)
    torch.manual_seed(1)
    sparse = layer(x.to_sparse())
    assert sparse.is_sparse
    dense = sparse.to_dense()
    if (over, of) != ("step", "elements"):
        torch.manual_seed(1)
        assert torch.equal(dense, layer(x))
    assert bool(((dense == 0) | (dense == 2 * x)).all())
    assert 0.3 < float((dense > 0).sum() / x.sum()) < 0.7


@pytest.mark.parametrize("events", ["never", "always"])
@pytest.mark.parametrize("margin", [1.0, 0.5])
@pytest.mark.parametrize(("over", "of"), KINDS)
def test_the_mask_scales_activity_and_credit(over, of, margin, events, monkeypatch):
    """A layer behind dropout sees spikes times the mask; the message to a spike is that behind it times the mask."""
    monkeypatch.setenv(choice.EVENTS, events)
    made, x = net(over, of, margin=margin), torch.rand(T, B, 1, 3, 3)
    reward = torch.randn(T, B, 3)
    seen = {}
    for number in (2, 6):
        made[number].register_forward_hook(lambda layer, given, out, n=number: seen.update({n: (given[0], out)}))
    torch.manual_seed(7)
    propagate(made(x), reward)
    fast = [p.grad.clone() for p in made.parameters()]

    slow = net(over, of, margin=margin)
    factors = {}
    for number, (given, out) in seen.items():
        layer = nn.Dropout(0.5, over, of if number == 2 else "elements")
        torch.manual_seed(7)
        if number == 6:
            nn.Dropout(0.5, over, of)(seen[2][0])  # draws what comes before
        factors[number] = layer(torch.ones_like(given))
        assert torch.equal(out, given * factors[number])
    first, second = factors[2].flatten(2), factors[6]
    with torch.no_grad():
        shown = [slow[:2](x), None, None]
    spikes_one = slow[:2](x)
    leaf_one = spikes_one.detach().flatten(2) * first
    leaf_one.requires_grad_()
    spikes_two = slow[4:6](leaf_one)
    leaf_two = (spikes_two.detach() * second).requires_grad_()
    propagate(slow[7:](leaf_two), reward)
    with backward_pass(1.0):
        torch.autograd.backward(spikes_two, leaf_two.grad * second)
    with backward_pass(1.0):
        torch.autograd.backward(spikes_one, (leaf_one.grad * first).view_as(shown[0]))
    for one, other in zip(fast, [p.grad for p in slow.parameters()], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("over", ["sequence", "step"])
def test_chunks_go_on_with_the_mask_of_the_sequence(over):
    layer, x = nn.Dropout(0.5, over), torch.ones(T, B, 30)
    one, state = layer.run(x[:4])
    two, state = layer.run(x[4:], state)
    assert torch.equal(one[0], two[-1]) == (over == "sequence")
    assert (state is None) == (over == "step")
    again, _ = layer.run(x[:4])
    assert not torch.equal(again, one)
    torch.manual_seed(3)
    made = net("sequence")
    whole = made(torch.ones(T, B, 1, 3, 3))
    torch.manual_seed(3)
    made, out, carried = net("sequence"), [], None
    for part in torch.ones(T, B, 1, 3, 3).split(4):
        piece, carried = made.run(part, carried)
        out.append(piece)
    assert torch.equal(torch.cat(out), whole)


@pytest.mark.parametrize(("over", "of"), KINDS)
@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate()], ids=["lfp", "surrogate"])
def test_recomputed_parts_have_the_same_masks(over, of, rule):
    made, x, reward = net(over, of).double(), torch.rand(T, B, 1, 3, 3).double(), torch.randn(T, B, 3).double()
    rules.attach(made, rule)

    def run(forward):
        made.zero_grad()
        torch.manual_seed(4)
        out = forward()
        drawn = torch.get_rng_state()
        propagate(out, reward) if isinstance(rule, rules.Epsilon) else (out * reward).sum().backward()
        return out, [p.grad.clone() for p in made.parameters()], drawn

    def in_parts():
        out, state = [], None
        for part in x.split(3):
            piece, state = made.run(part, state)
            out.append(piece)
        return torch.cat(out)

    (expected, updates, state), (found, own, after) = run(in_parts), run(lambda: nn.recomputed(made, x, 3)[0])
    assert torch.equal(found, expected)
    assert torch.equal(state, after)
    for one, other in zip(own, updates, strict=True):
        torch.testing.assert_close(one, other)
    if over == "sequence":
        whole, plain, _ = run(lambda: made(x))
        assert torch.equal(whole, expected)
        for one, other in zip(own, plain, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("options", [{}, {"chunk": 2}, {"recompute": 2}], ids=["whole", "chunk", "recompute"])
@pytest.mark.parametrize("over", ["sequence", "step"])
def test_training_resumes_bit_for_bit(over, options, tmp_path):
    x, y = torch.rand(12, 1, 3, 3), torch.arange(12) % 3

    def trainer():
        torch.manual_seed(11)
        return TemporalTrainer(net(over), steps=5, batch_size=4, **options)

    whole = trainer()
    whole.fit((x, y), 2)
    first = trainer()
    first.fit((x, y), 2, after_step=lambda position: first.save(tmp_path / "c.pt") if position.step == 4 else None)
    second = trainer()
    torch.manual_seed(99)
    second.load(tmp_path / "c.pt")
    second.fit((x, y), 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_module_that_would_lose_the_mask_is_refused_for_chunks():
    class Mine(nn.Layer):
        def __init__(self, over):
            super().__init__()
            self.dense, self.drop = nn.Linear(4, 4), nn.Dropout(0.5, over)

        def forward(self, x):
            return self.drop(self.dense(x))

    def made(over):
        return nn.Sequential(Mine(over), nn.LIF(), nn.Linear(4, 3), nn.LIF())

    made("sequence").run(torch.rand(T, B, 4))
    TemporalTrainer(made("step"), chunk=2, steps=4)
    with pytest.raises(UserError, match=r"layer 0 \(Mine\) has a Dropout inside"):
        TemporalTrainer(made("sequence"), chunk=2, steps=4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownNameError, match="over"):
        nn.Dropout(0.5, over="time")
    with pytest.raises(UnknownNameError, match="of"):
        nn.Dropout(0.5, of="rows")
    with pytest.raises(ShapeError, match="channels"):
        nn.Dropout(0.5, of="channels")(torch.ones(T, B, 6))
    with pytest.raises(ShapeError, match="mask"):
        nn.Dropout(0.5).run(torch.ones(T, B, 6), torch.ones(B, 5, dtype=torch.bool))
    with pytest.raises(ShapeError, match="mask"):
        nn.Dropout(0.5).run(torch.ones(T, B, 6), torch.ones(B, 6))


def test_the_text_of_the_usual_kind_is_as_before():
    assert nn.Dropout(0.3).saved_repr() == "p=0.3"
    assert nn.Dropout(0.3, "step", "channels").saved_repr() == "p=0.3, over='step', of='channels'"


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("lif-mlp", (6,), 2), ("lif-rnn", (6,), 2), ("lif-conv", (1, 16, 16), 2), ("lif-lenet", (1, 16, 16), 3)],
)
def test_models_put_it_behind_hidden_neurons(name, shape, count):
    hidden = {"hidden": (5, 4)} if name in ("lif-mlp", "lif-rnn") else {}
    of = {"dropout_of": "channels"} if not hidden else {}
    torch.manual_seed(0)
    plain = models.build(models.ModelSpec(name, shape, 3, hidden))
    torch.manual_seed(0)
    made = models.build(models.ModelSpec(name, shape, 3, {**hidden, "dropout": 0.2, "dropout_over": "step", **of}))
    assert not any(isinstance(layer, nn.Dropout) for layer in plain)
    found = [number for number, layer in enumerate(made) if isinstance(layer, nn.Dropout)]
    assert len(found) == count
    assert all(isinstance(made[number - 1], nn.LIF | nn.RecurrentLIF) for number in found)
    assert {made[number].over for number in found} == {"step"}
    if of:
        assert made[found[0]].of == "channels"
    x = torch.rand(3, 2, *shape)
    assert torch.equal(plain.eval()(x), made.eval()(x))
    assert made.train()(x).shape == (3, 2, 3)


@pytest.mark.parametrize(("over", "of"), KINDS)
def test_an_exported_network_is_without_it(over, of, tmp_path):
    nir = pytest.importorskip("nir")
    from hw_export.nir import to_nir

    shown = {}
    for name, made in (("with", net(over, of)), ("without", net(p=0.0))):
        to_nir(made.eval(), tmp_path / name, input_shape=(1, 3, 3))
        shown[name] = nir.read(tmp_path / name)
    kinds = {name: [type(node).__name__ for node in each.nodes.values()] for name, each in shown.items()}
    assert kinds["with"] == kinds["without"]
    assert len(shown["with"].edges) == len(shown["without"].edges)
