"""Delays against loops written from the formulas, and a task that only delays solve."""

import copy

import pytest
import torch
from reference import PAPER, lif_reward, lif_run
from references.cases import RULES, build

from spikelfp import interop, models, nn, propagate, rules
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.sequence import is_sparse


def shifted(x, delays):
    """``y[t, b, …] = x[t − d, b, …]``, value by value; delays with the axes of a sample."""
    out = torch.zeros_like(x)
    for place in torch.ones(x.shape).nonzero().tolist():
        t, *rest = place
        earlier = t - int(delays[tuple(rest[1:])])
        if earlier >= 0:
            out[tuple(place)] = x[(earlier, *rest)]
    return out


def spikes(*shape):
    return (torch.rand(shape) < 0.4).double()


def test_delays_that_are_changed_count_at_once():
    x, layer = spikes(12, 2, 3), nn.Delay(torch.tensor([2, 2, 2]))
    assert torch.equal(layer(x), shifted(x, torch.tensor([2, 2, 2])))
    layer.delays = torch.tensor([0, 9, 1])
    assert torch.equal(layer(x), shifted(x, torch.tensor([0, 9, 1])))
    assert layer.longest == 9
    layer.delays[1] = 5
    assert torch.equal(layer(x.to_sparse()).to_dense(), shifted(x, torch.tensor([0, 5, 1])))
    other = {"delays": torch.tensor([7, 0, 0])}
    assert torch.equal(torch.func.functional_call(layer, other, (x,)), shifted(x, other["delays"]))
    twin = copy.deepcopy(layer)
    twin.delays.fill_(4)
    assert torch.equal(layer(x), shifted(x, torch.tensor([0, 5, 1])))
    assert torch.equal(twin(x), shifted(x, torch.tensor([4, 4, 4])))
    with torch.inference_mode():
        twin.delays = torch.tensor([1, 2, 3])
        twin.delays[0] = 8
        assert torch.equal(twin(x), shifted(x, torch.tensor([8, 2, 3])))
    taps = nn.Taps((0, 1))
    taps.delays = (0, 4)
    assert taps.longest == 4
    assert torch.equal(taps(x), torch.cat([x, shifted(x, torch.full((3,), 4))], -1))


@pytest.mark.parametrize(
    ("delays", "words"), [([0, -1, 1], "got -1"), ([0, 70_000, 1], "got 70000"), ([0.0, 1.0, 2.0], "a whole number of")]
)
def test_delays_that_are_changed_are_checked(delays, words):
    layer = nn.Delay(torch.tensor([0, 3, 1]))
    layer.delays = torch.tensor(delays)
    with pytest.raises(UserError, match=words):
        layer(spikes(5, 1, 3))
    taps = nn.Taps((0, 1))
    with pytest.raises(UserError, match="a delay is a whole number of steps"):
        taps.delays = tuple(delays)


CASES = {
    "one": (2, (3,)),
    "none": (0, (3,)),
    "longer than the sequence": (9, (3,)),
    "features": (torch.tensor([0, 2, 5]), (3,)),
    "some longer": (torch.tensor([1, 9, 6, 5]), (4,)),
    "channels": (torch.tensor([3, 0]), (2, 3, 2)),
    "pixels": (torch.tensor([[0, 1, 2]]), (2, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_each_channel_comes_its_delay_later(case):
    given, shape = CASES[case]
    delay, x = nn.Delay(given), spikes(6, 2, *shape).requires_grad_()
    steps = torch.as_tensor(given)
    steps = steps.view(-1, *[1] * (len(shape) - steps.dim())) if steps.dim() == 1 else steps
    wanted = shifted(x.detach(), steps.expand(shape))
    out = delay(x)
    assert torch.equal(out, wanted)
    assert torch.equal(delay(nn.constant(x[0].detach(), 6)), shifted(x[:1].detach().expand_as(x), steps.expand(shape)))
    sparse = delay(x.detach().to_sparse())
    assert is_sparse(sparse)
    assert torch.equal(sparse.to_dense(), wanted)
    message = torch.randn_like(out)
    out.backward(message)  # the message of y[t] goes to x[t − d]: the same shift the other way
    assert torch.equal(x.grad, shifted(message.flip(0), steps.expand(shape)).flip(0))


@pytest.mark.parametrize("parts", [(1,) * 6, (4, 2), (2, 1, 3)])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "layer", [nn.Delay(3), nn.Delay(torch.tensor([0, 8, 2])), nn.Taps((2, 0, 7)), nn.Delay(0)], ids=str
)
def test_parts_of_a_sequence_carry_the_last_inputs(layer, sparse, parts):
    x = spikes(6, 2, 3)
    state, outs = None, []
    for number, part in enumerate(x.split(parts)):
        out, state = layer.run(part.to_sparse() if sparse and number != 1 else part, state)
        outs.append(out.to_dense())
    assert torch.equal(torch.cat(outs), layer(x))
    if layer.longest:
        wanted = torch.cat([torch.zeros(layer.longest, 2, 3).double(), x])[-layer.longest :]
        assert torch.equal(state, wanted)


def test_sparse_steps_after_dense_ones_that_wait_for_a_message():
    x, delay = spikes(3, 2, 3).requires_grad_(), nn.Delay(2)
    _, state = delay.run(x)
    out, _ = delay.run(spikes(3, 2, 3).to_sparse(), state)
    out.sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 1, 1]).double().view(3, 1, 1).expand(3, 2, 3))


