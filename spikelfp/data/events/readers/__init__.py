"""Readers of the files that sensors and data sets write, one module a format.

============================ ====================== ==========================================================
suffix                       module                 format
============================ ====================== ==========================================================
``.bin``                     :mod:`.bin`            ATIS, as N-MNIST and N-Caltech101
``.dat``                     :mod:`.dat`            Prophesee DAT 1 and 2
``.raw``                     :mod:`.raw`            Prophesee EVT 2, 2.1 and 3
``.aedat``                   :mod:`.aedat`          AEDAT 1.0, 2.0 (jAER), 3.0 and 3.1 (cAER, DVS128 Gesture)
``.aedat4``                  :mod:`.aedat4`         AEDAT 4 (DV)
``.es``                      :mod:`.event_stream`   Event Stream 2.0
``.npy``, ``.npz``           :mod:`.npy`            arrays of NumPy
``.h5``, ``.hdf5``           :mod:`.hdf5`           columns in an HDF5 file, as DSEC and Metavision
``.mat``                     :mod:`.mat`            MATLAB, as ASL-DVS and ST-MNIST
``.bs1``                     :mod:`.bs1`            SLAYER's spikes of a line of channels
``.csv``, ``.txt``           :mod:`.text`           a line t, x, y, p for each event
============================ ====================== ==========================================================

All return times in µs as in the file, rows counted from above, and polarity 1 for ON. Events out of order by at most
:data:`~.base.SLACK` are sorted, those of equal times stay in the order of the file; larger disorder is refused.
"""

from spikelfp.data.events.readers.base import (
    Reader,
    Recording,
    Source,
    can_read,
    finish,
    pack,
    read,
    read_bin,
    read_bytes,
    read_stated,
    suffixes,
)

# isort: split
# Each of these registers its reader.
from spikelfp.data.events.readers import aedat, aedat4, bin, bs1, dat, event_stream, hdf5, mat, npy, raw, text  # noqa: F401

__all__ = [
    "Reader",
    "Recording",
    "Source",
    "can_read",
    "finish",
    "pack",
    "read",
    "read_bin",
    "read_bytes",
    "read_stated",
    "suffixes",
]
