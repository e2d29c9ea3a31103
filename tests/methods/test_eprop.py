"""e-prop, against its equations written out: loops over samples and steps, eligibility vectors carried forward."""

import pytest
import torch

from spikelfp import TemporalTrainer, data, methods, models, nn, rules
from spikelfp.errors import UserError
from spikelfp.methods import Batch, eligibility
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.tasks import Classification, Regression
from spikelfp.training.config import RunConfig
from spikelfp.training.parallel import SINGLE_WORKER


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Let sequences of a few steps have several windows."""
    monkeypatch.setattr(eligibility, "WINDOW", 4)


def batch_of(steps=10, samples=3, masked=False, sparse=False):
    x = torch.rand(steps, samples, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = (x * (x > 0.4)).to_sparse() if sparse else x
    mask = torch.arange(steps).unsqueeze(1) < torch.tensor([steps, 3, 7])[:samples] if masked else None
    return Batch(x, torch.arange(samples) % 3, mask, indices=torch.arange(samples))


EACH = torch.tensor([0.5, 0.7, 0.8, 0.85, 0.9])
HIDDEN = {
    "lif": lambda: nn.LIF(0.8, 0.6),
    "lif, β of each": lambda: nn.LIF(EACH, 0.6, reset="immediate"),
    "recurrent": lambda: nn.RecurrentLIF(5, 0.8, 0.6),
    "alif": lambda: nn.ALIF(0.8, 0.5, rho=0.9, phi=0.3),
    "recurrent alif": lambda: nn.RecurrentALIF(5, 0.8, 0.5, rho=0.9, phi=0.3),
    "alif, constants of each": lambda: nn.ALIF(EACH, 0.5, rho=EACH, phi=EACH / 2),
}


def network(hidden="lif", readout=lambda: nn.LI(0.7), seed=3):
    torch.manual_seed(seed)
    last = readout()
    net = nn.Sequential(nn.Linear(6, 5), HIDDEN[hidden](), nn.Linear(5, 3), *([] if last is None else [last])).double()
    net[0].weight.data *= 2.5
    return net


def learn(net, method, batch):
    method.suit(net, Classification())
    torch.manual_seed(0)
    method.prepare(net)
    method.begin_update()
    for p in net.parameters():
        p.grad = None
    outputs, watched = method.learn(net, batch)
    return {name: p.grad for name, p in net.named_parameters()}, outputs, watched


def by_hand(net, feedback, batch, damping=0.3):
    """Compute the updates by the equations of the class, forward in time, one sample after the other."""
    dense, own, out = net[0], net[1], net[2]
    kappa = net[3].beta if len(net) > 3 else 0.0
    recurrent = getattr(own, "recurrent", None)
    beta, theta, x = own.beta, own.threshold, batch.sequence.to_dense()
    rho, phi = getattr(own, "rho", 0.0), getattr(own, "phi", 0.0)
    column = lambda value: value.unsqueeze(1) if isinstance(value, torch.Tensor) else value  # noqa: E731
    found = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    loss, n = 0.0, 5
    for b in range(x.shape[1]):
        u, s, a, y = torch.zeros(4, n, dtype=x.dtype)
        y = torch.zeros(3, dtype=x.dtype)
        trace = {"0.weight": torch.zeros(n, 6), "0.bias": torch.zeros(n, 1)}
        if recurrent is not None:
            trace |= {"1.recurrent.weight": torch.zeros(n, n), "1.recurrent.bias": torch.zeros(n, 1)}
        trace = {name: each.double() for name, each in trace.items()}
        adapted, filtered = ({name: torch.zeros_like(each) for name, each in trace.items()} for _ in range(2))
        spikes_out, ones_out = torch.zeros(n, dtype=x.dtype), 0.0
        counted = len(x) if batch.mask is None else int(batch.mask[:, b].sum())
        for t in range(len(x)):
            current = dense.weight @ x[t, b] + dense.bias
            inputs = {"0.weight": x[t, b], "0.bias": torch.ones(1, dtype=x.dtype)}
            if recurrent is not None:
                current = current + recurrent.weight @ s + recurrent.bias
                inputs |= {"1.recurrent.weight": s, "1.recurrent.bias": torch.ones(1, dtype=x.dtype)}
            u = beta * (u - theta * s * (own.reset == "immediate")) + current - theta * s * (own.reset == "subtract")
            level = theta + phi * a
            s = (u > level).to(x.dtype)
            psi = damping / theta * (1 - (u - level).abs() / theta).clamp(min=0)
            a = rho * a + s
            y = kappa * y + out.weight @ s + out.bias
            error = (torch.softmax(y, 0) - torch.nn.functional.one_hot(batch.targets[b], 3)) / counted / x.shape[1]
            if batch.mask is not None and not batch.mask[t, b]:
                error = error * 0
            else:
                loss -= torch.log_softmax(y, 0)[batch.targets[b]] / counted / x.shape[1]
            signal = feedback.T @ error
            for name, told in inputs.items():
                trace[name] = column(beta) * trace[name] + told
                e = psi.unsqueeze(1) * (trace[name] - column(phi) * adapted[name])
                adapted[name] = (
                    psi.unsqueeze(1) * trace[name] + (column(rho) - (psi * phi).unsqueeze(1)) * adapted[name]
                )
                filtered[name] = kappa * filtered[name] + e
                found[name] += (signal.unsqueeze(1) * filtered[name]).reshape(found[name].shape)
            spikes_out, ones_out = kappa * spikes_out + s, kappa * ones_out + 1
            found["2.weight"] += torch.outer(error, spikes_out)
            found["2.bias"] += error * ones_out
    return found, loss


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("feedback", "masked"), [("symmetric", True), ("random", False)])
def test_updates_are_those_of_the_equations(hidden, feedback, masked):
    net, batch = network(hidden), batch_of(masked=masked, sparse=masked)
    updates, outputs, watched = learn(net, method := methods.EProp(feedback=feedback), batch)
    weights = net[2].weight if feedback == "symmetric" else method.weights["1"]
    with torch.no_grad():
        expected, loss = by_hand(net, weights.double(), batch)
    torch.testing.assert_close(outputs, net(batch.sequence).detach(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(watched["loss"], loss)
    assert updates.keys() == expected.keys()
    for name, update in updates.items():
        assert expected[name].abs().max() > 0
        torch.testing.assert_close(update, expected[name], atol=1e-12, rtol=1e-10)


def test_a_dense_readout_needs_no_filter():
    net, batch = network("alif", lambda: None), batch_of()
    updates, *_ = learn(net, methods.EProp(damping=0.5), batch)
    with torch.no_grad():
        expected, _ = by_hand(net, net[2].weight, batch, 0.5)
    for name, update in updates.items():
        torch.testing.assert_close(update, expected[name], atol=1e-12, rtol=1e-10)


def test_the_readout_has_the_gradient_of_the_loss():
    net, batch = network(), batch_of(masked=True)
    updates, *_ = learn(net, methods.EProp(), batch)
    for p in net.parameters():
        p.grad = None
    weights = methods.step_weights(batch.mask, None, torch.float64)
    with rules.using(net, rules.Surrogate()):
        methods.rate_cross_entropy(net(batch.sequence), batch.targets, weights).backward()
    for name in ("2.weight", "2.bias"):
        torch.testing.assert_close(updates[name], dict(net.named_parameters())[name].grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("hidden", ["alif, constants of each", "recurrent", "recurrent alif"])
def test_windows_and_slices_have_no_effect(monkeypatch, hidden):
    found = []
    for window, room in ((1, 1), (3, 300), (50, 2**24)):
        monkeypatch.setattr(eligibility, "WINDOW", window)
        monkeypatch.setattr(eligibility, "ROOM", room)
        found.append(learn(network(hidden), methods.EProp(), batch_of(masked=True)))
    for updates, outputs, watched in found[1:]:
        torch.testing.assert_close(updates, found[0][0], atol=1e-13, rtol=1e-11)
        torch.testing.assert_close(outputs, found[0][1], atol=1e-13, rtol=1e-11)
        torch.testing.assert_close(watched, found[0][2])


def test_adaptive_feedback_follows_the_readout():
    net, batch = network(), batch_of()
    method = methods.EProp(feedback="adaptive", feedback_decay=0.1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    apart = []
    for step in range(30):
        before = net[2].weight.detach().clone()
        learn(net, method, batch)
        own = method.weights["1"].clone()
        optimizer.step()
        change = net[2].weight.detach() - before
        method.end_update(SINGLE_WORKER)
        if not step:
            torch.testing.assert_close(method.weights["1"], own * 0.9 + change)
            torch.testing.assert_close(net[2].weight.detach(), before * 0.9 + change)
        apart.append(float((method.weights["1"] - net[2].weight).detach().norm()))
    assert apart[-1] < 0.1 * apart[0]


def test_weights_of_a_few_bits():
    net, batch = network(), batch_of()
    WeightGrids(net, Quantization(bits=4), 0)
    updates, *_ = learn(net, methods.EProp(), batch)
    rounded = network()
    for quantised, own in ((net[i], rounded[i]) for i in (0, 2)):
        grid, wide = quantised.live_grids()
        own.weight.data = grid.to_real(grid.to_integers(quantised.weight.detach()))
        own.bias.data = (
            quantised.bias.detach() if wide is None else wide.to_real(wide.to_integers(quantised.bias.detach()))
        )
    with torch.no_grad():
        expected, _ = by_hand(rounded, rounded[2].weight, batch)
    torch.testing.assert_close(updates["0.weight"], expected["0.weight"], atol=1e-10, rtol=1e-8)


def test_a_frozen_readout_cannot_shrink():
    net = models.lif_mlp([6, 5, 3], readout="li")
    net[-2].weight.requires_grad_(False)
    with pytest.raises(UserError, match=r"frozen \(requires_grad=False\): thaw them"):
        methods.EProp(feedback="adaptive").suit(net, Classification())
    methods.EProp(feedback="random").suit(net, Classification())


@pytest.mark.parametrize("feedback", ["random", "adaptive"])
def test_training_is_resumed_bit_for_bit(tmp_path, feedback):
    some = torch.utils.data.Subset(data.load("digits").train, range(60))

    def make():
        torch.manual_seed(0)
        net = models.lif_rnn([64, 12, 10], readout="li")
        return TemporalTrainer(net, method=methods.EProp(feedback=feedback), steps=6, batch_size=8, schedule=None)

    whole, first, second = make(), make(), make()
    whole.fit(some, 2)
    first.fit(some, 1)
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    second.fit(some, 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.method.weights["2"], second.method.weights["2"])
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]


@pytest.mark.parametrize(
    ("net", "options", "words"),
    [
        (models.lif_mlp([6, 5, 3]), {}, "fires: let the network end in"),
        (models.mlp([6, 5, 3]), {}, "layer 2 is ReLU"),
        (models.lif_mlp([6, 3], readout="li"), {}, "has none"),
        (models.lif_mlp([6, 5, 4, 3], readout="li"), {"feedback": "symmetric"}, "2 hidden layers"),
        (models.lif_mlp([6, 5, 3], readout="li", reset="zero"), {}, "resets to zero"),
        (models.lif_mlp([6, 5, 3], readout="li", learn_beta=True), {}, "β of layer 2 learns"),
        (models.lif_mlp([6, 5, 3], readout="li"), {"loss": methods.count_cross_entropy}, "all steps together"),
        (nn.Sequential(nn.Linear(6, 5), nn.LIF(), nn.Linear(5, 3), nn.LI(EACH[:3])), {}, "one number"),
    ],
)
def test_what_it_cannot_train_is_refused(net, options, words):
    with pytest.raises(UserError, match=words) as error:
        methods.EProp(**options).suit(net, Classification())
    assert "\n" not in str(error.value)


def test_other_tasks_and_numbers_are_refused():
    with pytest.raises(UserError, match="regression does not state"):
        methods.EProp().suit(models.lif_mlp([6, 5, 3], readout="li"), Regression())
    for options, words in (({"damping": 0}, "above 0"), ({"feedback_decay": 1}, "below 1"), ({"feedback": "x"}, "x")):
        with pytest.raises(UserError, match=words):
            methods.EProp(**options)


def test_the_command_line_knows_it():
    config = RunConfig(method="e-prop", model="lif-mlp", damping=0.4).resolved(1000)
    assert config.output == "li"
    method = config.make_method()
    assert (method.damping, method.feedback) == (0.4, "symmetric")
    with pytest.raises(UserError, match="feedback-decay"):
        RunConfig(method="e-prop", feedback="random", feedback_decay=0.1)