def by_loop(x, weights, bias, delays):
    """``z_j[t] = Σ_k Σ_i W_k[j, i] x_i[t − d_k] + b_j`` in plain floats."""
    taps, outputs, inputs = weights.shape
    rows = []
    for t in range(len(x)):
        for b in range(x.shape[1]):
            for j in range(outputs):
                total = float(bias[j])
                for k in range(taps):
                    for i in range(inputs):
                        if t >= delays[k]:
                            total += float(weights[k, j, i]) * float(x[t - delays[k], b, i])
                rows.append(total)
    return torch.tensor(rows, dtype=torch.float64).view(*x.shape[:2], outputs)


@pytest.mark.parametrize("delays", [(0, 1, 2, 4, 8), (3,), (5, 0, 2)])
def test_every_connection_has_a_weight_for_each_delay(delays):
    layer, x = nn.DelayLinear(3, 4, delays).double(), torch.randn(6, 2, 3).double()
    wanted = by_loop(x, layer.by_tap.detach(), layer.dense.bias.detach(), delays)
    torch.testing.assert_close(layer(x).detach(), wanted)
    torch.testing.assert_close(layer(x.to_sparse()).detach(), wanted)
    assert (layer.in_features, layer.out_features, layer.delays) == (3, 4, delays)
    assert layer(nn.constant(x[0], 6)).shape == (6, 2, 4)


