"""Stream weight updates to a chip: training records the integers that change, and a simulated chip follows.

The network trains on the digits one sample at a time. Each step appends to a stream the weights whose integer has
changed; the chip, here :class:`hw_export.IntegerSimulator`, starts from the base image and only ever sees the stream.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from hw_export import IntegerSimulator, UpdateRecorder
from hw_export.updates import Follower, IntegerImage, grids_of, inspect, quantized
from spikelfp import TemporalTrainer, data, models, nn

STEPS, LEVELS = 10, 16
"""Steps of a sequence; grey levels of a pixel above 0, so that inputs are whole numbers for the chip."""


def main(epochs: int = 3, every: int = 200) -> float:
    """Train, stream and follow; print both accuracies now and then, and return the chip's at the end."""
    torch.manual_seed(0)
    digits = data.load("digits")
    net = models.lif_mlp([64, 128, 10], reset="zero")
    images, labels = digits.test.__getitems__(range(len(digits.test)))
    pixels = nn.constant((images * LEVELS).round(), STEPS)

    # Grids are chosen once; headroom leaves the weights of a new network room to grow.
    grids = grids_of(net, bits=8, headroom=4.0, input_scale=LEVELS)
    chip = IntegerSimulator(quantized(net, IntegerImage.of(net, grids), input_scale=LEVELS))
    trainer = TemporalTrainer(net, steps=STEPS, batch_size=1, lr=3e-4, schedule="constant", wake=False)

    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "updates.cbor"
        with UpdateRecorder(net, stream, grids=grids) as recorder:
            follower = Follower(stream, chip)

            def after_step(position: object) -> None:
                recorder.after_step(position)
                if recorder.steps % every == 0:
                    frames = sum(1 for _ in follower.poll())
                    own, its = trainer.evaluate(digits.test).accuracy, accuracy(chip, pixels, labels)
                    print(f"step {recorder.steps:5d}: {frames} frames, network {own:.3f}, chip {its:.3f}")

            trainer.fit(digits.train, epochs, after_step=after_step)
        list(follower.poll())
        found = inspect(stream)
        print(
            f"{found.bytes:,} bytes, {found.share_of_dense:.2%} of dense images; {found.density:.2%} changed by a step"
        )
    return accuracy(chip, pixels, labels)


def accuracy(chip: IntegerSimulator, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """Measure the accuracy of the chip."""
    return (chip.classify(pixels) == labels).float().mean().item()


if __name__ == "__main__":
    main()
