"""What a newcomer types first: it runs, or one line says what to type instead. Nothing trains wrongly in silence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from spikelfp import data, methods, models, nn, propagate, rewards, rules
from spikelfp.errors import LearningWarning, NonFiniteError, UserError
from spikelfp.training import TemporalTrainer, Trainer, early_readout

RUNS = None
X, Y = torch.rand(32, 6, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 4
PAIRS = TensorDataset(X, Y)
IMAGES = torch.rand(8, 6, 6)
SEQUENCES = torch.rand(8, 5, 6)


def net():
    torch.manual_seed(0)
    return models.lif_mlp([6, 8, 4])


def make(network=None, **options):
    return TemporalTrainer(network or net(), **{"steps": 4, "batch_size": 8, "device": "cpu"} | options)


def fit(train=PAIRS, epochs=1, *, validation=None, patience=None, **options):
    return make(**options).fit(train, epochs, validation=validation, patience=patience)


def static(train=PAIRS, **options):
    torch.manual_seed(0)
    return Trainer(models.mlp([6, 8, 4]), batch_size=8, device="cpu", **options).fit(train, 1)


def schedule_of_another():
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    return fit(schedule=StepLR(other, 3))


def too_short():
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    schedule = OneCycleLR(optimizer, 0.1, total_steps=3, cycle_momentum=False)
    return make(network, optimizer=optimizer, schedule=schedule).fit(PAIRS, 1)


def lr_twice():
    network = net()
    return make(network, optimizer=torch.optim.SGD(network.parameters(), 0.1), lr=0.1)


def frozen():
    network = net()
    for p in network.parameters():
        p.requires_grad = False
    return make(network)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[0], Y[0])] * 4)


class ThreeParts(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return X[index], 0, "name"


class Tuple(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        spikes = self.inner(x)
        return spikes, spikes


def again(change):
    """A trainer that has trained, and what is asked of it then."""
    trainer = make()
    trainer.fit(PAIRS, 2)
    return change(trainer)


def sent(reward, *, x=X, again=False, **options):
    """One pass of a reward; NaN is no mistake of the user's alone, and has an error of its own."""
    spikes = net()(nn.constant(x, 4))
    try:
        propagate(spikes, reward(spikes), **options)
    except NonFiniteError as error:
        raise UserError(f"NonFiniteError: {error}") from None
    if again:
        propagate(spikes, reward(spikes))


def stale():
    network = net()
    spikes = network(nn.constant(X, 4))
    propagate(spikes, torch.ones_like(spikes), retain_graph=True)
    torch.optim.SGD(network.parameters(), 0.1).step()
    propagate(spikes, torch.ones_like(spikes))