@pytest.mark.parametrize("chosen", [False, True])
def test_each_tap_gets_the_reward_of_its_connection(chosen):
    """``d_{W_k[j, i]} = |W_k[j, i]| Σ_t n_j[t] x_i[t − d_k]`` with ``n`` of the neurons, one by one."""
    delays, steps = (0, 2, 5), 7
    layer = nn.DelayLinear(3, 2, delays).double()
    net = build(rules.Epsilon(), layer, nn.LIF(0.8, 0.3, **PAPER))
    if chosen:
        layer.choose()
    x = spikes(steps, 1, 3)
    reward = torch.randn(steps, 1, 2).double()
    current = by_loop(x, layer.by_tap.detach(), layer.dense.bias.detach(), delays)
    out = net(x)
    propagate(out, reward)
    for j in range(2):
        currents, weights = current[:, 0, j].tolist(), layer.by_tap.detach()
        assert out[:, 0, j].tolist() == lif_run(currents, 0.8, 0.3, "subtract")[0]
        messages = lif_reward(reward[:, 0, j].tolist(), currents, 0.8, 0.3, "subtract", "inflow", rules.Epsilon().eps)
        for k, delay in enumerate(delays):
            for i in range(3):
                credit = sum(messages[t] * float(x[t - delay, 0, i]) for t in range(delay, steps))
                wanted = -abs(float(weights[k, j, i])) * credit
                assert float(layer.dense.weight.grad.view(2, 3, 3)[j, k, i]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("rule", [*RULES, "gradient", "surrogate"])
def test_every_rule_is_that_of_a_dense_layer_on_shifted_copies(rule):
    delays = (0, 1, 3)
    given = {"gradient": rules.Gradient(), "surrogate": rules.Surrogate()}.get(rule) or RULES[rule]
    layer = nn.DelayLinear(4, 3, delays)
    twin = nn.Linear(12, 3)
    twin.load_state_dict({"weight": layer.dense.weight, "bias": layer.dense.bias})
    net, flat = (
        build(given, nn.Linear(5, 4), nn.LIF(0.9, 0.2), layer, nn.LIF(0.9, 0.2)),
        build(given, twin, nn.LIF(0.9, 0.2)),
    )
    first = copy.deepcopy(net[:2])
    x = torch.randn(6, 2, 5).double()
    out = net(x)
    hidden = first(x)
    copies = torch.cat([shifted(hidden.detach(), torch.full((4,), d)) for d in delays], -1).requires_grad_()
    again = flat(copies)
    assert out.any()
    assert torch.equal(out, again)
    if isinstance(given, rules.Gradient):
        message = torch.randn_like(out)
        out.backward(message)
        again.backward(message)
    else:
        reward = torch.randn_like(out)
        propagate(out, reward)
        propagate(again, reward)
    torch.testing.assert_close(layer.dense.weight.grad, twin.weight.grad)
    back = [part.flip(0) for part in copies.grad.split(4, -1)]
    message = sum(shifted(part, torch.full((4,), d)).flip(0) for part, d in zip(back, delays, strict=True))
    with backward_pass():
        hidden.backward(message)
    for own, wanted in zip(net[:2].parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(own.grad, wanted.grad)


@pytest.mark.parametrize(
    "rule", [rules.Epsilon(), rules.AlphaBeta(), rules.Surrogate()], ids=lambda r: type(r).__name__
)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_a_chosen_delay_is_the_only_one_for_good(rule, optimizer):
    layer = nn.DelayLinear(3, 4, (0, 1, 4))
    net = nn.Sequential(layer, nn.LIF(0.9, 0.2))
    rules.attach(net, rule)
    steps = optimizer(net.parameters(), 0.1)

    def learn():
        out = net((torch.rand(8, 5, 3) < 0.5).float())
        steps.zero_grad()
        if isinstance(rule, rules.Gradient):
            (out.sum() - 20).square().backward()
        else:
            propagate(out, torch.randn_like(out))
        steps.step()

    learn()  # momentum is left of all taps
    assert layer.chosen is None
    before = layer.by_tap.detach().clone()
    found = layer.choose()
    best = before.abs().argmax(0)
    assert torch.equal(found, torch.tensor([0, 1, 4])[best])
    assert torch.equal(layer.by_tap.detach().gather(0, best[None]), before.gather(0, best[None]))
    for _ in range(3):
        learn()
    assert torch.equal(layer.chosen, found)
    assert torch.equal(layer.by_tap != 0, torch.arange(3).view(3, 1, 1) == best)
    assert not torch.equal(layer.by_tap.detach().gather(0, best[None]), before.gather(0, best[None]))
    other = nn.Sequential(nn.DelayLinear(3, 4, (0, 1, 4)), nn.LIF(0.9, 0.2))
    other.load_state_dict(net.state_dict())
    x = (torch.rand(8, 2, 3) < 0.5).float()
    assert torch.equal(other[0].chosen, found)
    assert torch.equal(other[0](x), layer(x))
    fresh = nn.DelayLinear(3, 4, (0, 1, 4))
    other[0].load_state_dict(fresh.state_dict())
    assert other[0].chosen is None
    assert torch.equal(other[0](x), fresh(x))


LAG = 4


def pairs(samples):
    """Two spikes a sample, the first channel ``LAG`` steps before the other or after it: no count tells which."""
    x, classes = torch.zeros(14, samples, 2), torch.arange(samples) % 2
    start = torch.randint(0, 6, (samples,))
    for sample, (first, kind) in enumerate(zip(start.tolist(), classes.tolist(), strict=True)):
        x[first, sample, kind] = x[first + LAG, sample, 1 - kind] = 1
    return x, classes


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate(slope=5)], ids=lambda rule: type(rule).__name__)
def test_delays_tell_which_of_two_spikes_came_first(rule):
    """Neurons that forget within a step see no order; with delays they fire where two spikes meet."""
    x, classes = pairs(60)
    target = torch.nn.functional.one_hot(classes, 2).float()

    def score(delays):
        torch.manual_seed(1)
        layers = nn.DelayLinear(2, 24, delays, bias=False), nn.Linear(24, 2, bias=False)
        net = nn.Sequential(layers[0], nn.LIF(0.05, 0.5, "zero"), layers[1], nn.LIF(0.05, 0.5, "zero"))
        with torch.no_grad():
            layers[0].dense.weight.mul_(2)  # so that two spikes reach the threshold
        rules.attach(net, rule)
        steps = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(60):
            out = net(x)
            steps.zero_grad()
            if isinstance(rule, rules.Gradient):
                torch.nn.functional.cross_entropy(out.sum(0), classes).backward()
            else:
                wrong = target - (8 * out.mean(0)).softmax(-1)
                propagate(out, (wrong / len(classes)).expand_as(out))
            steps.step()
        tests, kinds = pairs(100)
        counts = net(tests).sum(0)
        return float(((counts[:, 1] > counts[:, 0]) == kinds.bool()).float().mean())

    assert score((0, 1, 2, 4)) > 0.95
    assert score((0,)) == 0.5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Delay(-1), "0 to 65535, got -1"),
        (lambda: nn.Delay(1.5), "whole number of steps.*got 1.5"),
        (lambda: nn.Delay(True), "whole number"),
        (lambda: nn.Delay(10**30), "got 10{30}"),
        (lambda: nn.Delay(torch.tensor([1.0])), r"torch.float32 \[1\]"),
        (lambda: nn.Delay(torch.tensor([3, -2])), "got -2"),
        (lambda: nn.Delay(torch.tensor([3, 70000])), "got 70000"),
        (lambda: nn.DelayLinear(2, 2, ()), "at least one and each once, got none"),
        (lambda: nn.DelayLinear(2, 2, (1, 2, 1)), "1 twice"),
        (lambda: nn.DelayLinear(2, 2, (1, 2.5)), "got 2.5"),
        (lambda: models.lif_rnn([2, 3, 2], delays=(0, 0)), "0 twice"),
    ],
)
def test_other_delays_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "state", "says"),
    [
        (nn.Delay(torch.tensor([1, 2])), torch.zeros(4, 2, 3), None, r"steps of \[2\], got \[3\]"),
        (nn.Delay(1), torch.zeros(4, 2), None, "takes .T, B, features"),
        (nn.Delay(1), torch.zeros(4, 2, 3).long(), None, "floating-point"),
        (nn.Delay(2), torch.zeros(4, 2, 3), torch.zeros(1, 2, 3), r"\[2, 2, 3\] here, and was handed \[1, 2, 3\]"),
        (nn.Delay(2), torch.zeros(4, 2, 3), torch.zeros(2, 2, 3).double(), "float64"),
        (nn.Delay(2), torch.zeros(4, 2, 3), (), "got tuple"),
        (nn.Delay(0), torch.zeros(4, 2, 3), torch.zeros(0, 2, 3), "delays nothing"),
        (
            nn.DelayLinear(3, 2),
            torch.zeros(4, 2, 4),
            None,
            "built for 3 input features, got 4 .shape .4, 2, 4",
        ),
    ],
)
def test_inputs_and_states_that_do_not_fit_are_refused(layer, x, state, says):
    with pytest.raises(ShapeError, match=says):
        layer(x) if state is None else layer.run(x, state)


