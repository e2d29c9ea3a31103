"""Recordings of a bar that moves in the left or in the right half, as files of one's own."""

import numpy as np

FIELDS = [("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)]
SIDE = 16


def bar(right: bool, random: np.random.Generator) -> np.ndarray:
    """80 ms, four ON events at its front and two OFF events behind it in each ms."""
    start, events = random.integers(0, 4), []
    for ms in range(80):
        at = (start + ms // 10) % (SIDE // 2) + (SIDE // 2 if right else 0)
        behind = max(at - 2, 0)
        events += [(1000 * ms + i, at, y, 1) for i, y in enumerate(random.choice(SIDE, 4, replace=False))]
        events += [(1000 * ms + 4 + i, behind, y, 0) for i, y in enumerate(random.choice(SIDE, 2, replace=False))]
    return np.array(events, FIELDS)


def write_bars(folder, each: int = 15) -> None:
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            np.save(folder / name / f"{number:02}.npy", bar(name == "right", random))
