"""OTTT and DECOLLE, against their equations written out: loops over samples and steps, traces carried forward."""

import pytest
import torch

from hw_export import to_nir
from hw_export.cli import app as export
from hw_export.updates import IntegerImage, UpdateRecorder, replay
from spikelfp import TemporalTrainer, data, methods, models, nn, rewards, rules
from spikelfp.command import run_app
from spikelfp.errors import UserError
from spikelfp.methods import Batch, eligibility
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.report import write_report
from spikelfp.report.wording import FEEDBACK
from spikelfp.tasks import Classification, Regression
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train
from spikelfp.training.run_folder import RunFolder, read_config

RULE = rules.Surrogate("atan", 2.0)
EACH = torch.tensor([0.5, 0.7, 0.8, 0.85, 0.9])


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Let sequences of a few steps have several windows."""
    monkeypatch.setattr(eligibility, "WINDOW", 4)


def batch_of(steps=10, samples=3, masked=False, sparse=False):
    x = torch.rand(steps, samples, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = (x * (x > 0.4)).to_sparse() if sparse else x
    mask = torch.arange(steps).unsqueeze(1) < torch.tensor([steps, 3, 7])[:samples] if masked else None
    return Batch(x, torch.arange(samples) % 3, mask, indices=torch.arange(samples))


def network(*neurons, seed=3):
    torch.manual_seed(seed)
    sizes, layers = [6, *[5] * (len(neurons) - 1), 3], []
    for before, after, own in zip(sizes[:-1], sizes[1:], neurons, strict=True):
        layers += [nn.Linear(before, after), *([] if own is None else [own()])]
    net = nn.Sequential(*layers).double()
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 3
    return net


def lif(*arguments, **options):
    return lambda: nn.LIF(*arguments, **{"threshold": 0.15, **options})


NETS = {
    "lif": lambda: network(lif(0.8), lambda: nn.LI(0.7)),
    "deep": lambda: network(lif(0.8), lif(0.7, reset="immediate"), lif(0.9)),
    "β of each": lambda: network(lif(EACH), lif(EACH), None),
}
OF_OTTT = {**NETS, "recurrent": lambda: network(lambda: nn.RecurrentLIF(5, 0.8, 0.6), lambda: nn.LI(0.7))}
OF_DECOLLE = {
    **NETS,
    "synaptic": lambda: network(lambda: nn.Synaptic(0.6, 0.8, 0.9), lambda: nn.Synaptic(0.5, threshold=0.7)),
    "α and β of each": lambda: network(lambda: nn.Synaptic(EACH / 2, EACH, 0.9), lambda: nn.LI(EACH[:3])),
}


def ruled(net):
    net[0].rule = rules.Gamma()
    return net


def learn(net, method, batch):
    method.suit(net, Classification())
    torch.manual_seed(0)
    method.prepare(net)
    for p in net.parameters():
        p.grad = None
    outputs, watched = method.learn(net, batch)
    return [p.grad for p in net.parameters()], outputs, watched


def atan(z):
    return 2 / 2 / (1 + (torch.pi / 2 * 2 * z) ** 2)


def by_hand(net, batch, local=None, change=None):
    """Run a network step by step, and compute the gradient of each step with traces of the inputs.

    ``local`` are DECOLLE's readouts ``G`` [C, n] of the hidden layers; without them the gradient goes through the
    layers (OTTT). ``change`` is called after every step with the gradients of it (OTTT_O, all samples side by side).
    """
    parameters = list(net.parameters())
    total, loss = [torch.zeros_like(p) for p in parameters], 0.0
    x = batch.sequence.to_dense()
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    behind = [net[2 * i + 1] if 2 * i + 1 < len(net) else None for i in range(len(layers))]
    count = x.shape[1]
    state = []
    for _ in range(count):
        state.append([{name: 0 * layer.bias for name in "uys"} | {"traces": {}} for layer in layers])
    for t in range(len(x)):
        step = [torch.zeros_like(p) for p in parameters]
        for b in range(count):
            counts = batch.mask is None or bool(batch.mask[t, b])
            whole = len(x) if batch.mask is None else int(batch.mask[:, b].sum())
            now, z, fires = x[t, b], [], []
            for layer, own, at in zip(layers, behind, state[b], strict=True):
                told = {layer.weight: now, layer.bias: torch.ones(1, dtype=x.dtype)}
                current = layer.weight @ now + layer.bias
                recurrent = getattr(own, "recurrent", None)
                if recurrent is not None:
                    current = current + recurrent.weight @ at["s"] + recurrent.bias
                    told |= {recurrent.weight: at["s"], recurrent.bias: torch.ones(1, dtype=x.dtype)}
                alpha, beta = getattr(own, "alpha", 0.0), getattr(own, "beta", 0.0)
                column = [v.unsqueeze(1) if isinstance(v, torch.Tensor) else v for v in (alpha, beta)]
                for p, value in told.items():
                    q, trace = at["traces"].get(id(p), (torch.zeros(len(p), len(value), dtype=x.dtype),) * 2)
                    q = column[0] * q + value
                    at["traces"][id(p)] = q, column[1] * trace + q
                at["y"] = alpha * at["y"] + current
                if own is None or not own.fires:
                    at["u"] = at["s"] = beta * at["u"] + at["y"]
                    z.append(None)
                else:
                    theta = own.threshold
                    paid = theta * at["s"]
                    if own.reset == "immediate":
                        at["u"] = beta * (at["u"] - paid) + at["y"]
                    else:
                        at["u"] = beta * at["u"] + at["y"] - paid
                    at["s"] = (at["u"] > theta).to(x.dtype)
                    z.append(at["u"] - theta)
                now = at["s"]
                fires.append(told)
            if not counts:
                continue
            wanted = torch.nn.functional.one_hot(batch.targets[b], 3)
            loss -= torch.log_softmax(now, 0)[batch.targets[b]] / whole / count
            error = (torch.softmax(now, 0) - wanted) / whole / count
            for i in reversed(range(len(layers))):
                if local is not None and i < len(layers) - 1:
                    readout = local[i] @ state[b][i]["s"]
                    error = local[i].T @ (torch.softmax(readout, 0) - wanted) / whole / count
                error = error if z[i] is None else error * atan(z[i])
                for p in fires[i]:
                    number = next(n for n, each in enumerate(parameters) if each is p)
                    step[number] += (error.unsqueeze(1) * state[b][i]["traces"][id(p)][1]).reshape(p.shape)
                error = layers[i].weight.T @ error
        if change is not None:
            change(step)
        total = [one + other for one, other in zip(total, step, strict=True)]
    return total, loss


def agree(net, found, expected):
    updates, _, watched = found
    total, loss = expected
    torch.testing.assert_close(watched["loss"], loss)
    for (name, _), one, other in zip(net.named_parameters(), updates, total, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", OF_OTTT)
@pytest.mark.parametrize("masked", [False, True])
def test_ottt_adds_up_the_gradients_of_all_steps(name, masked):
    net, batch = OF_OTTT[name](), batch_of(masked=masked, sparse=masked)
    found = learn(net, methods.OTTT(rule=RULE), batch)
    with torch.no_grad():
        agree(net, found, by_hand(net, batch))


@pytest.mark.parametrize("name", OF_DECOLLE)
@pytest.mark.parametrize("masked", [False, True])
def test_decolle_descends_the_loss_of_each_layer(name, masked):
    net, batch = OF_DECOLLE[name](), batch_of(masked=masked)
    method = methods.DECOLLE(rule=RULE)
    found = learn(net, method, batch)
    with torch.no_grad():
        agree(net, found, by_hand(net, batch, [each.double() for each in method.weights.values()]))


@pytest.mark.parametrize("name", ["lif", "recurrent"])
@pytest.mark.parametrize("masked", [False, True])
def test_ottt_o_updates_at_every_step(name, masked):
    nets = [OF_OTTT[name]().float() for _ in range(2)]
    batch = batch_of(masked=masked)
    x, lengths = batch.sequence.float().transpose(0, 1), [10, 3, 7] if masked else [10] * 3
    sequences = data.arrays([row[:length] for row, length in zip(x, lengths, strict=True)], batch.targets,
                            sequences=True)  # fmt: skip
    trainer = TemporalTrainer(
        nets[0], method=methods.OTTT(update="step", rule=RULE), steps=None, optimizer=torch.optim.SGD, lr=0.5,
        schedule=None, batch_size=3, wake=False,
    )  # fmt: skip
    trainer.fit(sequences, 1)

    def change(step):
        for p, own in zip(nets[1].parameters(), step, strict=True):
            p -= 0.5 * own

    with torch.no_grad():
        by_hand(nets[1], Batch(batch.sequence.float(), batch.targets, batch.mask), change=change)
    before = OF_OTTT[name]().float()
    for one, other, old in zip(*(net.parameters() for net in (*nets, before)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert (one - old).abs().max() > 1e-3


@pytest.mark.parametrize("make", [methods.OTTT, methods.DECOLLE])
def test_windows_and_slices_have_no_effect(monkeypatch, make):
    found = []
    for window, room in ((1, 1), (3, 300), (50, 2**24)):
        monkeypatch.setattr(eligibility, "WINDOW", window)
        monkeypatch.setattr(eligibility, "ROOM", room)
        found.append(learn(NETS["β of each"](), make(), batch_of(masked=True)))
    for own in found[1:]:
        torch.testing.assert_close(own, found[0], atol=1e-13, rtol=1e-11)


@pytest.mark.parametrize("make", [methods.OTTT, methods.DECOLLE])
def test_weights_of_a_few_bits(make):
    found = []
    net = NETS["deep"]()
    WeightGrids(net, Quantization(bits=4), 0)
    rounded = NETS["deep"]()
    for quantised, own in zip(net, rounded, strict=True):
        if isinstance(own, nn.Linear):
            grid, wide = quantised.live_grids()
            weight, bias = quantised.weight.detach(), quantised.bias.detach()
            own.weight.data = grid.to_real(grid.to_integers(weight))
            own.bias.data = bias if wide is None else wide.to_real(wide.to_integers(bias))
    for each in (net, rounded):
        found.append(learn(each, make(), batch_of()))
    torch.testing.assert_close(found[0], found[1])


MAKE = {
    "ottt": lambda: methods.OTTT(),
    "ottt by step": lambda: methods.OTTT(update="step"),
    "decolle": lambda: methods.DECOLLE(),
}


@pytest.mark.parametrize("name", MAKE)
def test_training_is_resumed_bit_for_bit_and_recorded(tmp_path, name):
    some = torch.utils.data.Subset(data.load("digits").train, range(60))

    def make():
        torch.manual_seed(0)
        net = models.lif_mlp([64, 12, 10])  # a recorder takes no integrators
        return TemporalTrainer(net, method=MAKE[name](), steps=6, batch_size=8, schedule=None)

    whole, first, second = make(), make(), make()
    with UpdateRecorder(whole.net, tmp_path / "updates.cbor", bits=8) as recorder:
        whole.fit(some, 2, after_step=recorder.after_step)
    first.fit(some, 1)
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    second.fit(some, 2)
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
    ends, live = replay(tmp_path / "updates.cbor"), IntegerImage.of(whole.net, recorder.base.grids)
    assert all((ends.arrays[each] == integers).all() for each, integers in live.arrays.items())
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]


@pytest.mark.parametrize(
    "make",
    [methods.EProp, methods.OTTT, methods.DECOLLE, lambda: methods.LFP(rewards.Softmax(), credit="online")],
    ids=["e-prop", "ottt", "decolle", "lfp"],
)
def test_updates_of_the_parts_of_a_batch_add_up(make):
    some, nets = torch.utils.data.Subset(data.load("digits").train, range(14)), []
    for accumulate in (1, 3):
        torch.manual_seed(0)
        nets.append(models.lif_mlp([64, 12, 10], readout="li", threshold=0.3))
        trainer = TemporalTrainer(
            nets[-1], method=make(), steps=6, batch_size=7, accumulate=accumulate, optimizer=torch.optim.SGD, lr=0.1,
            schedule=None, wake=False,
        )  # fmt: skip
        trainer.fit(some, 1)
    torch.manual_seed(0)
    start = models.lif_mlp([64, 12, 10], readout="li", threshold=0.3)
    for one, other, before in zip(*(net.parameters() for net in (*nets, start)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
        assert not torch.equal(one, before)


@pytest.mark.parametrize(
    ("method", "net", "words"),
    [
        (methods.OTTT(), models.mlp([6, 5, 3]), "layer 2 is ReLU"),
        (methods.OTTT(), network(lambda: nn.Synaptic(), None), "layer 1 is Synaptic"),
        (methods.DECOLLE(), network(lambda: nn.RecurrentLIF(5), None), "layer 1 is RecurrentLIF"),
        (methods.DECOLLE(), network(lif(reset="zero"), None), "resets to zero"),
        (methods.OTTT(loss=methods.count_cross_entropy), network(lif(), None), "all steps together"),
        (methods.OTTT(loss=lambda outputs, labels: outputs.mean()), network(lif(), None), "by name"),
        (
            methods.OTTT(),
            network(lif(rule=rules.Epsilon()), None),
            r"LIF\) has the rule Epsilon.* takes a rules.Surrog",
        ),
        (methods.EProp(), network(lif(rule=rules.Surrogate()), nn.LI), "a pseudo-derivative of its own"),
        (methods.DECOLLE(), ruled(network(lif(), None)), r"Linear\) has the rule Gamma.* descends a loss"),
    ],
)
def test_what_they_cannot_train_is_refused(method, net, words):
    with pytest.raises(UserError, match=words) as error:
        method.suit(net, Classification())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [methods.OTTT, methods.DECOLLE])
def test_neurons_with_a_derivative_of_their_own_have_it(make):
    batch = batch_of()
    lent = learn(network(lif(), lif(), None), make(rule=RULE), batch)[0]
    own = learn(network(lif(rule=RULE), lif(rule=RULE), None), make(), batch)[0]
    default = learn(network(lif(), lif(), None), make(), batch)[0]
    assert all(torch.equal(one, other) for one, other in zip(lent, own, strict=True))
    assert not torch.equal(lent[0], default[0])


@pytest.mark.parametrize(
    "method", [methods.EProp(), methods.OTTT(), methods.DECOLLE(), methods.LFP(rewards.Softmax(), credit="online")]
)
@pytest.mark.parametrize(("number", "own"), [(0, "weight"), (0, "bias"), (2, "weight")])
def test_weights_that_others_are_computed_of_are_refused(method, number, own):
    """Updates would go to the product, which the next forward pass computes anew."""
    net = network(lif(), nn.LI)
    torch.nn.utils.prune.random_unstructured(net[number], own, 0.5)
    with pytest.raises(UserError, match=f"the {own} in front of layer {number + 1} is computed from others"):
        method.suit(net, Classification())
    torch.nn.utils.prune.remove(net[number], own)
    method.suit(net, Classification())
    if own == "weight":
        torch.nn.utils.weight_norm(net[number])
        with pytest.raises(UserError, match="is computed from others"):
            method.suit(net, Classification())


@pytest.mark.parametrize("method", ["e-prop", "ottt", "decolle"])
@pytest.mark.parametrize(
    ("labels", "words"), [(torch.eye(3).long(), r"y\.argmax\(1\)"), (torch.zeros(3, 1).long(), "y\\[:, 0\\]")]
)
def test_labels_of_other_shapes_are_refused_with_what_to_do(method, labels, words):
    trainer = TemporalTrainer(network(lif(), nn.LI).float(), method=method, steps=3, progress=False)
    with pytest.raises(UserError, match=f"{method} takes class numbers.*{words}"):
        trainer.fit((torch.rand(3, 6), labels), 1)


def test_mistakes_are_refused_in_one_line():
    with pytest.raises(UserError, match="regression does not state"):
        methods.DECOLLE().suit(network(lif(), None), Regression())
    with pytest.raises(UserError, match="choose from sequence, step"):
        methods.OTTT(update="often")
    with pytest.raises(UserError, match="by the optimiser of a trainer"):
        learn(network(lif(), None), methods.OTTT(update="step"), batch_of())
    for method, rule in ((methods.OTTT, rules.Gamma()), (methods.DECOLLE, rules.Gradient())):
        with pytest.raises(UserError, match=r"takes rules\.Surrogate"):
            method(rule=rule)
    with pytest.raises(UserError, match="no rule of LFP"):
        methods.LFP(rewards.Softmax(), rules.Surrogate())
    net, digits = models.lif_mlp([64, 5, 10], readout="li"), data.load("digits").train
    with pytest.raises(UserError, match=r"rules by name are of LFP.*rules\.Surrogate"):
        TemporalTrainer(net, method="ottt", rule="gamma", steps=3)
    trainer = TemporalTrainer(net, method=methods.OTTT(update="step"), steps=3, accumulate=2)
    with pytest.raises(UserError, match="--accumulate"):
        trainer.fit(digits, 1)
    with pytest.raises(UserError, match="one step at a time"):
        TemporalTrainer(net, method=methods.DECOLLE(), steps=3, chunk=1)


@pytest.mark.parametrize("name", ["ottt", "decolle"])
def test_the_command_line_knows_them(name):
    config = RunConfig(method=name, model="lif-mlp", surrogate="atan", slope=2.0).resolved(1000)
    assert config.output == "li"
    assert config.make_method().rule == RULE
    assert RunConfig(method="ottt", update="step").make_method().update == "step"


OF_RUNS = {
    "e-prop": {"model": "lif-rnn", "output": "li"},
    "ottt": {"update": "step", "output": "lif", "encoding": "rate"},
    "decolle": {"output": "lif", "encoding": "rate"},
    "lfp": {"credit": "online", "encoding": "rate"},
}


@pytest.mark.parametrize("name", OF_RUNS)
def test_runs_are_reported_resumed_and_exported(tmp_path, name):
    options = {"hidden": (8,), "steps": 6, "epochs": 1, "device": "cpu", "schedule": "constant", **OF_RUNS[name]}
    summary = train(RunConfig(method=name, **options), tmp_path / "run", progress=False)
    assert (summary["method"], summary["epochs"]) == (name, 1)
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert FEEDBACK.get(name, "each connection remembers its part") in page
    again = read_config(RunFolder(tmp_path / "run"))[0]
    assert train(again, tmp_path / "again", progress=False)["score"] == summary["score"]
    if name == "e-prop":  # integrators have no integers
        to_nir(load_run(tmp_path / "run").net, tmp_path / "net.nir", input_shape=(64,))
        return
    for arguments in (
        ["build", str(tmp_path / "run"), "--target", "generic", "--out", str(tmp_path / "out")],
        ["verify", str(tmp_path / "out")],
    ):
        with pytest.raises(SystemExit) as stop:
            run_app(export, "hw-export", arguments)
        assert not stop.value.code, arguments