CASES = {
    # data
    "numpy arrays": (lambda: fit((X.numpy(), Y.numpy())), RUNS),
    "lists": (lambda: fit((X.tolist(), Y.tolist())), RUNS),
    "a data set": (lambda: fit(PAIRS), RUNS),
    "a DataLoader": (lambda: fit(DataLoader(PAIRS, batch_size=8, shuffle=True)), RUNS),
    "a DataLoader with workers": (lambda: fit(DataLoader(PAIRS, batch_size=16, num_workers=1)), RUNS),
    "a batch larger than the data": (lambda: fit(batch_size=1000), RUNS),
    "sequences of one's own": (lambda: fit(data.arrays(SEQUENCES, Y[:8], sequences=True)), RUNS),
    "booleans": (lambda: fit((X > 0.5, Y)), RUNS),
    "a validation loader": (lambda: fit(validation=DataLoader(PAIRS, batch_size=7)), RUNS),
    "fit(X, y)": (lambda: make().fit(X, Y), r"hand in a data set, a DataLoader"),
    "fit(data, y)": (lambda: make().fit(PAIRS, Y), r"fit\(\(X, y\), epochs\)"),
    "X alone": (lambda: fit(X), "has no labels"),
    "a path": (lambda: fit("mnist"), "training data is a data set"),
    "nothing": (lambda: fit(None), "got NoneType"),
    "labels as floats": (lambda: fit((X, Y.float())), r"y\.long\(\)"),
    "labels as floats in a data set": (lambda: fit(TensorDataset(X, Y.float())), r"y\.long\(\)"),
    "one-hot labels": (lambda: fit((X, torch.nn.functional.one_hot(Y, 4))), r"y\.argmax\(1\)"),
    "one-hot floats": (lambda: fit((X, torch.nn.functional.one_hot(Y, 4).float())), r"y\.argmax\(1\)"),
    "one-hot labels, surrogate": (
        lambda: fit(TensorDataset(X, torch.nn.functional.one_hot(Y, 4)), method="surrogate"),
        r"y\.argmax\(1\)",
    ),
    "labels from 1": (lambda: fit((X, Y + 1)), "label 4 of sample 3 is outside 0 to 3: the network has 4 outputs"),
    "labels from 1, in a loader": (
        lambda: fit(DataLoader(TensorDataset(X, Y + 1), batch_size=8)),
        "label 4 of sample 3 is outside 0 to 3",
    ),
    "labels from 1, surrogate": (lambda: fit((X, Y + 1), method="surrogate"), "label 4 of sample 3"),
    "labels below 0": (lambda: fit(TensorDataset(X, Y - 1)), "label -1 of sample 0"),
    "y of another length": (lambda: fit((X, Y[:7])), "32 samples but 7 labels"),
    "time first": (lambda: fit((torch.rand(4, 32, 6), Y)), "sequences=True"),
    "time first, said to be sequences": (
        lambda: data.arrays(torch.rand(4, 32, 6), Y, sequences=True),
        "time first",
    ),
    "time first in a loader": (
        lambda: fit(DataLoader([(torch.rand(4, 8, 6), Y[:8])], batch_size=None)),
        r"time first\? hand them over as data\.Sequences",
    ),
    "images or sequences": (lambda: fit((IMAGES, Y[:8])), "say sequences=True or sequences=False"),
    "NaN": (lambda: fit((X.clone().fill_(torch.nan), Y)), "sample 0 holds NaN"),
    "pixels of 8 bits": (lambda: fit(((X * 255).to(torch.uint8), Y)), "scale=1/255"),
    "pixels of 8 bits in a data set": (lambda: fit(TensorDataset((X * 255).to(torch.uint8), Y)), "scale them to"),
    "text labels": (lambda: fit((X, ["a"] * 32)), "return_inverse"),
    "an empty data set": (lambda: fit(TensorDataset(X[:0], Y[:0])), "has no samples"),
    "empty arrays": (lambda: fit((X[:0], Y[:0])), "no samples"),
    "an empty loader": (lambda: fit(DataLoader(PAIRS, batch_size=64, drop_last=True)), "drop_last"),
    "a stream": (lambda: fit(Stream()), "put a DataLoader around it"),
    "a stream in a loader": (lambda: fit(DataLoader(Stream())), "no length"),
    "three parts": (lambda: fit(DataLoader(ThreeParts(), batch_size=4)), "got 3 parts"),
    "X of another width": (lambda: fit((torch.rand(32, 7), Y)), "6 input features, got 7"),
    "validation of the wrong kind": (lambda: fit(validation="test"), "training data is"),
    # trainers
    "an optimiser class": (lambda: fit(optimizer=torch.optim.Adam), RUNS),
    "schedule=None": (lambda: fit(schedule=None), RUNS),
    "ReduceLROnPlateau": (lambda: fit(schedule=lambda o, n: ReduceLROnPlateau(o)), RUNS),
    "ReduceLROnPlateau, the class": (lambda: fit(schedule=ReduceLROnPlateau), RUNS),
    "more epochs later": (lambda: again(lambda trainer: trainer.fit(PAIRS, 4)), RUNS),
    "predict": (lambda: again(lambda trainer: trainer.predict(X)), RUNS),
    "predict numpy": (lambda: again(lambda trainer: trainer.predict(X.numpy())), RUNS),
    "predict one sample": (lambda: again(lambda trainer: trainer.predict(X[0])), "samples have features"),
    "predict shuffled": (
        lambda: again(lambda trainer: trainer.predict(DataLoader(PAIRS, batch_size=8, shuffle=True))),
        "shuffle=False",
    ),
    "predict without inputs": (lambda: again(lambda trainer: trainer.predict(X[:0])), "no samples"),
    "evaluate (X, y)": (lambda: again(lambda trainer: trainer.evaluate((X, Y))), RUNS),
    "evaluate X": (lambda: again(lambda trainer: trainer.evaluate(X)), "has no labels"),
    "evaluate one-hot": (
        lambda: again(lambda trainer: trainer.evaluate((X, torch.eye(4)[Y]))),
        "evaluation counts right classes",
    ),
    "early readout of one-hot labels": (
        lambda: again(lambda trainer: early_readout(trainer, (X, torch.eye(4)[Y]))),
        "class numbers",
    ),
    "fewer epochs": (lambda: again(lambda trainer: trainer.fit(PAIRS, 1)), "2 epochs are done"),
    "epochs as a float": (lambda: fit(epochs=2.0), "epochs is a whole number, got 2.0"),
    "no epochs": (lambda: fit(epochs=0), "at least 1, got 0"),
    "patience without validation": (lambda: fit(patience=3), "hand in validation"),
    "LBFGS": (lambda: fit(optimizer=torch.optim.LBFGS), "LBFGS runs a batch several times"),
    "SparseAdam": (lambda: fit(optimizer=torch.optim.SparseAdam), "choose Adam"),
    "an optimiser of another network": (
        lambda: make(optimizer=torch.optim.SGD(net().parameters(), 0.1)),
        "not of this network",
    ),
    "an optimiser and a learning rate": (lr_twice, "leave out lr"),
    "an optimiser by its torch name": (lambda: make(optimizer="Adam"), "did you mean 'adam'"),
    "an optimiser with wrong options": (
        lambda: make(optimizer=lambda p, lr: torch.optim.SGD(p, lr=-1.0)),
        "cannot be made: Invalid learning rate",
    ),
    "a function that is no optimiser": (lambda: make(optimizer=lambda p, lr: None), "returned NoneType"),
    "a learning rate as text": (lambda: make(optimizer=7), "an optimizer is a name"),
    "frozen weights": (frozen, "nothing to train"),
    "half precision": (lambda: make(net().half()), r"train net\.float\(\)"),
    "a schedule of another optimiser": (schedule_of_another, "belongs to another optimiser"),
    "a schedule that needs more": (lambda: fit(schedule=StepLR), "StepLR needs step_size"),
    "another one": (lambda: fit(schedule=ExponentialLR), "ExponentialLR needs gamma"),
    "a schedule for fewer steps": (too_short, "made for 3 steps, and training takes 4 more"),
    "a schedule that is none": (lambda: fit(schedule=lambda o, n: None), "returned NoneType"),
    "learning_rate=": (lambda: make(learning_rate=0.1), "it is called lr here"),
    "scheduler=": (lambda: make(scheduler="cosine"), "it is called schedule here"),
    "batchsize=": (lambda: make(batchsize=3), "did you mean 'batch_size'"),
    "epochs= of a trainer": (lambda: make(epochs=3), "an argument of fit"),
    "steps of a static trainer": (lambda: static(steps=3), "an option of TemporalTrainer"),
    "max_weight=0": (lambda: make(max_weight=0), "max_weight"),
    "batch_size=2.5": (lambda: make(batch_size=2.5), "batch_size is a whole number"),
    "steps=2.5": (lambda: make(steps=2.5), "steps is a whole number"),
    "sequences that are none": (lambda: fit(steps=None), "static samples"),
    "a list for a network": (lambda: TemporalTrainer([net()]), "trains a torch.nn.Module, got list"),
    "a network that returns its state": (lambda: make(Tuple()).fit(PAIRS, 1), "returns tuple"),
    # methods and rewards
    "reward by name": (lambda: fit(reward="count-softmax"), RUNS),
    "method by name": (lambda: fit(method="surrogate"), RUNS),
    "a reward's class": (lambda: fit(reward=rewards.SpikeSequence), RUNS),
    "a rule by name": (lambda: fit(rule="gamma"), RUNS),
    "a loss by name": (lambda: fit(method="surrogate", loss="count"), RUNS),
    "a misspelt reward": (lambda: make(reward="softmx"), "did you mean 'softmax'"),
    "a misspelt method": (lambda: make(method="lpf"), "did you mean 'lfp'"),
    "a function as reward": (lambda: make(reward=lambda o, y: o), "FromMetric and FromCallback"),
    "a class that needs a metric": (lambda: make(reward=rewards.FromMetric), r"make it, FromMetric\(…\)"),
    "a loss for LFP": (lambda: make(loss="rate"), "has a reward, and"),
    "a reward for a surrogate": (lambda: make(method="surrogate", reward="softmax"), "say loss="),
    "a reward twice": (lambda: make(reward="softmax", method=methods.GradientDescent()), "not both"),
    "a surrogate as a rule of LFP": (lambda: make(rule=rules.Surrogate()), 'say method="surrogate"'),
    "an LFP rule for a surrogate": (lambda: make(method="surrogate", rule=rules.Gamma()), "it takes rules.Surrogate"),
    "an LFP rule for a gradient": (lambda: make(method="gradient", rule=rules.Gamma()), "it takes rules.Surrogate"),
    "an LFP rule in a gradient": (lambda: methods.GradientDescent(rules.Gamma()), "it takes rules.Surrogate"),
    "a Composite in a gradient": (
        lambda: methods.GradientDescent(rules.Composite([(0, rules.Gamma())])),
        "it takes rules.Surrogate",
    ),
    "a rule's name for a layer": (lambda: make(rule="lrp"), "unknown rule 'lrp'"),
    "targets for a classifier": (lambda: static((X, torch.rand(32, 4))), "class numbers"),
    "classes for a regression": (lambda: static((X, Y), reward=rewards.SquaredError()), "takes real targets"),
    "targets of another width": (
        lambda: static((X, torch.rand(32, 3)), reward=rewards.SquaredError()),
        r"targets \[B, 4\] for a network with 4 outputs.*let the network have 3",
    ),
    "a reward of wrong labels": (lambda: rewards.Softmax()(torch.rand(3, 5, 4), torch.zeros(4).long()), "labels"),
    "a reward of label 7": (lambda: rewards.Softmax()(torch.rand(5, 4), torch.full((5,), 7)), "label 7"),
    # networks and loops of one's own
    "the whole sequence": (
        lambda: propagate(s := net()(nn.constant(X, 4)), rewards.SpikeSequence()(s, Y)),
        RUNS,
    ),
    "a static batch for a convolution": (lambda: nn.Conv2d(1, 2, 3)(torch.rand(8, 1, 6, 6)), r"nn\.constant"),
    "an unknown encoding": (lambda: make(encoding="poisson"), "unknown encoding"),
    "rate code of large values": (lambda: fit(TensorDataset(X * 255, Y), encoding="rate"), r"in \[0, 1\]"),
    "an unknown device": (lambda: make(device="gpu"), "'gpu'"),
    "a threshold that learns": (lambda: nn.LIF(learn_threshold=True), "cannot learn under LFP"),
    "a β above 1": (lambda: nn.LIF(beta=1.5), "1.5"),
    "a reward of another shape": (lambda: propagate(net()(nn.constant(X, 4)), torch.ones(3)), "shape"),
    # settings that are set later
    "a misspelt constant": (lambda: setattr(net()[2], "treshold", 2), "did you mean 'threshold'"),
    "a constant of another package": (lambda: setattr(nn.LIF(), "tau", 2.0), "did you mean 'beta'"),
    "a constant of the network": (lambda: setattr(net(), "beta", 0.5), "of the layers inside"),
    "a rule of the network": (lambda: setattr(net(), "rule", rules.Gamma()), "rules.attach"),
    "a β out of range later": (lambda: setattr(nn.LIF(), "beta", 2.0), r"in \(0, 1\], got 2.0"),
    "a β of a readout later": (lambda: setattr(nn.LI(), "beta", 7), r"in \(0, 1\], got 7"),
    "an α out of range later": (lambda: setattr(nn.Synaptic(), "alpha", 1.5), r"in \(0, 1\], got 1.5"),
    "learn_beta later": (lambda: setattr(nn.LIF(), "learn_beta", True), "where the layer is made"),
    "trainer.lr": (lambda: setattr(make(), "lr", 0.1), "param_groups"),
    "trainer.reward": (lambda: setattr(make(), "reward", "softmax"), "make a new TemporalTrainer"),
    "trainer.net": (lambda: setattr(make(), "net", net()), "make a new TemporalTrainer"),
    "trainer.encoding": (lambda: setattr(make(), "encoding", "rate"), "make a new TemporalTrainer"),
    "trainer.stepss": (lambda: setattr(make(), "stepss", 9), "did you mean 'steps'"),
    # rules
    "Gamma(0.25)": (lambda: rules.Gamma(0.25), r"name them, Gamma\(.*gamma=…\)"),
    "AlphaBeta(2, 1)": (lambda: rules.AlphaBeta(2, 1), "name them"),
    "an ε as text": (lambda: rules.Epsilon("1e-3"), "eps is a number"),
    "normalize=1": (lambda: rules.Epsilon(normalize=1), "normalize is False"),
    "attach a name": (lambda: rules.attach(net(), "gamma"), "such as rules.Gamma"),
    "attach, swapped": (lambda: rules.attach(rules.Gamma(), net()), "rules go to the layers of a network"),
    "attach to a list": (lambda: rules.attach([net()], rules.Gamma()), "got list"),
    "attach to torch's layers": (lambda: rules.attach(torch.nn.Linear(3, 4), rules.Gamma()), "no layer that follows"),
    "a composite of names": (lambda: rules.Composite([(-1, "gamma")]), "takes rules of spikelfp.rules"),
    "a composite of one pair": (lambda: rules.Composite((-1, rules.Gamma())), "takes pairs"),
    "a composite of a layer": (lambda: rules.Composite([(nn.LIF(), rules.Gamma())]), "a selector is a class"),
    # options of trainers
    "wake as text": (lambda: make(wake="no"), "wake is true or false"),
    "a seed as text": (lambda: make(seed="a"), "seed is a whole number"),
    "clip as text": (lambda: make(clip="x"), "clip is a number"),
    "more steps to read out": (lambda: make(readout_steps=9), "more than the 4 steps"),
    "half a chunk": (lambda: make(chunk=2.5), "chunk is a whole number"),
    "bits for a quantisation": (lambda: make(quantization=8), r"Quantization\(bits=8\)"),
    "evaluate labels from 1": (
        lambda: again(lambda trainer: trainer.evaluate((X, Y + 1))),
        "label 4 of sample 3 is outside 0 to 3",
    ),
    # loops
    "labels as a list": (lambda: rewards.SpikeSequence()(torch.ones(5, 2, 4), [0, 1]), "torch.as_tensor"),
    "the state among the outputs": (
        lambda: rewards.SpikeSequence()(net().run(nn.constant(X, 4)), Y),
        "outputs, state = net.run",
    ),
    "a reward of complex numbers": (lambda: sent(lambda s: torch.ones_like(s) * 1j), "dense and real"),
    "a reward too large": (lambda: sent(lambda s: torch.ones_like(s).double() * 1e300), "NonFiniteError"),
    "a weight of NaN": (lambda: sent(torch.ones_like, weight=torch.nan), "weight must be a finite number"),
    "an ε below 0": (lambda: sent(torch.ones_like, eps=-1), "eps must be a finite number"),
    "retain_grap=": (lambda: sent(torch.ones_like, retain_grap=True), "did you mean 'retain_graph'"),
    "no outputs": (lambda: propagate([], []), "no outputs"),
    "NaN inputs": (lambda: sent(torch.ones_like, x=X * torch.nan), "NonFiniteError"),
    "a pass twice": (lambda: sent(torch.ones_like, again=True), "second time"),
    "a pass after a step": (lambda: stale(), "changed in place"),
    "a state of another kind": (lambda: nn.LIF().run(torch.ones(3, 2, 4), torch.zeros(2, 4).double()), "float64"),
    "a state that is none": (lambda: net().run(nn.constant(X, 4), {}), "one for each of its 5 layers"),
    "a state too short": (lambda: net().run(nn.constant(X, 4), (None,)), "tuple of 1"),
    "numpy for constant": (lambda: nn.constant(X.numpy(), 4), "takes a tensor"),
    "half a step": (lambda: nn.constant(X, 2.5), "steps is a whole number"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_runs_or_one_line_says_what_to_type(name):
    typed, fragment = CASES[name]
    if fragment is RUNS:
        typed()
        return
    with pytest.raises(UserError, match=fragment) as found:
        typed()
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 400


def test_there_are_enough_of_them():
    assert len(CASES) >= 100
    assert sum(fragment is RUNS for _, fragment in CASES.values()) >= 20


def test_what_runs_is_right():
    """All forms of the same data give the same network."""
    weights = []
    for train in (PAIRS, (X, Y), (X.numpy(), Y.numpy()), data.arrays(X, Y), (X.tolist(), np.array(Y.tolist()))):
        trainer = make()
        trainer.fit(train, 2)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.net.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_constants_can_be_set_and_are_those_of_the_next_pass():
    layer, x = nn.LIF(), torch.rand(6, 3, 4) * 2
    layer.beta, layer.threshold, layer.reset = 0.5, 0.7, "zero"
    assert torch.equal(layer(x), nn.LIF(0.5, 0.7, "zero")(x))
    learned = nn.LIF(learn_beta=True)
    learned.beta = 0.5
    assert learned.decay is not None
    assert float(learned.decay.detach()) == 0.5


def test_what_is_no_option_may_be_kept_on_a_layer():
    network = net()
    network.name = network[2].label = "mine"
    network[2].recorded = []

    class Own(nn.LIF):
        def __init__(self):
            super().__init__()
            self.tau = 20.0

    assert Own().tau == 20.0


def test_a_loop_that_drops_the_state_is_warned_about_and_one_that_carries_it_is_not():
    network = net()
    with pytest.warns(LearningWarning, match="4 single steps that all start from rest"):
        propagate(s := torch.cat([network(X[None]) for _ in range(4)]), torch.ones_like(s))
    state, steps = None, []
    for _ in range(4):
        spikes, state = network.run(X[None], state)
        steps.append(spikes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        propagate(s := torch.cat(steps), torch.ones_like(s))


def test_a_second_fit_of_as_many_epochs_says_that_it_does_nothing():
    trainer = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(PAIRS, 1)
    with pytest.warns(LearningWarning, match=r"nothing is trained: 1 epochs are done.*fit\(…, epochs=2\)"):
        trainer.fit(PAIRS, 1)


def test_a_spiking_network_that_sees_one_step_is_warned_about():
    trainer = Trainer(net(), batch_size=8, device="cpu")
    with pytest.warns(LearningWarning, match="sees a single step"):
        trainer.fit(PAIRS, 1)


def descend(loss, pairs=PAIRS):
    torch.manual_seed(0)
    return Trainer(models.mlp([6, 8, 4]), method="gradient", loss=loss, batch_size=8, device="cpu").fit(pairs, 1)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, y: 1.0, "got float"),
        (lambda o, y: cross_entropy(o[0], y, reduction="none").repeat(2), "got torch.float32 of shape"),
        (lambda o, y: cross_entropy(o[0], y) * 1j, "got torch.complex64"),
        (lambda o, y: (o[0].argmax(1) != y).sum(), "got torch.int64"),
        (lambda o, y: cross_entropy(o[0], y).detach(), "value without a graph"),
    ],
)
@pytest.mark.parametrize("samples", [32, 1])
def test_what_a_loss_of_ones_own_returns(loss, message, samples):
    """One sample is too few to try the loss before training."""
    with pytest.raises(UserError, match=rf"the loss <lambda> returns .*{message}"):
        descend(loss, TensorDataset(X[:samples], Y[:samples]))


