"""Options of a run that belong to no model, method or other choice, in sections; each with its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from spikelfp import methods, rules
from spikelfp.data import encodings
from spikelfp.data.dataset import datasets
from spikelfp.data.events.event import FileLayout, Sensor
from spikelfp.data.events.sources.tree import SPLITS
from spikelfp.data.load import check_data_name, data_names
from spikelfp.data.loader import MOST_WORKERS
from spikelfp.errors import UserError
from spikelfp.functional.lif import FLOOR, MARGIN, Denominator, Reset
from spikelfp.methods.feedback import CREDITS
from spikelfp.methods.spike_rate import OVER
from spikelfp.models import decay_starts, models
from spikelfp.options import Choice, choice, other_than, setting
from spikelfp.quantized import CLIPS, UPDATES
from spikelfp.rewards import rewards
from spikelfp.tasks import tasks
from spikelfp.training.conditions import (
    CREDITED,
    EVENTS,
    FEW_BITS,
    FLOAT,
    IMAGES,
    LOSS,
    NEURONS,
    NORMALIZED,
    ONE_BETA,
    OTHER_WARM_UP,
    OWN_FILES,
    OWN_SENSOR,
    RATED,
    REWARDED,
    RULED,
    SENDS_BACK,
    SENT_BACK,
    SHOWN_STEPS,
    SMOOTHED,
    SPIKES,
    STATIC,
    STATISTICS,
    STEPS,
    SURROGATE,
    TAPS,
    VALUES,
    WARM_UPS,
)
from spikelfp.training.optim import optimizers, schedules

AUTO_STEPS = 1000
"""Updates that an automatic number of epochs reaches at least, within 3 to 60 epochs."""

NORMALIZE = ("sample", "step")
"""Ranges over which the largest magnitude of a reward is taken."""


def _check_columns(columns: str) -> None:
    FileLayout.from_text(columns=columns)


def _check_bits(bits: int) -> None:
    if bits != FLOAT and not 2 <= bits <= 16:
        raise UserError(f"weight-bits must lie between 2 and 16, or be {FLOAT} for floats, got {bits}")


@dataclass(frozen=True)
class DataOptions(Choice):
    """Data set, and how a network is shown it."""

    name: str = choice("digits", "data set", datasets, names=data_names, check=check_data_name)
    standardize: bool = setting(False, "shift and scale each channel to mean 0 and deviation 1", owner=IMAGES & VALUES)
    augment: bool = setting(False, "random mirror images and shifts of the training images", owner=IMAGES)
    encoding: str = setting("constant", "from a static input to a sequence", names=encodings, owner=STATIC)
    steps: int | None = setting(
        None,
        "steps of a sequence",
        automatic="25; 1 for networks without spikes; the data set's for events",
        owner=SHOWN_STEPS,
        within="[1, ∞)",
    )
    validation: float = setting(
        0.0,
        "part of the training set held out to choose the best epoch; the test set is then seen once, at the end",
        within="[0, 1)",
    )


@dataclass(frozen=True)
class EventOptions:
    """Recordings of events, and their conversion into sequences."""

    slice: float | None = setting(
        None, "cut recordings into slices of FLOAT ms, each a sample", automatic="whole recordings", owner=EVENTS,
        within="[0.001, 1000000000]",
    )  # fmt: skip
    slice_events: int | None = setting(
        None, "cut recordings into slices of INT events instead", owner=EVENTS, within="[1, ∞)"
    )
    slice_overlap: float = setting(
        0.0,
        "share of a slice that the next one repeats",
        owner=other_than("slice", None) | other_than("slice_events", None),
        within="[0, 1)",
    )
    label_table: str | None = setting(
        None,
        "csv file in the folder with columns file, start, end, class; or the ending of one beside each recording, "
        "such as _labels.csv",
        automatic="folders are the classes",
        owner=OWN_FILES,
    )
    class_level: int | None = setting(
        None,
        "level of the folders that are the classes, 1 for the first; the others are sessions",
        automatic="the only level with two names or more",
        owner=OWN_FILES,
        within="[1, ∞)",
    )
    split_by: str | None = setting(
        None,
        "what stays in one part as a whole: a file, all files of a session, or all of a subject",
        names=SPLITS,
        automatic="file, or the folders train and test",
        owner=OWN_FILES,
    )
    window: float | None = setting(
        None, "ms of a step of event data; --steps is then the most", automatic="the data set's", owner=EVENTS
    )
    events_per_step: int | None = setting(
        None, "events of a step instead; --steps is then the most", owner=EVENTS, within="[1, ∞)"
    )
    levels: int | None = setting(
        None,
        "n events of one pixel in one step count as min(n, INT)/INT; 1 makes spikes",
        automatic="2 for cameras and folders, else the data set's",
        owner=EVENTS,
        within="[1, ∞)",
    )
    transforms: str | None = setting(
        None,
        "what is done to events, such as denoise=10000,downsample=2",
        automatic="the data set's; of folders and tonic: pixels joined until no side of a camera has more than 48",
        owner=EVENTS,
    )
    augmentations: str = setting(
        "",
        "what chance does to training sequences of events, such as shift=2,drop=0.1",
        automatic="nothing",
        owner=EVENTS,
    )
    sparse: bool = setting(
        False, "hand sequences of events to the first layer as lists: less memory for many steps", owner=EVENTS
    )
    skip_bad: bool = setting(False, "leave out recordings that cannot be read, and list them", owner=EVENTS)
    sensor: str | None = setting(
        None,
        "sensor of files that do not state theirs, such as 346x260, or 700 channels",
        automatic="the smallest that holds all events",
        owner=OWN_SENSOR,
        check=Sensor.from_text,
    )
    table: str | None = setting(
        None,
        "group, struct, array or stream that holds the events of a file, such as davis/left/events",
        automatic="found by the content",
        owner=OWN_FILES,
    )
    columns: str | None = setting(
        None,
        "columns of files that do not name theirs, such as x,y,t,p",
        automatic="found by the content",
        owner=OWN_FILES,
        check=_check_columns,
    )
    first_pixel: int | None = setting(
        None,
        "number of the first column and row in files of MATLAB, 0 or 1",
        automatic="found by the content",
        owner=OWN_FILES,
        within="[0, 1]",
    )
    cache_dir: str | None = setting(
        None,
        "folder of binned recordings",
        automatic="$SPIKELFP_CACHE or ~/.cache/spikelfp/events",
        owner=EVENTS,
        kind="path",
    )


@dataclass(frozen=True)
class ModelOptions(Choice):
    """Network, and the grid of its weights."""

    name: str = choice(
        "lif-mlp",
        "network",
        models,
        automatic="lif-mlp; of events, without other options of networks, lif-conv for cameras and lif-rnn for lines",
    )
    weight_bits: int = setting(
        FLOAT, f"bits of a weight in the forward pass, 2 (ternary) to 16; {FLOAT} for floats", check=_check_bits
    )
    weight_update: str = setting(
        "masters",
        "updates of quantised weights: to float copies, or rounded onto the grid by chance",
        names=UPDATES,
        owner=FEW_BITS,
    )
    weight_clip: str = setting("mse", "how the scales of quantised weights are chosen", names=CLIPS, owner=FEW_BITS)
    input_levels: int | None = setting(
        None,
        "inputs are multiples of 1/INT, and quantised biases that they meet too",
        automatic="as the data; 1 for spikes",
        owner=FEW_BITS,
        within="[1, ∞)",
    )


@dataclass(frozen=True)
class TaskOptions(Choice):
    """Task of the network."""

    name: str = choice("classification", "what the network is to do", tasks, automatic="that of the data set")


@dataclass(frozen=True)
class NeuronOptions:
    """Neurons of the network, all alike."""

    beta: float = setting(
        0.9,
        "decay of the membrane per step, in (0, 1]",
        automatic="0.9; 0.8 for events",
        owner=NEURONS & ONE_BETA,
    )
    beta_start: Choice = choice(
        "shared",
        "decays at the start: one a layer (shared); or one a neuron, all --beta (equal), drawn between --beta-low and "
        "--beta-high, evenly (uniform) or in the logarithm of time constants (log-uniform), or around --beta (gamma)",
        decay_starts,
        automatic="shared; log-uniform, 0.3 to 0.95, for lif-rnn on lines of channels",
        owner=NEURONS,
    )
    threshold: float = setting(1.0, "membrane above which a neuron fires", owner=NEURONS)
    learn_beta: bool = setting(False, "the decay learns too, one a layer or as --beta-start says", owner=NEURONS)
    adapt: float = setting(
        0.0,
        "rise of the threshold of hidden neurons by each of their spikes (ALIF); 0 for thresholds that stay",
        owner=NEURONS,
        within="[0, ∞)",
    )
    adapt_decay: float = setting(
        0.97, "decay of that rise per step", owner=other_than("adapt", 0.0, "--adapt"), within="(0, 1]"
    )
    reset: str = setting(
        "subtract",
        "what a spike does to the membrane",
        names=get_args(Reset),
        automatic="subtract; zero for the events of cameras and of folders",
        owner=NEURONS,
    )
    denominator: str = setting(
        "inflow", "how the reward on a membrane is normalised", names=get_args(Denominator), owner=NEURONS & SENT_BACK
    )
    floor: float = setting(
        FLOOR,
        "least denominator of that reward, in units of the threshold; 0 as in the paper",
        owner=NEURONS & SENT_BACK,
        within="[0, ∞)",
    )
    margin: float = setting(
        MARGIN,
        "share of the threshold above which a neuron earns what a spike would; 1 as in the paper",
        owner=NEURONS & SENT_BACK,
        within="(0, 1]",
    )


@dataclass(frozen=True)
class MethodOptions(Choice):
    """Method of training: where the credit comes from."""

    name: str = choice("lfp", "where the credit comes from", methods.methods)
    reward: Choice = choice(
        None,
        "reward at the outputs",
        rewards,
        automatic="of classes spike-sequence for spiking networks (count-softmax for events), else softmax; of other "
        "tasks their loss's",
        owner=REWARDED,
    )
    credit: str | None = setting(
        None,
        "how credit runs inside a layer: derivatives, surrogate ones, or LFP through time, step by step, or online",
        names=CREDITS,
        automatic="scan with spikes or --method lfp, else gradient",
        owner=CREDITED,
    )
    rule: Choice = choice("epsilon", "how a layer splits a reward", rules.rules, owner=RULED)
    normalize_reward: bool = setting(
        False, "divide the reward between layers by its largest magnitude (A.6.4)", owner=NORMALIZED
    )
    normalize_by: str = setting(
        "sample",
        "the largest magnitude of each sample, or of each of its steps",
        names=NORMALIZE,
        owner=other_than("normalize_reward", False),
    )
    statistics: str = setting(
        "through",
        "normalisation layers: messages pass through mean and variance, or both are constant (v3 eq. 8-10)",
        names=("through", "constant"),
        owner=STATISTICS,
    )
    loss: Choice = choice(
        "rate",
        "cross-entropy of the outputs of every step (rate), of spike counts (count), or of each output by itself (bce)",
        methods.losses,
        owner=LOSS,
    )
    label_smoothing: float = setting(
        0.0,
        "part α of a target that all classes share: (1 − α) y + α/C, in training",
        owner=SMOOTHED,
        within="[0, 1)",
    )
    surrogate: str = setting(
        "fast-sigmoid", "shape of the surrogate derivative", names=rules.surrogates, owner=SURROGATE
    )
    slope: float = setting(25.0, "steepness of the surrogate derivative", owner=SURROGATE, within="(0, ∞)")
    rate_target: float | None = setting(
        None,
        "spikes per step that hidden neurons are asked for, as a reward or a loss beside that of the task",
        automatic="none",
        owner=RATED,
        within="[0, 1]",
    )
    rate_weight: float = setting(
        0.1,
        "weight of --rate-target: a neuron's reward in a step is it times what its rate lacks",
        owner=other_than("rate_target", None),
        within="[0, ∞)",
    )
    rate_of: str = setting(
        "neuron",
        "whose mean has the --rate-target: each neuron by itself (over steps and batch), or the layer in each sample",
        names=OVER,
        owner=other_than("rate_target", None),
    )
    warm_up: str | None = setting(
        None,
        "method of the first updates (v1 A.6.4)",
        names=WARM_UPS,
        automatic="surrogate for spiking networks, else gradient",
        owner=other_than("warm_up_steps", 0, "--warm-up-steps, its number of updates"),
    )
    warm_up_steps: int = setting(
        0,
        "updates by --warm-up before --method takes over, 0 for none",
        owner=OTHER_WARM_UP,
        within="[0, ∞)",
    )
    wake: bool = setting(
        True, "before the first update, scale up the weights of hidden layers that never fire", owner=SPIKES
    )


@dataclass(frozen=True)
class TrainingOptions:
    """Length of the run, parts of a batch, and how weights are updated."""

    epochs: int | None = setting(
        None,
        "passes over the training set",
        automatic=f"3, or up to 60 on small sets until {AUTO_STEPS} updates",
        within="[1, ∞)",
    )
    patience: int | None = setting(
        None,
        "stop when the score on the validation part has not improved for INT epochs",
        automatic="never",
        owner=other_than("validation", 0.0),
        within="[1, ∞)",
    )
    batch_size: int = setting(
        128, "samples per update, over all workers", automatic="128; 32 for events", within="[1, ∞)"
    )
    accumulate: int = setting(
        1, "parts of a batch, one after the other, whose updates add up: needs less memory", within="[1, ∞)"
    )
    recompute: int = setting(
        0,
        "steps of a part of the sequence whose graph is made again in the backward pass; 0 for none, √T needs least",
        owner=STEPS & SENDS_BACK,
        within="[0, ∞)",
    )
    chunk: int = setting(
        0,
        "steps that train at a time, each chunk from where the one before left; 0 for all",
        owner=STEPS,
        within="[0, ∞)",
    )
    choose_delays: int | None = setting(
        None,
        "epoch at whose end every connection keeps the one of its --delays with the largest weight, and trains on",
        automatic="never",
        owner=TAPS,
        within="[1, ∞)",
    )
    readout_steps: int | None = setting(
        None,
        "last steps of a sequence, which are rewarded and read out",
        automatic="all of them",
        owner=STEPS,
        within="[1, ∞)",
    )
    optimizer: Choice = choice("adam", "optimiser", optimizers)
    max_weight: float | None = setting(
        None, "clamp weights to ±FLOAT after each update (v3, footnote 5)", automatic="no limit", within="(0, ∞)"
    )
    lr: float | None = setting(
        None,
        "largest learning rate",
        automatic="3e-3 where outputs have a reward (5e-3 for events), 1e-3 where they descend a loss, 2e-3 with "
        "--method surrogate; 0.05 with sgd, 0.5 with momentum",
        within="(0, ∞)",
    )
    schedule: Choice = choice("one-cycle", "learning rate over the run", schedules)
    clip: float = setting(0.0, "factor of adaptive gradient clipping (Brock et al. 2021), 0 for none", within="[0, ∞)")
    clip_norm: float = setting(0.0, "largest norm of all updates together (A.6.2), 0 for no limit", within="[0, ∞)")


@dataclass(frozen=True)
class PlaceOptions:
    """Device, random numbers and folders of a run."""

    weights: str | None = setting(
        None,
        "weights to start from: a run folder, a checkpoint, a state dict (.pt, .pth), or a .safetensors file",
        automatic="drawn anew by --seed",
        kind="path",
    )
    seed: int = setting(0, "seed of the weights, the order of samples and the encoding", within=f"[0, {2**63 - 1}]")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, …")
    workers: int = setting(0, "processes that load data", within=f"[0, {MOST_WORKERS}]")
    checkpoint_every: int = setting(
        0, "steps between checkpoints within an epoch, 0 for the end of epochs only", within="[0, ∞)"
    )
    data_dir: str | None = setting(
        None, "folder of the data sets", automatic="$SPIKELFP_DATA or ~/.cache/spikelfp", kind="path"
    )