def _delayed_outputs():
    return build(rules.Epsilon(), nn.Linear(3, 4), nn.LIF(0.9, 0.2), nn.Delay(torch.tensor([0, 2, 1, 0])))


def test_delayed_outputs_hand_their_reward_to_the_neurons_of_earlier_steps():
    net, x = _delayed_outputs(), torch.randn(7, 2, 3).double()
    reward = torch.randn(7, 2, 4).double()
    propagate(net(x), reward)
    found = [p.grad.clone() for p in net.parameters()]
    plain = net[:2]
    net.zero_grad()
    propagate(plain(x), shifted(reward.flip(0), net[2].delays).flip(0))
    for own, wanted in zip(found, net.parameters(), strict=True):
        torch.testing.assert_close(own, wanted.grad)


def test_delayed_outputs_are_recomputed_for_gradients_and_refused_for_rewards():
    net, x = _delayed_outputs(), torch.randn(7, 2, 3).double()
    with pytest.raises(UserError, match=r"layer 2 .Delay. delays the outputs of the network"):
        propagate(nn.recomputed(net, x, 3)[0], torch.ones(7, 2, 4).double())
    rules.attach(net, rules.Surrogate())
    message = torch.randn(7, 2, 4).double()
    net(x).backward(message)
    wanted = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    nn.recomputed(net, x, 3)[0].backward(message)
    for p, own in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, own)


@pytest.mark.parametrize("package", ["snntorch", "norse"])
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Delay(2), r"layer '1' .spikelfp\.nn\.\w*\.?Delay."),
        (nn.DelayLinear(3, 3), r"layer '1\.taps' .spikelfp\.nn\.\w*\.?Taps."),
    ],
)
def test_packages_without_delays_refuse_them_by_name(package, layer, named):
    pytest.importorskip(package)
    with pytest.raises(interop.ConversionError, match=named) as refused:
        getattr(interop, f"to_{package}")(nn.Sequential(nn.Linear(3, 3), layer))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "delayed"), [("lif-mlp", 2), ("lif-rnn", 1)])
def test_models_by_name_take_delays(name, delayed):
    def made(**options):
        net = models.build(models.ModelSpec(name, (1, 3, 3), 4, {"hidden": (5,), **options}))
        return [layer for layer in net if isinstance(layer, nn.DelayLinear)]

    found = made(delays=(0, 2, 3))
    assert [layer.delays for layer in found] == [(0, 2, 3)] * delayed
    assert found[0].by_tap.shape == (3, 5, 9)
    assert not made()
    assert not made(delays=(0,))
