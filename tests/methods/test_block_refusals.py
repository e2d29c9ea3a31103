"""One clear error for each thing that methods which teach blocks cannot train, before a weight has changed."""

from functools import partial

import pytest
import torch

from spikelfp import TemporalTrainer, Trainer, data, methods, models, nn, rewards, rules, tasks
from spikelfp.errors import CheckpointError, UserError


def arrays(count=12, features=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return data.arrays(torch.rand(count, features, generator=generator), torch.arange(count) % classes)


def mlp(hidden=7):
    torch.manual_seed(1)
    return models.mlp([6, hidden, 3], activation="tanh")


def lif(frozen=()):
    torch.manual_seed(1)
    net = models.lif_mlp([6, 8, 7, 3], threshold=0.3)
    for number in frozen:
        net[number].requires_grad_(False)
    return net


def tied():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(first, nn.LIF(), second, nn.LIF(), nn.Linear(6, 3), nn.LIF())


def twice():
    neurons = nn.LIF()
    return nn.Sequential(nn.Linear(6, 6), neurons, nn.Linear(6, 6), neurons, nn.Linear(6, 3), nn.LIF())


class Own(nn.Layer):
    """Runs its layers in an order that only it knows."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.LIF(), nn.Linear(8, 3), nn.LIF()

    def forward(self, x):
        return self.d(self.c(self.b(self.a(x))))


NETWORKS = {
    "own order": (Own, "does not run its layers one after the other"),
    "one block": (lambda: nn.Sequential(nn.Linear(6, 3), nn.LIF()), "has one block alone"),
    "tied weights": (tied, r"0\.weight is used in two blocks"),
    "one layer of neurons": (twice, "runs in two blocks"),
    "frozen hidden": (lambda: lif((1, 3)), "weights of all hidden blocks are frozen"),
    "frozen output": (lambda: lif((5,)), "weights of the last block, .* are frozen"),
    "torch's layer": (
        lambda: nn.Sequential(torch.nn.Linear(6, 8), nn.LIF(), nn.Linear(8, 3), nn.LIF()),
        "torch's Linear, which follows no LFP rule",
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("method", ["f3", "dfa", "drtp"])
def test_networks(method, case):
    make, text = NETWORKS[case]
    with pytest.raises(UserError, match=text):
        TemporalTrainer(make(), method=method, steps=3).fit(arrays(), 1)


def test_a_network_of_one_block_and_frozen_hidden_layers_train_their_last_layer():
    for net in (nn.Sequential(nn.Linear(6, 3), nn.LIF()), lif((1, 3))):
        made = TemporalTrainer(net, method="llo", steps=3)
        made.fit(arrays(), 1)


@pytest.mark.parametrize("number", [1, 3])
def test_a_frozen_block_stays_and_the_others_learn(number):
    net, before = lif((number,)), lif()
    TemporalTrainer(net, method="f3", steps=3, batch_size=4).fit(arrays(), 2)
    for own in (1, 3, 5):
        assert torch.equal(net[own].weight, before[own].weight) is (own == number)


def own_loss(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs.mean(0), labels)


METHODS = {
    "credit and rule": (lambda: methods.F3(credit="gradient", rule=rules.Epsilon()), "exclude each other"),
    "credit and credit of the rule": (
        lambda: methods.F3(credit="scan", rule=rules.Epsilon(credit="step")), "exclude each other"
    ),
    "reward without a reward": (
        lambda: methods.DFA(credit="surrogate", reward=rewards.SpikeSequence()), "leave out the reward"
    ),
    "loss without a loss": (lambda: methods.DRTP(credit="scan", loss=own_loss), "leave out the loss"),
    "gradient of spikes": (lambda: methods.F3(credit="gradient"), "derivative is 0"),
    "smoothing of the last block alone": (
        lambda: methods.DFA(credit="surrogate", loss=partial(methods.rate_cross_entropy, label_smoothing=0.5)),
        r"teaches hidden blocks by y\* − ŷ.*label_smoothing=0\.5: leave them out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", METHODS)
def test_arguments_that_exclude_each_other(case):
    make, text = METHODS[case]
    with pytest.raises(UserError, match=text):
        TemporalTrainer(lif(), method=make(), steps=3)


VALUES = {
    "credit": ({"credit": "backward"}, "credit"),
    "init": ({"feedback_init": "kaming"}, "did you mean 'kaiming'"),
    "form": ({"feedback_as": "spike"}, "reward"),
    "one_hot": ({"one_hot": "yes"}, "one_hot of F3 is true or false"),
    "softmax": ({"softmax": 1}, "softmax of F3 is true or false"),
    "memory": ({"error_memory": "batch"}, "sample"),
    "information": ({"error_information": "slope"}, "loss"),
    "rate without an average": ({"error_rate": 0.5}, "error_memory"),
    "buckets without a hash": ({"error_memory": "class", "error_buckets": 8}, "hash"),
    "rate": ({"error_memory": "class", "error_rate": 0.0}, r"\(0, 1\]"),
    "rate as text": ({"error_memory": "class", "error_rate": "0.5"}, r"\(0, 1\]"),
    "rate nan": ({"error_memory": "class", "error_rate": float("nan")}, r"\(0, 1\]"),
    "buckets": ({"error_memory": "hash", "error_buckets": 0}, "whole number"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values(case):
    options, text = VALUES[case]
    with pytest.raises(UserError, match=text):
        methods.F3(**options)


@pytest.mark.parametrize("method", [methods.F3(loss=own_loss), methods.DFA(loss=own_loss)])
def test_a_loss_of_ones_own_has_no_error(method):
    net, before = mlp(), mlp()
    with pytest.raises(UserError, match="does not tell what its prediction"):
        Trainer(net, method=method).fit(arrays(), 1)
    assert torch.equal(net[1].weight, before[1].weight)


def test_a_loss_of_ones_own_has_a_slope():
    made = Trainer(mlp(), method=methods.F3(loss=own_loss, error_information="loss"), lr=1e-9, batch_size=4)
    made.fit(arrays(), 1)
    x, y = arrays().__getitems__(range(12))
    slope = torch.eye(3)[y] - made.net(x.unsqueeze(0))[0].softmax(-1)  # of cross-entropy
    torch.testing.assert_close(made.method.table.errors, slope.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="softmax=True"):
        Trainer(mlp(), method=methods.F3(loss=own_loss, error_information="loss", softmax=True))


@pytest.mark.parametrize(
    "reward",
    [
        rewards.FromMetric(lambda outputs, labels: (outputs.sum(0).argmax(-1) == labels).float()),
        rewards.F1(),
        rewards.CorrectClass(),
    ],
    ids=lambda reward: type(reward).__name__,
)
def test_rewards_that_are_not_of_spikes_keep_the_target_less_the_output(reward):
    made = TemporalTrainer(lif(), method=methods.F3(reward=reward), lr=1e-9, batch_size=4, steps=3)
    made.fit(arrays(), 1)
    x, y = arrays().__getitems__(range(12))
    outputs = made.net(made.present(x)).detach()
    expected = made.task.expected(y, outputs) - made.task.predicted(outputs)
    torch.testing.assert_close(made.method.table.errors, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["f3", "dfa", "drtp"])
def test_labels_of_steps_have_no_error_of_a_sample(method):
    train = data.arrays(torch.rand(8, 4, 6), torch.randint(0, 3, (8, 4)), sequences=True)
    net = models.lif_mlp([6, 5, 3], readout="li")
    with pytest.raises(UserError, match="has a target for every step"):
        TemporalTrainer(net, method=method, task="sequence-labels", steps=None).fit(train, 1)


@pytest.mark.parametrize(
    ("task", "targets", "text"),
    [
        ("classification", torch.arange(12), "label 3 of sample 3 is outside 0 to 2"),
        ("multi-label", torch.full((12, 3), 2.5), "0 or 1"),
        ("regression", torch.rand(12, 4), "for a network with 3 outputs"),
        ("regression", torch.full((12, 3), float("inf")), "NaN or infinity"),
    ],
)
def test_targets_outside_of_the_loss(task, targets, text):
    with pytest.raises(UserError, match=text):
        Trainer(mlp(), method="f3", task=task).fit(data.arrays(torch.rand(12, 6), targets), 1)


@pytest.mark.parametrize("options", [{"one_hot": True}, {"softmax": True}, {"error_memory": "class"}])
def test_classes_where_there_are_none(options):
    with pytest.raises(UserError, match="class"):
        Trainer(mlp(), method=methods.F3(**options), task="regression").fit(
            data.arrays(torch.rand(12, 6), torch.rand(12, 3)), 1
        )


def test_recompute():
    with pytest.raises(UserError, match="backward pass through the whole network, and F3 has none"):
        TemporalTrainer(lif(), method="f3", steps=6, recompute=2)


def test_inputs_that_chance_draws_have_no_hash():
    with pytest.raises(UserError, match="draws these anew"):
        TemporalTrainer(lif(), method=methods.F3(error_memory="hash"), steps=3, encoding="rate").fit(arrays(), 1)
    digits = data.Augmented(data.load("digits").train.subset(torch.arange(8)))
    with pytest.raises(UserError, match="draws these anew"):
        Trainer(models.mlp([64, 5, 10]), method=methods.F3(error_memory="hash")).fit(digits, 1)
    warm = methods.WarmUp(methods.GradientDescent(), methods.F3(error_memory="hash"), 3)
    with pytest.raises(UserError, match="draws these anew"):
        Trainer(models.mlp([64, 5, 10]), method=warm).fit(digits, 1)


@pytest.mark.parametrize("method", ["f3", "dfa", "drtp", "llo", "pepita"])
def test_a_method_belongs_to_one_network(method):
    own = methods.methods[method]()
    Trainer(mlp(), method=own)
    with pytest.raises(UserError, match="make one for each network"):
        Trainer(mlp(), method=own)


def test_errors_belong_to_the_samples_that_they_were_kept_of():
    """Also where all targets are equal, so that those of the samples tell nothing."""
    made = Trainer(mlp(), method="f3")
    made.fit(arrays(), 1)
    weights = made.net[1].weight.detach().clone()
    with pytest.raises(UserError, match="of other samples"):
        made.fit(arrays(seed=1), 2)
    assert torch.equal(made.net[1].weight, weights)
    with pytest.raises(UserError, match="of other samples"):  # nor in a second trainer of the same network
        Trainer(made.net, method=made.method).fit(arrays(seed=1), 2)
    made.fit(arrays(), 2)


def test_other_data_and_other_networks_to_go_on(tmp_path):
    made = Trainer(mlp(), method="f3")
    made.fit(arrays(), 1)
    made.save(tmp_path / "c.pt")
    again = Trainer(mlp(), method="f3")
    again.load(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="not those that the loaded checkpoint was trained on"):
        again.fit(arrays(seed=1), 2)
    with pytest.raises(CheckpointError, match=r"\(7, 6\) in the checkpoint, \(9, 6\)"):
        Trainer(mlp(9), method="f3").load(tmp_path / "c.pt")
    for other in ("dfa", methods.F3(feedback_init="trinomial"), methods.F3(one_hot=True)):
        with pytest.raises(CheckpointError):
            Trainer(mlp(), method=other).load(tmp_path / "c.pt")


def test_another_validation_split_is_other_data(tmp_path):
    digits = data.load("digits")
    parts = [digits.with_validation(0.5, seed).train.subset(torch.arange(20)) for seed in (0, 1)]
    made = Trainer(models.mlp([64, 5, 10]), method="f3")
    made.fit(parts[0], 1)
    made.save(tmp_path / "c.pt")
    again = Trainer(models.mlp([64, 5, 10]), method="f3")
    again.load(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="not those that the loaded checkpoint was trained on"):
        again.fit(parts[1], 2)


def test_feedback_weights_that_do_not_fit():
    made = Trainer(mlp(), method="f3")
    made.fit(arrays(), 1)
    kept = made.method.state_dict()
    other = Trainer(mlp(9), method="f3")
    other.method.load_state_dict(kept)
    with pytest.raises(UserError, match=r"are \[3, 7\], and the network has 3 outputs and 9 neurons there"):
        other.fit(arrays(), 1)
    deeper = Trainer(models.mlp([6, 7, 7, 7, 3]), method="f3")
    for wrong, text in (
        ({**kept, "weights": {"8": torch.zeros(3, 7)}}, "hidden layers are"),
        ({**kept, "weights": {"2": torch.zeros(3)}}, "no matrix"),
        ({**kept, "table": {}}, "has no errors"),
        ({"seed": kept["seed"], "weights": {}}, "table of errors is missing"),
        ({"table": kept["table"]}, "missing"),
    ):
        with pytest.raises(UserError, match=text):
            deeper.method.load_state_dict(wrong)


def test_a_method_that_takes_over_later_is_suited_to_the_network():
    made = TemporalTrainer(lif(), method="drtp", steps=3, batch_size=4)
    made.fit(arrays(), 1)
    made.method = methods.F3(credit="step")
    made.fit(arrays(), 2)
    assert made.method.rule.credit == "step"
    assert made.method.table.seen.all()


def test_a_method_without_a_trainer():
    batch = methods.Batch(torch.rand(1, 4, 6), torch.arange(4) % 3)
    with pytest.raises(UserError, match="call suit"):
        methods.F3(error_memory="class").learn(mlp(), batch)
    method, net = methods.DRTP(), mlp()
    method.suit(net, tasks.Classification())
    method.prepare(net)
    with rules.lending(net, method.rule):
        method.learn(net, batch)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", ["dfa", "decolle"])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"9": torch.ones(3, 7)}, "feedback weights for 9, and the hidden layers are"),
        ({None: torch.ones(7)}, "no matrix"),
        ({None: torch.full((3, 7), torch.nan)}, "not finite"),
    ],
)
def test_damaged_feedback_weights_are_refused_by_every_method_that_has_some(name, weights, message):
    net = nn.Sequential(nn.Linear(6, 7), nn.LIF(), nn.Linear(7, 3), nn.LIF())
    method = TemporalTrainer(net, method=name, steps=4).method
    kept, hidden = method.state_dict(), method.hidden_names()[0]
    state = {**kept, "weights": {hidden if key is None else key: own for key, own in weights.items()}}
    with pytest.raises(UserError, match=message):
        method.load_state_dict(state)
    assert method.weights == {}
    own = torch.ones(3, 7)
    method.load_state_dict({**kept, "weights": {hidden: own}})
    assert torch.equal(method.weights[hidden], own)
    assert method.weights[hidden] is not own