def test_a_loss_of_one_element_is_a_number():
    """As those of snnTorch are."""
    of_one, plain = (
        descend(lambda o, y: cross_entropy(o[0], y).reshape(1)),
        descend(lambda o, y: cross_entropy(o[0], y)),
    )
    assert of_one == plain


def test_parameters_of_a_loss_are_not_trained():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(4))

        def forward(self, outputs, labels):
            return cross_entropy(outputs[0] * self.scale, labels)

    with pytest.warns(LearningWarning, match="the loss Scaled has 1 parameters .* are not trained"):
        descend(Scaled())


def test_an_optimiser_that_maximises():
    """It would go away from what is rewarded. A loss of one's own may be something to maximise."""
    for options in ({}, {"method": "gradient"}):
        with pytest.raises(UserError, match=r"maximize=True of SGD would make (rewards smaller|the loss larger)"):
            static(optimizer=lambda p, lr: torch.optim.SGD(p, lr, maximize=True), **options)
    static(
        optimizer=lambda p, lr: torch.optim.SGD(p, lr, maximize=True), method="gradient",
        loss=lambda o, y: -cross_entropy(o[0], y),
    )  # fmt: skip


def test_a_loader_of_single_samples():
    with pytest.raises(UserError, match="give the DataLoader a batch_size"):
        static(DataLoader(PAIRS, batch_size=None))
