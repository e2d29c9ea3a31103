"""Settings of the benchmark of methods without a backward pass between layers, beside the values of the paper.

The paper is Flügel et al. 2024 (F³, ICONIP), section 4.1; its learning rates are those of its authors' code. Figures 2
to 4, with other rows, depth, and a Vision Transformer, are experiments of ``spikelfp reproduce``.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.networks import PAPER
from benchmarks.trained.table import Options, Row, Section

TANH = {"model": "mlp", "activation": "tanh", "schedule": "constant"}
PAPER_MNIST = TANH | {"loss": "bce", "standardize": True, "lr": 1.5e-4, "batch_size": 50}

MNIST = Section(
    "MNIST, 784-500-10, tanh",
    "Test error in percent after the last epoch. As in the paper: batch 50, Adam, binary cross-entropy, learning rates "
    "1.5e-4 and, of the last layer alone, 1.5e-2. The paper states no value for backpropagation: 1.4 follows from its "
    "56 %.",
    {"data": "mnist", "hidden": (500,), "epochs": 100} | PAPER_MNIST,
    {
        "gradient": Row("backpropagation", {"method": "gradient"}, 1.44),
        "f3": Row("F³, error", {"method": "f3"}, 2.7),
        "f3cycle": Row("F³, error, one-cycle rate", {"method": "f3", "schedule": "one-cycle"}),
        "f3loss": Row("F³, loss", {"method": "f3", "error_information": "loss"}),
        "dfa": Row("DFA", {"method": "dfa"}),
        "drtp": Row("DRTP", {"method": "drtp"}, 4.3),
        "llo": Row("last layer only", {"method": "llo", "lr": 1.5e-2}),
        "pepita": Row("PEPITA", {"method": "pepita"}),
    },
    unit="error",
    gap=("drtp", "gradient", "f3", 0.56, 0.56),
)

RATES = tuple({"lr": rate} for rate in (1e-3, 1e-2))
WINE = Section(
    "Wine quality, 12-500-1, tanh",
    "Test loss: MSE of the standardised quality, after the last epoch. Learning rate 1e-4 as in the paper; those "
    "of the last layer alone and of PEPITA are chosen from 1e-3 and 1e-2 on a tenth of the training rows, after 20 "
    "epochs. The paper states neither the epochs nor the split into training and test rows.",
    {"data": "wine-quality", "hidden": (500,), "lr": 1e-4, "batch_size": 50, "epochs": 100} | TANH,
    {
        "gradient": Row("backpropagation", {"method": "gradient"}, 0.583),
        "f3": Row("F³, error", {"method": "f3"}, 0.585),
        "drtp": Row("DRTP", {"method": "drtp"}, 0.641),
        "f3loss": Row("F³, loss", {"method": "f3", "error_information": "loss"}),
        "dfa": Row("DFA", {"method": "dfa"}),
        "llo": Row("last layer only", {"method": "llo"}, choices=RATES),
        "pepita": Row("PEPITA", {"method": "pepita"}, choices=RATES),
    },
    score="loss",
    unit="loss",
    tuning={"validation": 0.1, "epochs": 20},
    gap=("drtp", "gradient", "f3", 0.9, 0.963),
)

SGEMM_RATES = tuple({"lr": rate} for rate in (2e-4, 2e-3))
SGEMM = Section(
    "SGEMM, 14-500-1, tanh",
    "Test loss: MSE of the standardised run time, after the last epoch; batch 512, all 773,120 training rows, 30 "
    "epochs of a one-cycle rate. The paper trains for 200 epochs at a constant rate; here, F³ falls to 0.15 in 6 "
    "epochs at 3e-4 and then moves between 0.15 and 0.37. Learning rates are chosen from 2e-4 and 2e-3 on a tenth of "
    "the training rows, after 6 epochs. The paper's split is not known; here a kernel is in one part with all of its "
    "four runs.",
    {"data": "sgemm", "hidden": (500,), "batch_size": 512, "epochs": 30} | TANH | {"schedule": "one-cycle"},
    {
        "gradient": Row("backpropagation", {"method": "gradient"}, 0.003, SGEMM_RATES),
        "f3": Row("F³, error", {"method": "f3"}, 0.014, SGEMM_RATES),
        "drtp": Row("DRTP", {"method": "drtp"}, 0.364, SGEMM_RATES),
    },
    score="loss",
    unit="loss",
    tuning={"validation": 0.1, "epochs": 6},
    gap=("drtp", "gradient", "f3", 0.9, 0.969),
)

LIF = {"data": "mnist", "model": "lif-mlp", "hidden": (1000,), "steps": 15, "batch_size": 128}
SEQUENCE: Options = {"reward": "spike-sequence", "eps": 1.0} | PAPER
SPIKING = Section(
    "Spiking F³: MNIST, 784-1000-10 LIF neurons, T 15",
    "Test accuracy after the last epoch; batch 128, Adam, one-cycle. Reward, learning rate, credit and ε are chosen on "
    "a fifth of the first 20,000 training images, after 8 epochs of the others. The goal is 0.975 in 15 epochs.",
    LIF | {"epochs": 15},
    {
        "f3": Row(
            "F³",
            {"method": "f3"},
            choices=(
                SEQUENCE | {"lr": 3e-3},
                SEQUENCE | {"lr": 3e-3, "credit": "step"},
                SEQUENCE | {"lr": 6e-3},
                SEQUENCE | {"lr": 3e-3, "eps": 1e-6},
                {"lr": 2e-3, "reward": "count-softmax", "eps": 1.0} | PAPER,
                {"lr": 1e-3, "credit": "surrogate"},
            ),
        ),
    },
    seeds=1,
    tuning={"data": "mnist-part:20000,2000", "validation": 0.2, "epochs": 8},
    cost=True,
)

ONLINE = Section(
    "Spiking F³ online: MNIST, 784-1000-10 LIF neurons, T 15, one sample an update",
    "Test accuracy after the last epoch; one step at a time, nothing kept of earlier ones, and plain SGD, which keeps "
    "nothing of earlier samples. Chosen on a fifth of the training images, or of the first 10,000 to 20,000 of them: "
    "SGD over Adam; feedback as a message, 0.904 after two epochs of 8,000 images, over a reward, 0.899; and a rate "
    "that falls from 0.005 to 0. After one epoch of 8,000 images 0.01, 0.04 and 0.1 reach 0.887, 0.899 and 0.884, but "
    "0.04 is too large for all images (0.874 of the training samples in the first epoch), and batches of 128, with "
    "Adam, gain from half the rate: 0.956 in place of 0.949 after six epochs. An earlier run, six epochs from 0.01, "
    "ended at 0.946 of the test images. The goal is 0.96.",
    LIF | {"method": "f3", "credit": "online", "feedback_as": "message", "batch_size": 1, "epochs": 15},
    {
        "f3": Row("F³, online", {"optimizer": "sgd", "momentum": 0.0, "lr": 0.005, "schedule": "linear"}),
    },
    seeds=1,
    cost=True,
)

COMPARED = {
    "lfp": Row("LFP", {"method": "lfp"} | PAPER),
    "surrogate": Row("surrogate gradient", {"method": "surrogate"}),
    "f3": Row("F³, scan", {"method": "f3", "eps": 1.0} | PAPER),
    "f3step": Row("F³, step", {"method": "f3", "credit": "step", "eps": 1.0} | PAPER),
    "f3online": Row("F³, online", {"method": "f3", "credit": "online", "eps": 1.0} | PAPER),
    "f3surrogate": Row("F³, surrogate inside the layer", {"method": "f3", "credit": "surrogate"}),
    "dfa": Row("DFA", {"method": "dfa", "eps": 1.0} | PAPER),
    "drtp": Row("DRTP", {"method": "drtp", "eps": 1.0} | PAPER),
    "llo": Row("last layer only", {"method": "llo"} | PAPER),
}
METHODS = Section(
    "Methods on spiking networks: 784-1000-10 LIF neurons, T 15, 3 epochs of a part of MNIST",
    "Nothing is tuned here; events.md compares methods tuned alike, where the surrogate gradient does better. Test "
    "accuracy on 2,000 images after 3 epochs of the first 10,000; batch 128, Adam, one-cycle, the default reward "
    "and learning rate of each method, ε = 1 where blocks learn from a reward. CPU seconds are those of training, test "
    "and loading; memory is the most that the process held, torch and the data included.",
    LIF | {"data": "mnist-part:10000,2000", "epochs": 3},
    COMPARED,
    seeds=1,
    cost=True,
)

STATED: dict[str, Options] = {
    "lfp": {"lr": 3e-3, "reward": "spike-sequence"},
    "surrogate": {"lr": 2e-3, "loss": "rate", "slope": 25.0},
    "f3surrogate": {"lr": 1e-3, "loss": "rate", "slope": 25.0},
}
"""Options that event data have other defaults for; those of LFP are those of all methods that learn from a reward."""

EVENTS = Section(
    "Methods on spiking networks: N-MNIST, convolutional, 15 epochs",
    "Nothing is tuned here, either: see events.md, where the surrogate gradient reaches 0.947 and LFP 0.960 with such "
    "a network. Test accuracy on 100 recordings after 15 epochs of 1,000; T 20, batch 32, Adam, one-cycle, the reward "
    "and learning rate that each method has by default for images, ε = 1 where blocks learn from a reward.",
    {
        "data": "nmnist", "model": "lif-conv", "steps": 20, "levels": 2, "epochs": 15, "batch_size": 32, "pool": "max",
        "beta": 0.9, "reset": "subtract",
    },
    {
        key: replace(row, options=row.options | STATED.get(key, STATED["lfp"]))
        for key, row in COMPARED.items()
        if key != "f3online"
    },
    seeds=1,
    cost=True,
)  # fmt: skip

SECTIONS: dict[str, Section] = {
    "mnist": MNIST,
    "wine": WINE,
    "sgemm": SGEMM,
    "spiking": SPIKING,
    "online": ONLINE,
    "methods": METHODS,
    "events": EVENTS,
}


def shortened(section: Section) -> Section:
    """Shorten a section to one epoch of a few digits, enough to see that it runs."""
    classes = "mnist" in section.options["data"]
    small: Options = {"data": "digits" if classes else "wine-quality", "epochs": 1}
    if "steps" in section.options:
        small |= {"steps": 4}
    options = {name: value for name, value in (section.options | small).items() if name not in ("plugin", "levels")}
    rows = {key: replace(row, choices=row.choices[:1]) for key, row in section.rows.items()}
    if "hidden" in options:
        options["hidden"] = (16,)
    tuning = {"validation": 0.2, "epochs": 1}
    return replace(section, options=options, rows=rows, seeds=1, tuning=tuning)
