"""Networks to record, random training of them, and streams to spoil."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hw_export.updates import Change, Frame, IntegerImage, Mark, Parameter, StreamHeader, UpdateRecorder
from hw_export.updates.content import encode_frame, encode_header, encode_mark
from hw_export.updates.format import Link, write_record
from spikelfp import models, nn
from spikelfp.quantized import Grid


def small(sizes: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> nn.Sequential:
    """A dense network that can be recorded in microseconds."""
    torch.manual_seed(seed)
    return models.lif_mlp(sizes)


@torch.no_grad()
def nudge(net: torch.nn.Module, random: torch.Generator, share: float = 0.1, size: float = 0.05) -> None:
    """Move a share of the weights, as a step of training would."""
    for p in net.parameters():
        moved = torch.rand(p.shape, generator=random) < share
        p += moved * size * torch.randn(p.shape, generator=random)


def recorded(path: Path, steps: int = 8, **options: object) -> list[IntegerImage]:
    """A stream at ``path`` of random steps; the image of every step, by rounding the live weights."""
    net, random = small(), torch.Generator().manual_seed(1)
    with UpdateRecorder(net, path, **options) as recorder:
        images = [IntegerImage.of(net, recorder.base.grids)]
        for step in range(1, steps + 1):
            nudge(net, random)
            recorder.step()
            images.append(IntegerImage.of(net, recorder.base.grids, step))
    return images


def same(a: IntegerImage, b: IntegerImage) -> bool:
    """Whether two images hold the same integers, compared one by one."""
    return a.arrays.keys() == b.arrays.keys() and all(np.array_equal(a.arrays[n], b.arrays[n]) for n in a.arrays)


def image_of(*shapes: tuple[int, ...], bits: int = 4, seed: int = 0) -> IntegerImage:
    """Parameters ``0.weight, 1.weight, …`` of random integers."""
    random = np.random.default_rng(seed)
    top = 2 ** (bits - 1) - 1
    parameters = tuple(Parameter(f"{i}.weight", shape, Grid(0.5, -top, top)) for i, shape in enumerate(shapes))
    return IntegerImage(parameters, {p.name: random.integers(-top, top + 1, p.shape) for p in parameters})


def write(image: IntegerImage, events: list[Frame | Mark], embed: bool = True, step: int = 0) -> list[bytes]:
    """The records of a stream with any frames, right or wrong."""
    link, records = Link(), []
    header = StreamHeader(image.parameters, step, 1, image.digest(), image if embed else None)
    bodies = [encode_header(header)]
    bodies += [encode_frame(e, image.parameters) if isinstance(e, Frame) else encode_mark(e) for e in events]
    for body in bodies:
        data, link = write_record(body, link)
        records.append(data)
    return records


def frame(step: int, parameter: str, indices: list[int], values: list[int]) -> Frame:
    """A frame with one change."""
    return Frame(step, (Change(parameter, np.array(indices, np.int64), np.array(values, np.int32)),))
