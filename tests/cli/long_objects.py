"""Long recordings of objects that move before a camera, in two sessions, as files of one's own."""

from pathlib import Path

import numpy as np

FIELDS = [("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)]
ANGLE = np.linspace(0, 2 * np.pi, 360, endpoint=False)


def outline(name: str) -> np.ndarray:
    """Points ``[360, 2]`` of the outline of an object, within a circle of radius 1."""
    sides = {"triangle": 3, "square": 4}.get(name)
    if name == "star":
        radius = 0.65 + 0.35 * np.cos(5 * ANGLE)
    elif sides is None:
        radius = np.ones_like(ANGLE)
    else:
        radius = np.cos(np.pi / sides) / np.cos(ANGLE % (2 * np.pi / sides) - np.pi / sides)
    return np.stack([radius * np.cos(ANGLE), radius * np.sin(ANGLE)], axis=1)


def moving(name: str, seconds: float, width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """Events of an object on a smooth path: ON at its front, OFF behind it, about 20 a ms, and as many by chance as 2.

    The object is about a third as high as the sensor and turns a little; a fifth of a second is part of its way.
    """
    ms = np.arange(round(1000 * seconds))
    phase, turns = random.uniform(0, 2 * np.pi, 3), random.uniform(0.4, 0.9, 3)
    radius = height * random.uniform(0.16, 0.2)
    middle = np.stack(
        [
            width / 2 + (width / 2 - 1.3 * radius) * np.sin(2 * np.pi * turns[0] * ms / 1000 + phase[0]),
            height / 2 + (height / 2 - 1.3 * radius) * np.sin(2 * np.pi * turns[1] * ms / 1000 + phase[1]),
        ],
        axis=1,
    )
    speed = np.gradient(middle, axis=0)
    tilt = 0.3 * np.sin(2 * np.pi * turns[2] * ms / 1000 + phase[2])
    shape = outline(name)
    each = 20
    index = random.integers(0, len(shape), (len(ms), each))
    cos, sin = np.cos(tilt)[:, None], np.sin(tilt)[:, None]
    points = shape[index]
    turned = np.stack([cos * points[..., 0] - sin * points[..., 1], sin * points[..., 0] + cos * points[..., 1]], -1)
    places = middle[:, None] + radius * turned
    ahead = (turned * speed[:, None]).sum(-1) > 0
    t = 1000 * ms[:, None] + random.integers(0, 1000, (len(ms), each))
    noise = 2 * len(ms)
    x = np.concatenate([places[..., 0].ravel(), random.integers(0, width, noise)])
    y = np.concatenate([places[..., 1].ravel(), random.integers(0, height, noise)])
    events = np.zeros(len(x), FIELDS)
    events["t"] = np.concatenate([t.ravel(), random.integers(0, 1000 * len(ms), noise)])
    events["x"], events["y"] = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    events["p"] = np.concatenate([ahead.ravel(), random.integers(0, 2, noise)])
    return events[np.argsort(events["t"], kind="stable")]


def write_objects(
    folder: Path, width: int, height: int, seconds: float, names: tuple[str, ...] = ("circle", "star", "triangle")
) -> None:
    """Write ``folder/monday|tuesday/<object>/1.npz``, one long recording of each object in each session."""
    random = np.random.default_rng(7)
    for session in ("monday", "tuesday"):
        for name in names:
            place = folder / session / name
            place.mkdir(parents=True)
            events = moving(name, seconds, width, height, random)
            events["x"][0], events["y"][0] = width - 1, height - 1  # so that files without a header have the sensor
            np.savez(place / "1.npz", **{field: events[field] for field, _ in FIELDS})
