"""Run as a program: the events of an AEDAT 4 file through faery, to the standard output as a ``.npy`` file.

It stands alone, so that it starts without the packages around it. It is a process of its own because faery, when it
meets damage, can end the one that it runs in.
"""

from __future__ import annotations

import sys

import numpy as np


def main(path: str, stream: int) -> None:
    """The events of the stream of this number."""
    from faery import aedat

    packets = [content for track, content in aedat.Decoder(path) if track.id == stream]
    np.save(sys.stdout.buffer, np.concatenate(packets) if packets else np.empty(0, "<u8,<u2,<u2,?"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
