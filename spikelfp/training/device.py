"""Where to train."""

from __future__ import annotations

import torch

from spikelfp.errors import UserError


def choose_device(device: str | torch.device, local_rank: int | None = None) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one.

    local_rank: number of this worker among those of its machine, when several train together: it takes the GPU of
    that number. Raises :class:`~spikelfp.errors.UserError` for a device that is not there.
    """
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    if local_rank is None or chosen.type != "cuda":
        return chosen
    if chosen.index not in (None, local_rank):
        raise UserError(f"each of several workers takes the GPU of its own number: --device cuda, not {device}")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"worker {local_rank} of this machine has no GPU of its own, there are {torch.cuda.device_count()}: "
            "start as many workers as GPUs, or train on --device cpu"
        )
    return torch.device("cuda", local_rank)
